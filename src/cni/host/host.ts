/**
 * What the node itself needs so that kubelet's probes reach captured pods unhindered, reference cni.md sections 3.9 and 5.1: a set of
 * the pods' addresses, and a rule that gives the node's own connections to them a source address that the pods' rules let pass.
 *
 * What should be there is kept here; the kernel is made to follow, one tool at a time. Pods that come while a tool runs share the next
 * run, so a burst of them costs few.
 */
import { openNamespace } from "../../platform/netns.ts";
import { readInsideNamespace } from "../../platform/netns_file.ts";
import { readProcFile } from "../../platform/proc_files.ts";
import { closeDescriptor } from "../../platform/socket.ts";
import type { RunInNetns } from "../redirection/run_in_netns.ts";
import type { Backend } from "./backend.ts";
import { type BranchEni, createBranchEni } from "./branch_eni.ts";
import { createIptablesBackend } from "./iptables_backend.ts";
import { createKubeletFinder } from "./kubelet.ts";
import { createNftBackend } from "./nft_backend.ts";
import { createProbeEntries } from "./probe_entries.ts";
import { createTurns } from "./turns.ts";

export type HostBackend = "nftables" | "iptables-nft" | "iptables-legacy";

export interface HostPod {
  readonly uid: string;
  readonly ips: readonly string[];
}

/** All methods may be called at any time; they take turns. Each rejects with the failed command and its words. */
export interface HostRules {
  /** Creates sets and rules, and empties the sets. Idempotent; whatever an earlier run left is replaced. Tries once. */
  setUp(): Promise<void>;
  /** Enters a pod's addresses in the sets. An address that was another pod's is this one's from now on. */
  addPod(uid: string, ips: readonly string[]): Promise<void>;
  /**
   * Takes out the pod's addresses: those given, and others it is known to have. One that another pod has by now stays; if only the sets
   * know whose it is, their word counts.
   */
  removePod(uid: string, ips: readonly string[]): Promise<void>;
  /** Exactly these pods, if each has an address; otherwise they are added, and nothing is taken out. */
  sync(pods: readonly HostPod[]): Promise<void>;
  /** What differs from what should be there, one line each. */
  verify(): Promise<readonly string[]>;
  /** Brings back what verify misses, and touches nothing else. */
  repair(): Promise<void>;
  /** Takes everything out again. */
  tearDown(): Promise<void>;
  /** "nftables", "iptables-nft" or "iptables-legacy". */
  describe(): string;
}

export interface HostRulesOptions {
  readonly backend: HostBackend;
  readonly ipv6: boolean;
  /** The source of probes: HOST_PROBE_SNAT_IP and HOST_PROBE_SNAT_IPV6. */
  readonly snatV4: string;
  readonly snatV6: string;
  /** The node's network namespace (`/host/proc/1/ns/net`) with ALLOW_SWITCH_TO_HOST_NS; undefined: the process' own. */
  readonly enter: string | undefined;
  /** `/host/proc`. */
  readonly procRoot: string;
  /** AMBIENT_ENABLE_AWS_BRANCH_ENI_PROBE. */
  readonly branchEni: boolean;
  readonly run: RunInNetns;
  readonly log: (
    level: "error" | "warn" | "info" | "debug",
    message: string,
    fields?: Readonly<Record<string, string | number>>,
  ) => void;
}

const OWN_NETNS = "/proc/self/ns/net";

