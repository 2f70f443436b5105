/**
 * One process as a witness of its pod's network namespace, reference cni.md section 3.7. Each answer holds for one and the same process
 * in one and the same namespace: what could have changed meanwhile (it exited and its number was given out again, it entered another
 * namespace) is read again at the end.
 *
 * The cgroup ties a process to a pod, not its namespace: a process of one pod may be visiting another's. So a namespace counts only if
 * an interface in it has one of the pod's addresses.
 */
import { fileIdentity, openNamespace } from "../../platform/netns.ts";
import { lastErrno, pathIdentity, readProcFile } from "../../platform/proc_files.ts";
import { closeDescriptor } from "../../platform/socket.ts";
import { describeErrno, EACCES, EPERM } from "../../platform/errno.ts";
import { CgroupFormatError, readCgroup } from "./cgroup.ts";
import { readFibTrie, readIfInet6 } from "./local_addresses.ts";
import { readStartTime } from "./proc_stat.ts";

/** What the processes of a node are asked with; tests answer by themselves. */
export interface ProcessFiles {
  identity(path: string): string | undefined;
  read(path: string): string | undefined;
  /** Why the last of these gave undefined. */
  errno(): number;
  /** A descriptor or `-errno`. */
  open(path: string): number;
  openIdentity(fd: number): string | undefined;
  close(fd: number): void;
}

export const PROCESS_FILES: ProcessFiles = {
  identity: pathIdentity,
  read: readProcFile,
  errno: () => lastErrno,
  open: openNamespace,
  openIdentity: fileIdentity,
  close: closeDescriptor,
};

export interface Candidate {
  /** The caller owns it. */
  readonly fd: number;
  readonly identity: string;
  readonly startTime: number;
}

/** A process of a pod, before its namespace is looked at. */
export interface PodProcess {
  readonly pid: number;
  readonly podUid: string;
  readonly identity: string;
}

/** Why a process says nothing; `denied` is for what privileges are missing. */
export type Silence = { readonly silence: "gone" | "denied" | "host" | "other" };

const DENIED: ReadonlySet<number> = new Set([EACCES, EPERM]);

/** Which pod a process belongs to. `hostIdentity` is the namespace that can be no pod's. */
export function readPodProcess(
  files: ProcessFiles,
  procRoot: string,
  pid: number,
  hostIdentity: string,
): PodProcess | Silence {
  const identity = files.identity(`${procRoot}/${pid}/ns/net`);
  if (identity === undefined) return { silence: DENIED.has(files.errno()) ? "denied" : "gone" };
  if (identity === hostIdentity) return { silence: "host" };
  const cgroup = files.read(`${procRoot}/${pid}/cgroup`);
  if (cgroup === undefined) return { silence: "gone" };
  const podUid = podOf(cgroup);
  return podUid === undefined ? { silence: "other" } : { pid, podUid, identity };
}

function podOf(cgroup: string): string | undefined {
  try {
    const uid = readCgroup(cgroup)?.podUid;
    return uid === "" ? undefined : uid;
  } catch (error) {
    if (error instanceof CgroupFormatError) return undefined;
    throw error;
  }
}

/** The namespace of a pod's process, opened; or why it is not the pod's. */
export function openPodProcess(
  files: ProcessFiles,
  procRoot: string,
  process: PodProcess,
  ips: ReadonlySet<string>,
): Candidate | { readonly problem: string } {
  const directory = `${procRoot}/${process.pid}`;
  const startTime = startTimeOf(files, directory);
  if (startTime === undefined) return { problem: "it exited" };
  const fd = files.open(`${directory}/ns/net`);
  if (fd < 0) return { problem: `its network namespace cannot be opened: ${describeErrno(-fd)}` };
  const problem = check(files, directory, process, ips, fd, startTime);
  if (problem === undefined) return { fd, identity: process.identity, startTime };
  files.close(fd);
  return { problem };
}

function check(
  files: ProcessFiles,
  directory: string,
  process: PodProcess,
  ips: ReadonlySet<string>,
  fd: number,
  startTime: number,
): string | undefined {
  if (files.openIdentity(fd) !== process.identity) return "it changed its network namespace meanwhile";
  const addresses = new Set<string>();
  const trie = files.read(`${directory}/net/fib_trie`);
  if (trie !== undefined) readFibTrie(trie, addresses);
  // Missing where the kernel has no IPv6.
  const inet6 = files.read(`${directory}/net/if_inet6`);
  if (inet6 !== undefined) readIfInet6(inet6, addresses);
  const owns = [...ips].some((ip) => addresses.has(ip));
  if (startTimeOf(files, directory) !== startTime) return "it exited";
  if (files.identity(`${directory}/ns/net`) !== process.identity) return "it changed its network namespace meanwhile";
  if (owns) return undefined;
  if (trie === undefined && inet6 === undefined) return "the addresses in its network namespace cannot be read";
  return "its network namespace has none of the pod's addresses: a process that visits another pod's, or the pod's network is gone";
}

function startTimeOf(files: ProcessFiles, directory: string): number | undefined {
  const stat = files.read(`${directory}/stat`);
  return stat === undefined ? undefined : readStartTime(stat);
}
