/**
 * Finds the network namespaces of pods by the processes of the node, reference cni.md section 3.7.
 *
 * A look at one process costs tens of microseconds and there may be thousands, so the whole look is cut into slices, after each of which
 * the caller's thread does other work.
 */
import { readdirSync } from "node:fs";
import { canonicalIp } from "../../mesh/ip.ts";
import { type Candidate, openPodProcess, PROCESS_FILES, type ProcessFiles, readPodProcess } from "./candidate.ts";
import { atOnce, inSlices, type SliceOptions } from "./slices.ts";

/** A pod to be found: by its uid in a process' cgroup, and by one of its addresses in the process' network namespace. */
export interface WantedPod {
  readonly ips: readonly string[];
}

export interface Discovery {
  /** Descriptors by pod uid; the caller owns them. */
  readonly found: Map<string, number>;
  /** What was noticed and may explain why a pod was not found, one line each. */
  readonly problems: string[];
  /** Processes that were looked at. */
  readonly processes: number;
}

export interface DiscoverOptions extends SliceOptions {
  /** Is told of every process of a pod, wanted or not, outside of the node's namespace. */
  readonly seen?: (podUid: string, pid: number) => void;
  readonly files?: ProcessFiles;
}

/** Problems beyond this are the same ones again. */
const MAX_PROBLEMS = 50;

/**
 * All at once.
 * @throws Error when the node's processes, or the namespace of the node itself, cannot be seen
 */
export function findNamespaces(
  procRoot: string,
  wanted: ReadonlyMap<string, WantedPod>,
  options: DiscoverOptions = {},
): Discovery {
  return atOnce(discover(procRoot, wanted, options));
}

/** The same in slices. What was found is closed again when `pause` rejects. */
export async function findNamespacesInSlices(
  procRoot: string,
  wanted: ReadonlyMap<string, WantedPod>,
  options: DiscoverOptions = {},
): Promise<Discovery> {
  return await inSlices(discover(procRoot, wanted, options), options);
}

/** The namespace that can be no pod's. @throws Error when it cannot be seen */
export function nodeIdentity(procRoot: string, files: ProcessFiles = PROCESS_FILES): string {
  const identity = files.identity(`${procRoot}/1/ns/net`);
  if (identity !== undefined) return identity;
  throw new Error(
    `cannot see the network namespace of the node, ${procRoot}/1/ns/net: the node agent needs SYS_PTRACE, ` +
      "and the node's /proc without hidepid",
  );
}

export function canonicalIps(ips: readonly string[]): ReadonlySet<string> {
  return new Set(ips.map(canonicalIp).filter((ip) => ip !== undefined));
}

/** Yields after the list of processes, and after each of them. */
function* discover(
  procRoot: string,
  wanted: ReadonlyMap<string, WantedPod>,
  { seen, files = PROCESS_FILES }: DiscoverOptions,
): Generator<void, Discovery> {
  const host = nodeIdentity(procRoot, files);
  const best = new Map<string, Candidate & { readonly pid: number }>();
  /** Namespaces whose pod is known. */
  const settled = new Set<string>();
  const problems: string[] = [];
  const report = (line: string) => {
    if (problems.length < MAX_PROBLEMS) problems.push(line);
  };
  const ips = new Map([...wanted].map(([uid, pod]) => [uid, canonicalIps(pod.ips)]));
  for (const [uid, own] of ips) {
    if (own.size === 0) report(`pod ${uid} has no address yet by which its network namespace could be told`);
  }
  let denied = 0;
  let processes = 0;
  let complete = false;
  try {
    const pids = processIds(procRoot);
    // Measured for 2,256 processes: the list takes 1.5 ms (Bun) and 4 ms (Deno), a look at each 5 and 10 µs.
    yield;
    for (const pid of pids) {
      processes++;
      const process = readPodProcess(files, procRoot, pid, host);
      if ("silence" in process) {
        if (process.silence === "denied") denied++;
        yield;
        continue;
      }
      const { podUid, identity } = process;
      seen?.(podUid, pid);
      const own = ips.get(podUid);
      if (own === undefined || own.size === 0 || settled.has(identity)) {
        yield;
        continue;
      }
      const candidate = openPodProcess(files, procRoot, process, own);
      if ("problem" in candidate) report(`pod ${podUid}, process ${pid}: ${candidate.problem}`);
      else {
        settled.add(identity);
        const other = best.get(podUid);
        if (other === undefined) best.set(podUid, { ...candidate, pid });
        else {
          report(
            `pod ${podUid}: processes ${other.pid} and ${pid} are in different network namespaces that have its address`,
          );
          const isOlder = candidate.startTime < other.startTime;
          files.close(isOlder ? other.fd : candidate.fd);
          if (isOlder) best.set(podUid, { ...candidate, pid });
        }
      }
      yield;
    }
    if (denied > 0) report(`${denied} processes could not be looked at: permission denied; SYS_PTRACE is needed`);
    complete = true;
    return { found: new Map([...best].map(([uid, { fd }]) => [uid, fd])), problems, processes };
  } finally {
    if (!complete) { for (const { fd } of best.values()) files.close(fd); }
  }
}

/** In ascending order. */
export function processIds(procRoot: string): number[] {
  const ids: number[] = [];
  for (const name of readdirSync(procRoot)) {
    const first = name.charCodeAt(0);
    if (first >= 0x30 && first <= 0x39 && /^\d+$/.test(name)) ids.push(Number(name));
  }
  return ids.sort((a, b) => a - b);
}
