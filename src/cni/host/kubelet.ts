/**
 * The user kubelet runs as, by the processes of the node, reference cni.md section 5.1: kubelet itself, or a distribution's program that
 * has it inside.
 *
 * Connections of that user to pods pass their rules, so a process that merely has the name does not count: it must be in the node's
 * network namespace, and in no pod unless all are, as on a node that is itself a pod of another cluster.
 */
import { PROCESS_FILES, type ProcessFiles } from "../netns/candidate.ts";
import { CgroupFormatError, readCgroup } from "../netns/cgroup.ts";
import { nodeIdentity, processIds } from "../netns/discover.ts";
import { readStartTime } from "../netns/proc_stat.ts";
import { inSlices, type SliceOptions } from "../netns/slices.ts";

/** Programs that are kubelet only with an argument that names it. */
const MAYBE = new Set(["kubelet", "kubelite", "hyperkube"]);
/** Programs that always have it inside; k3s names its process after what it does. */
const ALWAYS = new Set(["k3s", "k3s-server", "k3s-agent"]);

interface Kubelet {
  readonly pid: number;
  readonly isInPod: boolean;
  readonly user: number;
  readonly startTime: number;
}

export interface KubeletOptions extends SliceOptions {
  readonly files?: ProcessFiles;
}

/**
 * Finds the user, and remembers it as long as that process lives.
 * The result rejects when there is no kubelet, or several of different users.
 */
export function createKubeletFinder(procRoot: string, options: KubeletOptions = {}): () => Promise<number> {
  const files = options.files ?? PROCESS_FILES;
  let known: Kubelet | undefined;
  return async () => {
    if (known !== undefined && startTime(files, procRoot, known.pid) === known.startTime) return known.user;
    known = undefined;
    const named = await inSlices(search(files, procRoot), options);
    const outside = named.filter(({ isInPod }) => !isInPod);
    const all = outside.length > 0 ? outside : named;
    if (all.length === 0) {
      throw new Error(
        `there is no kubelet among the processes in ${procRoot} (kubelet, kubelite or k3s): ` +
          "its user is what nftables tells its probes by",
      );
    }
    const users = new Set(all.map(({ user }) => user));
    if (users.size > 1) {
      const list = all.map(({ pid, user }) => `process ${pid} of user ${user}`).join(", ");
      throw new Error(`several processes could be kubelet, of different users: ${list}`);
    }
    known = all.reduce((oldest, one) => one.startTime < oldest.startTime ? one : oldest);
    return known.user;
  };
}

function* search(files: ProcessFiles, procRoot: string): Generator<void, Kubelet[]> {
  const node = nodeIdentity(procRoot, files);
  const found: Kubelet[] = [];
  const pids = processIds(procRoot);
  yield;
  for (const pid of pids) {
    const kubelet = look(files, procRoot, pid, node);
    if (kubelet !== undefined) found.push(kubelet);
    yield;
  }
  return found;
}

function look(files: ProcessFiles, procRoot: string, pid: number, node: string): Kubelet | undefined {
  const directory = `${procRoot}/${pid}`;
  const name = files.read(`${directory}/comm`)?.trim() ?? "";
  if (!ALWAYS.has(name)) {
    if (!MAYBE.has(name)) return undefined;
    const words = files.read(`${directory}/cmdline`)?.split("\0") ?? [];
    if (!words.some((word) => word.includes("kubelet"))) return undefined;
  }
  if (files.identity(`${directory}/ns/net`) !== node) return undefined;
  const cgroup = files.read(`${directory}/cgroup`);
  const user = /^Uid:\t(\d+)\t/m.exec(files.read(`${directory}/status`) ?? "")?.[1];
  const began = startTime(files, procRoot, pid);
  if (cgroup === undefined || user === undefined || began === undefined) return undefined;
  return { pid, isInPod: isInPod(cgroup), user: Number(user), startTime: began };
}

function isInPod(cgroup: string): boolean {
  try {
    return readCgroup(cgroup) !== undefined;
  } catch (error) {
    if (error instanceof CgroupFormatError) return true;
    throw error;
  }
}

function startTime(files: ProcessFiles, procRoot: string, pid: number): number | undefined {
  const stat = files.read(`${procRoot}/${pid}/stat`);
  return stat === undefined ? undefined : readStartTime(stat);
}
