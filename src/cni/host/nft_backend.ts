/**
 * The probes' rule and sets by nftables, reference cni.md section 5.1: connections of kubelet, told by its user, to a pod's address.
 *
 * Everything is one table, replaced in one transaction: there is no moment without the rule, and nobody else's rules are in it.
 */
import { ruleComment } from "../redirection/nftables_rules.ts";
import { type RunInNetns, runOrThrow } from "../redirection/run_in_netns.ts";
import { type Backend, compareEntries, type Entries, families, type Family, ofFamily } from "./backend.ts";

export interface NftBackendOptions {
  readonly run: RunInNetns;
  readonly netns: string;
  readonly snatV4: string;
  readonly snatV6: string;
  readonly ipv6: boolean;
  /** The user whose connections are probes. */
  readonly kubeletUser: () => Promise<number>;
}

const TABLE = "inet istio-ambient-nat";
const CHAIN = "postrouting";
const PRIORITY = 100;

interface Listed {
  readonly chain?: { readonly name: string; readonly type?: string; readonly hook?: string; readonly prio?: number };
  readonly rule?: { readonly chain: string; readonly comment?: string };
  readonly set?: { readonly name: string; readonly type: unknown; readonly elem?: readonly unknown[] };
}

export function createNftBackend(options: NftBackendOptions): Backend {
  const { run, netns, kubeletUser } = options;
  const used = families(options.snatV4, options.snatV6, options.ipv6);
  const nft = async (script: string) => void (await runOrThrow(run, netns, ["nft", "-f", "-"], script));

  const replace = async (entries: Entries) => {
    const user = await kubeletUser();
    const lines = [`add table ${TABLE}`, `delete table ${TABLE}`, `add table ${TABLE}`];
    for (const { set, ipv6 } of used) lines.push(`add set ${TABLE} ${set} { type ${type(ipv6)}; }`);
    lines.push(`add chain ${TABLE} ${CHAIN} { type nat hook postrouting priority ${PRIORITY}; policy accept; }`);
    for (const family of used) {
      const rule = snatRule(family, user);
      lines.push(`add rule ${TABLE} ${CHAIN} ${rule} comment "${ruleComment(rule)}"`);
    }
    for (const family of used) lines.push(...addLines(family, ofFamily(entries, family)));
    await nft(lines.join("\n") + "\n");
  };

  /** Undefined: there is no such table. */
  const list = async (): Promise<readonly Listed[] | undefined> => {
    const command = ["nft", "-j", "list", "table", ...TABLE.split(" ")];
    const { code, stdout, stderr } = await run(netns, command, "");
    if (code === 0) return (JSON.parse(stdout) as { readonly nftables: readonly Listed[] }).nftables;
    if (/No such file or directory/.test(stderr)) return undefined;
    throw new Error(`"${command.join(" ")}" in ${netns} failed (${code ?? "killed"}): ${stderr.trim()}`);
  };

  return {
    setUp: () => replace(new Map()),
    repair: replace,

    async change({ add, remove }) {
      const lines: string[] = [];
      for (const family of used) {
        const gone = ofFamily(new Map(remove.map((ip) => [ip, ""])), family).map(([ip]) => ip);
        const added = ofFamily(add, family);
        // To delete what is not there is an error, and to add what is there keeps its comment: hence add, delete, add.
        const all = [...gone, ...added.map(([ip]) => ip)];
        for (const some of chunks(all)) {
          lines.push(`add element ${TABLE} ${family.set} { ${some.join(", ")} }`);
          lines.push(`delete element ${TABLE} ${family.set} { ${some.join(", ")} }`);
        }
        lines.push(...addLines(family, added));
      }
      if (lines.length > 0) await nft(lines.join("\n") + "\n");
    },

    async entries() {
      const listed = await list();
      if (listed === undefined) throw new Error(`nft: there is no table ${TABLE} in ${netns}`);
      return readSets(listed, used);
    },

    async verify(desired) {
      const listed = await list();
      if (listed === undefined) return [`nft: table ${TABLE} is missing`];
      const differences: string[] = [];
      for (const { set, ipv6 } of used) {
        const found = listed.find((one) => one.set?.name === set)?.set;
        if (found === undefined) differences.push(`nft: set ${set} is missing`);
        else if (found.type !== type(ipv6)) differences.push(`nft: set ${set} has another type`);
      }
      const chain = listed.find((one) => one.chain?.name === CHAIN)?.chain;
      if (chain === undefined) differences.push(`nft: chain ${TABLE} ${CHAIN} is missing`);
      else if (chain.type !== "nat" || chain.hook !== "postrouting" || chain.prio !== PRIORITY) {
        differences.push(`nft: chain ${TABLE} ${CHAIN} has another hook or priority`);
      }
      const user = await kubeletUser();
      const expected = used.map((family) => ruleComment(snatRule(family, user)));
      const rules = listed.flatMap(({ rule }) => rule?.chain === CHAIN ? [rule.comment ?? ""] : []);
      if (rules.join() !== expected.join()) differences.push(`nft: chain ${TABLE} ${CHAIN} has other rules`);
      return [...differences, ...compareEntries(readSets(listed, used), desired)];
    },

    tearDown: () => nft(`add table ${TABLE}\ndelete table ${TABLE}\n`),
  };
}

function type(ipv6: boolean): string {
  return ipv6 ? "ipv6_addr" : "ipv4_addr";
}

function snatRule({ ipv6, set, snat }: Family, user: number): string {
  const ip = ipv6 ? "ip6" : "ip";
  return `meta l4proto tcp meta skuid ${user} ${ip} daddr @${set} counter snat ${ip} to ${snat}`;
}

function addLines({ set }: Family, entries: readonly (readonly [string, string])[]): string[] {
  return chunks(entries).map((some) =>
    `add element ${TABLE} ${set} { ${some.map(([ip, uid]) => `${ip} comment "${uid}"`).join(", ")} }`
  );
}

/** Lines that stay readable in an error. */
function chunks<T>(all: readonly T[]): (readonly T[])[] {
  const parts: (readonly T[])[] = [];
  for (let at = 0; at < all.length; at += 100) parts.push(all.slice(at, at + 100));
  return parts;
}

function readSets(listed: readonly Listed[], used: readonly Family[]): Entries {
  const entries = new Map<string, string>();
  for (const { set } of listed) {
    if (set === undefined || !used.some((family) => family.set === set.name)) continue;
    for (const element of set.elem ?? []) {
      if (typeof element === "string") entries.set(element, "");
      else {
        const { elem } = element as { readonly elem?: { readonly val?: unknown; readonly comment?: string } };
        if (typeof elem?.val === "string") entries.set(elem.val, elem.comment ?? "");
      }
    }
  }
  return entries;
}
