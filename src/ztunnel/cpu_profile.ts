/**
 * A CPU profile of the whole process: the main thread, every worker, and what the process used besides. A worker leaves its reactor
 * for a moment to begin and to end, because the runtime answers only between turns.
 */
import process from "node:process";
import { type ThreadProfile, ThreadProfiler } from "../platform/profiler.ts";
import { encodePprof, type PprofThread } from "../protocol/pprof.ts";

/** A worker's answer: its profile, or why it has none. */
export type WorkerProfile = { readonly profile: ThreadProfile } | { readonly error: string };

export interface CpuProfileOptions {
  readonly seconds: number;
  readonly frequencyHz: number;
  /** Tells every worker to begin. */
  readonly startWorkers: (intervalUs: number) => void;
  /** Tells them to end, and resolves with what came in time, by worker. */
  readonly stopWorkers: () => Promise<ReadonlyMap<number, WorkerProfile>>;
  readonly schedule: (task: () => void, delayMs: number) => () => void;
  readonly nowMs: () => number;
}

/** The uncompressed pprof profile. Rejects when no thread can be profiled. */
export async function takeCpuProfile(options: CpuProfileOptions): Promise<Uint8Array> {
  const { seconds, frequencyHz, nowMs } = options;
  const startMs = nowMs();
  const before = process.cpuUsage();
  options.startWorkers(Math.round(1e6 / frequencyHz));
  const main = await ThreadProfiler.start(Math.round(1e6 / frequencyHz));
  await new Promise<void>((resolve) => options.schedule(resolve, seconds * 1000));
  const mainProfile = await main.stop();
  const workers = await options.stopWorkers();
  const used = process.cpuUsage(before);

  const threads: PprofThread[] = [{ name: "main", nodes: mainProfile.nodes }];
  let knownNs = mainProfile.cpuNs;
  for (const [worker, answer] of workers) {
    if ("error" in answer) continue;
    threads.push({ name: `worker-${worker}`, nodes: answer.profile.nodes });
    knownNs += answer.profile.cpuNs;
  }
  const otherNs = (used.user + used.system) * 1000 - knownNs;
  if (otherNs > 0) {
    const name = "(garbage collection, compilation and other threads of the runtime)";
    threads.push({ name: "other", nodes: [{ parent: -1, name, url: "", line: 0, cpuNs: otherNs }] });
  }
  return encodePprof(threads, { startMs, durationMs: nowMs() - startMs, periodNs: 1e9 / frequencyHz });
}
