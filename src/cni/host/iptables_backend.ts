/**
 * The probes' rule by iptables and its sets by ipset, reference cni.md section 5.1: connections of the node's own sockets to a pod's
 * address. Each family has a chain of its own, replaced in one transaction; nobody else's rules are touched.
 */
import { type RunInNetns, runOrThrow } from "../redirection/run_in_netns.ts";
import { type Backend, compareEntries, type Entries, families, type Family, ofFamily } from "./backend.ts";
import { changeLines, createLine, destroySet, readSet, restore } from "./ipset.ts";

export interface IptablesBackendOptions {
  readonly run: RunInNetns;
  readonly netns: string;
  readonly snatV4: string;
  readonly snatV6: string;
  readonly ipv6: boolean;
  readonly variant: "iptables-nft" | "iptables-legacy";
}

const CHAIN = "ISTIO_POSTRT";
const JUMP = `POSTROUTING -j ${CHAIN}`;
/** Old iptables takes one lock for all; who has it may take long. */
const LEGACY_WAIT = "--wait=30";

export function createIptablesBackend({ run, netns, variant, ...options }: IptablesBackendOptions): Backend {
  const used = families(options.snatV4, options.snatV6, options.ipv6);
  const unused = families(options.snatV4, options.snatV6, true).slice(used.length);
  const tool = (family: Family) => family.ipv6 ? variant.replace("ip", "ip6") : variant;
  const wait = variant === "iptables-legacy" ? [LEGACY_WAIT] : [];

  const saveNat = async (family: Family): Promise<readonly string[]> =>
    (await runOrThrow(run, netns, [`${tool(family)}-save`, "-t", "nat"])).split("\n").map((line) => line.trim());
  const restoreNat = async (family: Family, lines: readonly string[]) => {
    const script = ["*nat", ...lines, "COMMIT", ""].join("\n");
    await runOrThrow(run, netns, [`${tool(family)}-restore`, "--noflush", ...wait], script);
  };
  const unjump = (saved: readonly string[]) => saved.filter((line) => line === `-A ${JUMP}`).map(() => `-D ${JUMP}`);

  /** Naming a chain empties it. */
  const installRule = async (family: Family) => {
    const saved = await saveNat(family);
    await restoreNat(family, [`:${CHAIN} - [0:0]`, ...unjump(saved), `-I ${JUMP}`, `-A ${rule(family)}`]);
  };

  const removeRule = async (family: Family) => {
    const saved = await saveNat(family);
    if (!saved.some((line) => line.startsWith(`:${CHAIN} `))) return;
    await restoreNat(family, [...unjump(saved), `-F ${CHAIN}`, `-X ${CHAIN}`]);
  };

  const makeSet = async (family: Family, lines: (found: Entries) => readonly string[]) => {
    let found = await readSet(run, netns, family);
    if (found !== undefined && !found.usable) {
      // Somebody's of the same name: the rule must let it go first.
      await removeRule(family);
      await destroySet(run, netns, family);
      found = undefined;
    }
    await restore(run, netns, [createLine(family), ...lines(found?.entries ?? new Map())]);
  };

  const ruleProblem = async (family: Family): Promise<string[]> => {
    const saved = await saveNat(family);
    if (!saved.some((line) => line.startsWith(`:${CHAIN} `))) return [`${tool(family)}: chain ${CHAIN} is missing`];
    const jumps = saved.filter((line) => line === `-A ${JUMP}`).length;
    const rules = saved.filter((line) => line.startsWith(`-A ${CHAIN} `));
    const problems = jumps === 1 ? [] : [`${tool(family)}: POSTROUTING has ${jumps} jumps to ${CHAIN} instead of 1`];
    const isRight = rules.length === 1 && (rules[0] === `-A ${rule(family)}` || await check(family));
    return isRight ? problems : [...problems, `${tool(family)}: chain ${CHAIN} has other rules`];
  };
  /** Versions may print a rule in different words. */
  const check = async (family: Family) =>
    (await run(netns, [tool(family), ...wait, "-t", "nat", "-C", ...rule(family).split(" ")], "")).code === 0;

  return {
    async setUp() {
      // Of a run with other settings; without IPv6 there may not even be the tools.
      for (const family of unused) {
        await removeRule(family).catch(() => {});
        await destroySet(run, netns, family).catch(() => {});
      }
      for (const family of used) {
        await makeSet(family, () => [`flush ${family.set}`]);
        await installRule(family);
      }
    },

    change: (changes) => restore(run, netns, used.flatMap((family) => changeLines(changes, family))),

    async entries() {
      const entries = new Map<string, string>();
      for (const family of used) {
        const found = await readSet(run, netns, family);
        if (found === undefined) throw new Error(`ipset: there is no set ${family.set} in ${netns}`);
        for (const [ip, uid] of found.entries) entries.set(ip, uid);
      }
      return entries;
    },

    async verify(desired) {
      const differences: string[] = [];
      for (const family of used) {
        differences.push(...await ruleProblem(family));
        const found = await readSet(run, netns, family);
        if (found === undefined) differences.push(`ipset: set ${family.set} is missing`);
        else if (!found.usable) differences.push(`ipset: set ${family.set} has another type`);
        else differences.push(...compareEntries(found.entries, new Map(ofFamily(desired, family))));
      }
      return differences;
    },

    async repair(desired) {
      for (const family of used) {
        const wanted = new Map(ofFamily(desired, family));
        await makeSet(family, (found) => {
          const remove = [...found.keys()].filter((ip) => !wanted.has(ip));
          return changeLines({ add: wanted, remove }, family);
        });
        if ((await ruleProblem(family)).length > 0) await installRule(family);
      }
    },

    async tearDown() {
      for (const family of used) {
        await removeRule(family);
        await destroySet(run, netns, family);
      }
    },
  };
}

/** In the words of iptables-save. */
function rule({ set, snat }: Family): string {
  return `${CHAIN} -p tcp -m owner --socket-exists -m set --match-set ${set} dst -j SNAT --to-source ${snat}`;
}
