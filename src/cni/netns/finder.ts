/**
 * Looks for pods' network namespaces on behalf of many callers: who asks while a look through the processes is under way shares the
 * next one, and what a look has seen of other pods answers later questions without another.
 */
import { openPodProcess, PROCESS_FILES, type ProcessFiles, readPodProcess } from "./candidate.ts";
import {
  canonicalIps,
  type DiscoverOptions,
  type Discovery,
  findNamespacesInSlices,
  type WantedPod,
} from "./discover.ts";

export interface NamespaceFinder {
  /** Descriptors by pod uid, which the caller owns; a pod that was not found is missing. Rejects as `findNamespaces` throws. */
  find(wanted: ReadonlyMap<string, WantedPod>): Promise<Discovery>;
}

interface Question {
  readonly wanted: ReadonlyMap<string, WantedPod>;
  readonly resolve: (discovery: Discovery) => void;
  readonly reject: (error: unknown) => void;
}

/** Processes remembered for a pod: the first of a pod is its sandbox's, which stays. */
const HINTS_PER_POD = 3;

/** `procRoot` is where the node's processes are: `/host/proc`. */
export function createNamespaceFinder(procRoot: string, options: Omit<DiscoverOptions, "seen"> = {}): NamespaceFinder {
  const files: ProcessFiles = options.files ?? PROCESS_FILES;
  let hints = new Map<string, number[]>();
  let waiting: Question[] = [];
  let looking = false;

  const fromHints = (wanted: ReadonlyMap<string, WantedPod>, found: Map<string, number>): number => {
    let processes = 0;
    // What is wrong with the node's /proc, the look through it tells.
    const host = files.identity(`${procRoot}/1/ns/net`);
    if (host === undefined) return processes;
    for (const [uid, { ips }] of wanted) {
      for (const pid of hints.get(uid) ?? []) {
        processes++;
        const process = readPodProcess(files, procRoot, pid, host);
        if ("silence" in process || process.podUid !== uid) continue;
        const own = canonicalIps(ips);
        if (own.size === 0) break;
        const candidate = openPodProcess(files, procRoot, process, own);
        if ("problem" in candidate) continue;
        found.set(uid, candidate.fd);
        break;
      }
    }
    return processes;
  };

  const look = async () => {
    looking = true;
    while (waiting.length > 0) {
      const questions = waiting;
      waiting = [];
      const wanted = new Map(questions.flatMap((question) => [...question.wanted]));
      const seen = new Map<string, number[]>();
      try {
        const discovery = await findNamespacesInSlices(procRoot, wanted, {
          ...options,
          seen(uid, pid) {
            const pids = seen.get(uid);
            if (pids === undefined) seen.set(uid, [pid]);
            else if (pids.length < HINTS_PER_POD) pids.push(pid);
          },
        });
        hints = seen;
        share(questions, discovery);
      } catch (error) {
        for (const { reject } of questions) reject(error);
      }
    }
    looking = false;
  };

  /** Each descriptor goes to the first who asked for its pod; another one asks again, and finds it by a hint. */
  const share = (questions: readonly Question[], discovery: Discovery) => {
    const left = new Map(discovery.found);
    for (const question of questions) {
      const found = new Map<string, number>();
      const again = new Map<string, WantedPod>();
      for (const [uid, pod] of question.wanted) {
        const fd = left.get(uid);
        if (fd !== undefined) {
          found.set(uid, fd);
          left.delete(uid);
        } else if (discovery.found.has(uid)) again.set(uid, pod);
      }
      if (again.size > 0) fromHints(again, found);
      question.resolve({ found, problems: discovery.problems, processes: discovery.processes });
    }
  };

  return {
    find(wanted) {
      return new Promise((resolve, reject) => {
        const found = new Map<string, number>();
        const processes = fromHints(wanted, found);
        const missing = new Map([...wanted].filter(([uid]) => !found.has(uid)));
        if (missing.size === 0) return resolve({ found, problems: [], processes });
        waiting.push({
          wanted: missing,
          resolve: (discovery) => {
            for (const [uid, fd] of found) discovery.found.set(uid, fd);
            resolve(discovery);
          },
          reject(error) {
            for (const fd of found.values()) files.close(fd);
            reject(error);
          },
        });
        if (!looking) void look();
      });
    },
  };
}
