/**
 * The socket of the node's ztunnels as the agent's core sees it. It is bound at once, so that a ztunnel that comes waits instead
 * of failing; connections are taken when the captured pods are known, or a ztunnel would let go of those it is not told of.
 */
import { startThread, type Thread, type ThreadEvents } from "../../platform/thread.ts";
import type { Fields, Level } from "../../telemetry/log.ts";
import type { NetnsCache } from "../netns/cache.ts";
import type { ZdsThreadStart } from "../zds/messages.ts";
import { startZdsServer } from "../zds/server.ts";
import { workloadOf } from "./namespaces.ts";
import { podUid } from "./pods.ts";
import type { Ztunnels } from "./ports.ts";

export interface ZtunnelServerOptions {
  readonly path: string;
  /** What a ztunnel that connects is told. */
  readonly cache: NetnsCache;
  /** Module of the thread that watches the connections: src/roles/cni_worker.ts. */
  readonly workerEntry: URL;
  readonly log: (level: Level, message: string, fields?: Fields) => void;
  /** ztunnel_connected. */
  readonly connected: (count: number) => void;
  /** The newest ztunnel has got its snapshot. */
  readonly served: () => void;
  /** For tests. */
  readonly patienceMs?: number;
}

export interface ZtunnelServer extends Ztunnels {
  /** From now on connections are taken. */
  accept(): void;
  close(): void;
}

/**
 * How long somebody who waits for an answer waits for a ztunnel too: after an upgrade of the agent it takes them a moment to come
 * back, and the plugin, which has 5 s, would refuse every pod meanwhile.
 */
const PATIENCE_MS = 2_000;
/** How soon a ztunnel that has got its snapshot is noticed. */
const SNAPSHOT_POLL_MS = 200;

/** @throws Error when it cannot listen at the path */
export function serveZtunnels(options: ZtunnelServerOptions): ZtunnelServer {
  const { patienceMs = PATIENCE_MS } = options;
  const accepting = Promise.withResolvers<void>();
  const waiting = new Set<() => void>();
  let polling: ReturnType<typeof setTimeout> | undefined;
  const zds = startZdsServer({
    path: options.path,
    pods: () => options.cache.entries(),
    startThread: (start, events) => threadAfter(accepting.promise, options.workerEntry, start, events),
    log: options.log,
    connected(count) {
      options.connected(count);
      if (count > 0) { for (const come of waiting) come(); }
      poll();
    },
  });
  function poll(): void {
    clearTimeout(polling);
    if (zds.connections().length === 0) return;
    polling = setTimeout(() => zds.connections().at(-1)?.snapshotSent ? options.served() : poll(), SNAPSHOT_POLL_MS);
  }
  /** Resolves when a ztunnel has come, or nobody wants to wait any longer. */
  function untilConnected(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const end = () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", end);
        waiting.delete(end);
        resolve();
      };
      const timer = setTimeout(end, patienceMs);
      signal.addEventListener("abort", end, { once: true });
      waiting.add(end);
      if (signal.aborted) end();
    });
  }
  return {
    async add(pod, netns, signal) {
      if (signal !== undefined && zds.connections().length === 0) await untilConnected(signal);
      await zds.add({ uid: podUid(pod), workload: workloadOf(pod), netns }, signal);
    },
    del: (uid) => zds.del(uid),
    connections: () => zds.connections(),
    accept: () => accepting.resolve(),
    close() {
      zds.close();
      clearTimeout(polling);
      for (const end of waiting) end();
    },
  };
}

/** The thread that watches the connections, once `when` says so; what is posted before waits. */
function threadAfter(when: Promise<void>, entry: URL, start: ZdsThreadStart, events: ThreadEvents): Thread {
  const posted: unknown[] = [];
  let thread: Thread | undefined;
  let ended = false;
  void when.then(() => {
    if (ended) return;
    thread = startThread(entry, start, events);
    for (const message of posted) thread.post(message);
  });
  return {
    post(message) {
      if (thread !== undefined) thread.post(message);
      else posted.push(message);
    },
    setWakeFd: (fd) => thread?.setWakeFd(fd),
    take: () => thread?.take(),
    terminate() {
      ended = true;
      thread?.terminate();
    },
  };
}
