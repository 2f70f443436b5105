/**
 * A worker that does what the data plane does with the main thread, and times it: it looks up destinations it has not seen, takes
 * invalidations, and notes how long its own turns took, which is how long a running connection would have waited.
 */
import { MeshCache } from "../../src/ztunnel/mesh_cache.ts";
import type { ToWorker } from "../../src/ztunnel/messages.ts";
import type { Reactor } from "../../src/net/reactor.ts";
import { threadPort } from "../../src/platform/thread.ts";

export type ProbeCommand = { readonly type: "probe"; readonly vips: number } | { readonly type: "rest" } | {
  readonly type: "report";
};

export interface ProbeReport {
  readonly type: "probed";
  readonly figures: {
    /** Longest time the worker's thread was busy with one turn. */
    readonly workerTurnMs: number;
    /** From a lookup to its answer. */
    readonly lookupMaxMs: number;
    readonly lookupP99Ms: number;
    readonly lookupP50Ms: number;
    readonly lookups: number;
    readonly largest: number;
  };
}

/** The thread looks for messages this often. A reactor would be woken at once, but its timers are coarse. */
const PERIOD_MS = 0.2;
const LARGE_SERVICE_IP = "10.255.0.1";

const port = threadPort();
const clock = {
  get nowMs() {
    return performance.now();
  },
  setTimer() {},
} as unknown as Reactor;
const cache = new MeshCache({
  reactor: clock,
  ask: (key, query) => port.post({ type: "lookup", key, query }),
  forget: (keys) => port.post({ type: "forget", keys }),
});
const sleeper = new Int32Array(new SharedArrayBuffer(4));
let vips = 0;
let probing = false;
let next = 0;
let turnMs = 0;
let largest = 0;
let times: number[] = [];
let waiting = false;

function takeMessages(): void {
  const begin = performance.now();
  for (let taken = port.take(); taken !== undefined; taken = port.take()) {
    handle(taken.message as ToWorker | ProbeCommand);
  }
  turnMs = Math.max(turnMs, performance.now() - begin);
}

function handle(message: ToWorker | ProbeCommand): void {
  switch (message.type) {
    case "answer":
      largest = Math.max(largest, message.resources.workloads.length);
      return cache.answer(message.key, message.resources, message.sampled);
    case "invalidate":
      return cache.invalidate(message.keys);
    case "epoch":
      return port.post({ type: "confirmed", epoch: message.epoch });
    case "probe":
      vips = message.vips;
      probing = true;
      return;
    case "rest":
      probing = false;
      return;
    case "report": {
      times.sort((a, b) => a - b);
      const at = (share: number) => times[Math.floor(times.length * share)] ?? 0;
      port.post(
        {
          type: "probed",
          figures: {
            workerTurnMs: turnMs,
            lookupMaxMs: times[times.length - 1] ?? 0,
            lookupP99Ms: at(0.99),
            lookupP50Ms: at(0.5),
            lookups: times.length,
            largest,
          },
        } satisfies ProbeReport,
      );
      turnMs = 0;
      times = [];
    }
  }
}

/** One question at a time, each about a destination that nobody asked for before. */
function probe(): void {
  const index = next++;
  const vip = index % vips + 1;
  const ip = index % 10 === 0 ? LARGE_SERVICE_IP : `10.${128 + (vip >> 16)}.${vip >> 8 & 255}.${vip & 255}`;
  const asked = performance.now();
  const answered = () => {
    times.push(performance.now() - asked);
    waiting = false;
  };
  waiting = true;
  const query = { kind: "address", network: "", ip, namespace: `n${index}` } as const;
  if (cache.lookup(query, { meshAnswered: answered }) !== undefined) answered();
}

port.post({ type: "started", wakeFd: -1 });
for (;;) {
  takeMessages();
  if (probing && !waiting) probe();
  Atomics.wait(sleeper, 0, 0, PERIOD_MS);
}
