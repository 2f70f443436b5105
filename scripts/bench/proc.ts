/**
 * What the kernel knows about a process: CPU time and memory, read from /proc (proc(5)).
 *
 * CPU time is the sum over all threads in nanoseconds, system time included, from each thread's schedstat; a process
 * that lost a thread in between is measured by utime + stime instead, whose unit is 10 ms.
 */
import { readdirSync, readFileSync } from "node:fs";

/** USER_HZ, the unit of /proc/<pid>/stat on every Linux architecture in use. */
const NANOSECONDS_PER_TICK = 10_000_000;

/** CPU time of one process at one moment. */
export interface CpuSample {
  readonly pid: number;
  readonly threads: ReadonlyMap<string, number>;
  readonly ticksNs: number;
}

/** Throws when the process is gone: a proxy that died makes the measurement worthless. */
export function sampleCpu(pid: number): CpuSample {
  const threads = new Map<string, number>();
  for (const tid of readdirSync(`/proc/${pid}/task`)) {
    threads.set(tid, Number(readFileSync(`/proc/${pid}/task/${tid}/schedstat`, "utf8").split(" ")[0]));
  }
  return { pid, threads, ticksNs: processTicksNs(pid) };
}

/** CPU nanoseconds that the processes spent between two samples of the same list of processes. */
export function cpuBetween(before: readonly CpuSample[], after: readonly CpuSample[]): number {
  let total = 0;
  for (let i = 0; i < before.length; i++) {
    let threadsNs = 0;
    let lostThread = false;
    for (const [tid, ns] of after[i].threads) threadsNs += ns - (before[i].threads.get(tid) ?? 0);
    for (const tid of before[i].threads.keys()) lostThread ||= !after[i].threads.has(tid);
    total += lostThread ? after[i].ticksNs - before[i].ticksNs : threadsNs;
  }
  return total;
}

function processTicksNs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  // The command name may hold spaces and parentheses; fields are counted from behind its last one.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * NANOSECONDS_PER_TICK;
}

/** Resident memory in KiB: VmRSS, which counts shared pages of files too. */
export function residentKib(pid: number): number {
  const match = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  if (match === null) throw new Error(`process ${pid} has no resident memory: it ended`);
  return Number(match[1]);
}
