/**
 * CPU profile of the calling thread, by the sampling profiler that both runtimes have behind `node:inspector`.
 *
 * It samples by the wall clock, and a proxy mostly waits. So the thread's CPU time, which the kernel knows, is what the profile
 * sums up to: samples taken in a wait get only what is left of it when all others have theirs.
 */
import { readFileSync } from "node:fs";

/** A call site: `parent` is an index in the same list, -1 for the outermost. Cloneable. */
export interface ProfileNode {
  readonly parent: number;
  readonly name: string;
  /** Of the source or the bundle; "" for code of the runtime. */
  readonly url: string;
  /** Counts from 1; 0: unknown. */
  readonly line: number;
  /** CPU time in this function itself, nanoseconds. */
  readonly cpuNs: number;
}

export interface ThreadProfile {
  readonly nodes: readonly ProfileNode[];
  readonly cpuNs: number;
}

/** What the inspector gives, as far as it is used. */
export interface InspectorProfile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
    readonly children?: readonly number[];
  }[];
  readonly samples?: readonly number[];
  /** Microseconds. */
  readonly timeDeltas?: readonly number[];
}

interface Session {
  connect(): void;
  disconnect(): void;
  post(method: string, parameters: unknown, callback: (error: Error | null, result?: unknown) => void): void;
}

/** Functions in and below which a thread waits: the reactor's, and what the engines call time outside of code. */
const WAITS = new Set(["wait", "epoll_wait", "(idle)", "(program)"]);

export class ThreadProfiler {
  readonly #session: Session;
  readonly #cpuNs: number;

  private constructor(session: Session, cpuNs: number) {
    this.#session = session;
    this.#cpuNs = cpuNs;
  }

  /** Begins to sample this thread. Rejects when the runtime cannot. */
  static async start(intervalUs: number): Promise<ThreadProfiler> {
    const { Session } = await import("node:inspector");
    const session = new Session() as unknown as Session;
    session.connect();
    try {
      await call(session, "Profiler.enable", {});
      await call(session, "Profiler.setSamplingInterval", { interval: intervalUs });
      await call(session, "Profiler.start", {});
    } catch (error) {
      session.disconnect();
      throw error;
    }
    return new ThreadProfiler(session, threadCpuNs());
  }

  async stop(): Promise<ThreadProfile> {
    const cpuNs = threadCpuNs() - this.#cpuNs;
    try {
      const { profile } = await call(this.#session, "Profiler.stop", {}) as { profile: InspectorProfile };
      await call(this.#session, "Profiler.disable", {});
      return { nodes: attributeCpu(profile, cpuNs), cpuNs };
    } finally {
      this.#session.disconnect();
    }
  }
}

function call(session: Session, method: string, parameters: unknown): Promise<unknown> {
  return new Promise((resolve, reject) => {
    session.post(method, parameters, (error, result) => error === null ? resolve(result) : reject(error));
  });
}

/** CPU time of the calling thread so far. 0 where the kernel does not tell. */
function threadCpuNs(): number {
  try {
    return Number(readFileSync("/proc/thread-self/schedstat", "utf8").split(" ", 1)[0]);
  } catch {
    return 0;
  }
}

/** Spreads a thread's CPU time over what it was seen doing. Pure. */
export function attributeCpu(profile: InspectorProfile, cpuNs: number): ProfileNode[] {
  const indexOf = new Map(profile.nodes.map((node, index) => [node.id, index]));
  const parents = new Map<number, number>();
  profile.nodes.forEach(({ children = [] }, index) => {
    for (const child of children) parents.set(child, index);
  });
  const seenNs = new Array<number>(profile.nodes.length).fill(0);
  const deltas = profile.timeDeltas ?? [];
  (profile.samples ?? []).forEach((id, i) => {
    const index = indexOf.get(id);
    // A delta below zero comes of threads that were moved between clocks.
    if (index !== undefined) seenNs[index] += Math.max(0, deltas[i] ?? 0) * 1000;
  });
  const waitsBelow = (index: number | undefined): boolean =>
    index !== undefined &&
    (WAITS.has(profile.nodes[index].callFrame.functionName) || waitsBelow(parents.get(profile.nodes[index].id)));
  const waits = profile.nodes.map((_, index) => waitsBelow(index));
  const busy = seenNs.reduce((sum, ns, i) => waits[i] ? sum : sum + ns, 0);
  const waited = seenNs.reduce((sum, ns, i) => waits[i] ? sum + ns : sum, 0);
  const busyScale = busy > cpuNs ? cpuNs / busy : 1;
  const rest = Math.max(0, cpuNs - busy);
  const waitScale = waited > 0 ? Math.min(1, rest / waited) : 0;
  const nodes = profile.nodes.map(({ id, callFrame }, i): ProfileNode => ({
    parent: parents.get(id) ?? -1,
    name: callFrame.functionName !== "" ? callFrame.functionName : callFrame.url === "" ? "(native)" : "(anonymous)",
    url: callFrame.url,
    line: Math.max(0, callFrame.lineNumber + 1),
    cpuNs: Math.round(seenNs[i] * (waits[i] ? waitScale : busyScale)),
  }));
  const unseen = Math.round(rest - waited * waitScale);
  if (unseen > 0) nodes.push({ parent: -1, name: "(runtime)", url: "", line: 0, cpuNs: unseen });
  return nodes;
}
