/** A worker for worker_group_test.ts: keeps the group's conversation like the real one, and misbehaves when told to. */
import { Reactor } from "../../src/net/reactor.ts";
import { ownerNumber } from "../../src/platform/ownership.ts";
import { threadPort } from "../../src/platform/thread.ts";
import type { FromWorker, ToWorker, WorkerStart } from "../../src/ztunnel/messages.ts";
import { WorkerLinks } from "../../src/ztunnel/worker_links.ts";
import { Flag, type GroupSettings } from "./group_settings.ts";

const port = threadPort();
const start = port.data as WorkerStart;
const settings = start.settings as GroupSettings;
const flags = new Int32Array(settings.flags);
const post = (message: FromWorker) => port.post(message);

if (settings.dieAtStart.includes(start.generation)) throw new Error("cannot start");

const seen: string[] = [];
const reactor: Reactor = new Reactor(() => performance.now(), () => {
  for (let taken = port.take(); taken !== undefined; taken = port.take()) handle(taken.message as ToWorker);
}, { table: new Uint8Array(start.ownership), owner: ownerNumber(start.generation) });

const links = new WorkerLinks(reactor, start.generation, (event) => post({ type: "link", event }));

function handle(message: ToWorker): void {
  switch (message.type) {
    case "link":
      return links.handle(message.order);
    case "epoch":
      if (settings.silent.includes(start.generation)) return;
      seen.push(`epoch ${message.epoch}`);
      post({ type: "confirmed", epoch: message.epoch });
      return;
    case "adopt":
      seen.push("adopt");
      reactor.own(message.fd);
      return;
    case "log":
      seen.push(message.directives);
      if (message.directives === "throw") throw new Error("the worker has a bug");
      if (message.directives === "stop") reactor.stop();
      if (message.directives === "hang") hang();
      return;
    case "report":
      post({
        type: "report",
        id: message.id,
        metrics: {
          source: seen.join(", "),
          defined: [],
          slots: new Uint32Array(),
          deltas: new Float64Array(),
          removed: new Uint32Array(),
        },
      });
      return;
    default:
      seen.push(message.type);
  }
}

/** Runs until the test lets go, as code with a bug would run for ever. */
function hang(): void {
  Atomics.store(flags, start.index, Flag.HANGS);
  while (Atomics.load(flags, start.index) !== Flag.LET_GO);
}

post({ type: "started", wakeFd: reactor.wakeFd });
try {
  reactor.run();
} finally {
  Atomics.compareExchange(flags, start.index, Flag.LET_GO, Flag.ENDED);
}