export function createHostRules(options: HostRulesOptions): HostRules {
  const { log, run, ipv6 } = options;
  const netns = options.enter ?? OWN_NETNS;
  const backend = createBackend(options, netns);
  const branchEni: BranchEni | undefined = options.branchEni
    ? createBranchEni({ run, netns, earlyDemux: () => readEarlyDemux(options) })
    : undefined;
  const entries = createProbeEntries(ipv6);
  const turns = createTurns();

  /** What the kernel refuses, because somebody took sets away, is made anew from what should be there. */
  const write = async () => {
    const changes = entries.takeChanges();
    if (changes.add.size === 0 && changes.remove.length === 0) return;
    try {
      await backend.change(changes);
    } catch (error) {
      log("warn", `the set of pods for probes could not be changed, and is made anew: ${(error as Error).message}`);
      await backend.repair(entries.desired);
    }
  };

  return {
    setUp: () => turns.take(() => backend.setUp()),

    async addPod(uid, ips) {
      entries.add(uid, ips);
      await turns.share(write);
      if (branchEni !== undefined) {
        await turns.take(() => branchEni.add(entries.usable(ips).filter((ip) => entries.desired.get(ip) === uid)));
      }
    },

    async removePod(uid, ips) {
      const own = [...entries.desired].filter(([, owner]) => owner === uid).map(([ip]) => ip);
      const { others, unknown } = entries.remove(uid, ips);
      for (const ip of others) {
        log("warn", "the address is another pod's by now, and stays in the set for probes", {
          ip,
          podUID: uid,
          other: entries.desired.get(ip) ?? "",
        });
      }
      if (unknown.length > 0) {
        await turns.take(async () => {
          const found = await backend.entries().catch(() => new Map<string, string>());
          for (const ip of unknown) {
            if (entries.desired.has(ip)) continue;
            const owner = found.get(ip);
            if (owner === uid) entries.drop(ip);
            else if (owner !== undefined) {
              log("warn", "the address is another pod's in the set for probes, and stays", {
                ip,
                podUID: uid,
                other: owner,
              });
            }
          }
        });
      }
      await turns.share(write);
      if (branchEni !== undefined) await turns.take(() => branchEni.remove(own));
    },

    async sync(pods) {
      const given = new Map<string, string>();
      for (const { uid, ips } of pods) {
        for (const ip of entries.usable(ips)) {
          const other = given.get(ip);
          if (other === undefined) given.set(ip, uid);
          else if (other !== uid) {
            log("warn", "two pods have the same address; it stays with the first", { ip, podUID: uid, other });
          }
        }
      }
      for (const [ip, uid] of given) entries.add(uid, [ip]);
      const complete = pods.every(({ ips }) => ips.length > 0);
      await turns.take(async () => {
        if (complete) {
          for (const ip of entries.desired.keys()) if (!given.has(ip)) entries.drop(ip);
          const found = await backend.entries().catch(() => new Map<string, string>());
          for (const ip of found.keys()) if (!given.has(ip)) entries.drop(ip);
        } else log("info", "a pod has no address yet: nothing is taken out of the set for probes");
        await write();
        await branchEni?.add([...given.keys()]);
      });
    },

    verify: () =>
      turns.take(async () => {
        await write();
        return [...await backend.verify(entries.desired), ...await branchEni?.verify() ?? []];
      }),

    repair: () =>
      turns.take(async () => {
        entries.takeChanges();
        await backend.repair(entries.desired);
        await branchEni?.repair();
      }),

    tearDown: () =>
      turns.take(async () => {
        entries.clear();
        await branchEni?.tearDown();
        await backend.tearDown();
      }),

    describe: () => options.backend,
  };
}

function createBackend(options: HostRulesOptions, netns: string): Backend {
  const { backend, procRoot } = options;
  if (backend !== "nftables") return createIptablesBackend({ ...options, netns, variant: backend });
  return createNftBackend({ ...options, netns, kubeletUser: createKubeletFinder(procRoot) });
}

/** Settings of networks are those of the namespace a thread opens them in. */
function readEarlyDemux({ enter, procRoot }: HostRulesOptions): string | undefined {
  const path = `${procRoot}/sys/net/ipv4/tcp_early_demux`;
  if (enter === undefined) return readProcFile(path);
  const namespace = openNamespace(enter);
  if (namespace < 0) return undefined;
  try {
    const text = readInsideNamespace(namespace, path);
    return typeof text === "string" ? text : undefined;
  } finally {
    closeDescriptor(namespace);
  }
}
