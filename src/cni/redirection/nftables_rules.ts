/**
 * The in-pod rules as an nftables script, reference cni.md sections 4.1 and 4.7. Pure text.
 *
 * The script is one transaction, which gives the same state whatever was there, with nothing in between.
 * Names of tables and chains are Istio's own: an istio-cni that takes the node back finds and replaces them.
 */
import { createHash } from "node:crypto";
import {
  MARK_MASK,
  PROBE_ADDRESS,
  type ProbeAddress,
  type RedirectionSettings,
  RETURN_MARK,
  virtualInterfaceName,
  ZTUNNEL_MARK,
  ZTUNNEL_PORTS,
} from "./redirection.ts";

export const NFT_TABLES = ["istio-ambient-mangle", "istio-ambient-nat", "istio-ambient-raw"] as const;
export type NftTable = typeof NFT_TABLES[number];

/** One chain; `hook` is present on those that the kernel enters. */
export interface NftChain {
  readonly table: NftTable;
  readonly name: string;
  readonly hook?: { readonly type: string; readonly hook: string; readonly prio: number };
  readonly rules: readonly string[];
}

const IN = "istio-prerouting";
const OUT = "istio-output";

const MARKED_BY_ZTUNNEL = `meta mark & ${hex(MARK_MASK)} == ${hex(ZTUNNEL_MARK)}`;
const NOT_MARKED_BY_ZTUNNEL = `meta mark & ${hex(MARK_MASK)} != ${hex(ZTUNNEL_MARK)}`;
const NOT_LOOPBACK_V4 = "ip daddr != 127.0.0.1";
const NOT_LOOPBACK_V6 = "ip6 daddr != ::1";

/** The chains of a pod, in the order they are created. */
export function nftChains(settings: RedirectionSettings, probe: ProbeAddress = PROBE_ADDRESS): readonly NftChain[] {
  return [
    ...base("istio-ambient-mangle", "filter", "route", -150),
    { table: "istio-ambient-mangle", name: IN, rules: markConnections() },
    { table: "istio-ambient-mangle", name: OUT, rules: markReplies() },
    ...base("istio-ambient-nat", "nat", "nat", -100),
    { table: "istio-ambient-nat", name: IN, rules: captureInbound(settings, probe) },
    { table: "istio-ambient-nat", name: OUT, rules: captureOutbound(settings, probe) },
    ...(settings.dnsCapture
      ? [
        ...base("istio-ambient-raw", "filter", "filter", -300),
        {
          table: "istio-ambient-raw",
          name: IN,
          rules: [`udp sport 53 ${NOT_MARKED_BY_ZTUNNEL} counter ct zone set 1`],
        },
        { table: "istio-ambient-raw", name: OUT, rules: [`udp dport 53 ${MARKED_BY_ZTUNNEL} counter ct zone set 1`] },
      ] as const
      : []),
  ];
}

/** A table of ours as it is now. */
export interface PresentTable {
  readonly chains: readonly Pick<NftChain, "name" | "hook">[];
  /** It holds more than chains: sets, maps or objects, which ours never do. */
  readonly holdsMore: boolean;
}

export type PresentTables = ReadonlyMap<NftTable, PresentTable>;

/**
 * The script for `nft -f -` that installs the rules. A table whose chains are as they should be is emptied and filled again, so that the
 * kernel's hooks stay where they are; another one is made anew.
 */
export function nftApplyScript(
  settings: RedirectionSettings,
  present: PresentTables = new Map(),
  probe: ProbeAddress = PROBE_ADDRESS,
): string {
  const lines: string[] = [];
  const chains = nftChains(settings, probe);
  for (const table of NFT_TABLES) {
    const wanted = chains.filter((chain) => chain.table === table);
    const found = present.get(table);
    const isRight = found === undefined ||
      !found.holdsMore && found.chains.every((chain) => wanted.some((other) => sameChain(chain, other)));
    if (wanted.length > 0 || found !== undefined) lines.push(`add table inet ${table}`);
    if (wanted.length > 0 && isRight) lines.push(`flush table inet ${table}`);
    else if (found !== undefined) lines.push(`delete table inet ${table}`);
    if (wanted.length > 0 && !isRight) lines.push(`add table inet ${table}`);
  }
  for (const { table, name, hook } of chains) {
    const entry = hook && ` { type ${hook.type} hook ${hook.hook} priority ${hook.prio}; policy accept; }`;
    lines.push(`add chain inet ${table} ${name}${entry ?? ""}`);
  }
  for (const { table, name, rules } of chains) {
    for (const rule of rules) lines.push(`add rule inet ${table} ${name} ${rule} comment "${ruleComment(rule)}"`);
  }
  return lines.join("\n") + "\n";
}

function sameChain(one: Pick<NftChain, "name" | "hook">, other: Pick<NftChain, "name" | "hook">): boolean {
  return one.name === other.name && one.hook?.type === other.hook?.type && one.hook?.hook === other.hook?.hook &&
    one.hook?.prio === other.hook?.prio;
}

/** The comment a rule carries in the kernel: a digest of its text, which tells the rules of one version from those of another. */
export function ruleComment(rule: string): string {
  return `ambit ${createHash("sha256").update(rule).digest("hex").slice(0, 12)}`;
}

function base(table: NftTable, inType: string, outType: string, prio: number): readonly NftChain[] {
  return [
    { table, name: "prerouting", hook: { type: inType, hook: "prerouting", prio }, rules: [`counter jump ${IN}`] },
    { table, name: "output", hook: { type: outType, hook: "output", prio }, rules: [`counter jump ${OUT}`] },
  ];
}

/** A packet of ztunnel towards the application marks the connection... */
function markConnections(): readonly string[] {
  const keep = hex(~MARK_MASK >>> 0);
  return [`${MARKED_BY_ZTUNNEL} counter ct mark set ct mark & ${keep} | ${hex(RETURN_MARK)}`];
}

/** ...and the application's replies take the mark, so that the routing rule returns them to ztunnel's spoofing socket. */
function markReplies(): readonly string[] {
  return [`ct mark & ${hex(MARK_MASK)} == ${hex(RETURN_MARK)} counter meta mark set ct mark`];
}

function captureInbound(
  { ipv6, ingress, virtualInterfaces }: RedirectionSettings,
  probe: ProbeAddress,
): readonly string[] {
  const rules: string[] = [];
  for (const name of virtualInterfaces.map(virtualInterfaceName)) {
    // The wildcard of nftables is another one than that of iptables.
    const match = `iifname "${name.replace(/\+$/, "*")}" meta l4proto tcp counter`;
    rules.push(`${match} redirect to :${ZTUNNEL_PORTS.outbound}`, `${match} return`);
  }
  if (ingress) return rules;
  rules.push(`meta l4proto tcp ip saddr ${probe.ipv4} counter accept`);
  if (ipv6) rules.push(`meta l4proto tcp ip6 saddr ${probe.ipv6} counter accept`);
  const capture =
    `tcp dport != ${ZTUNNEL_PORTS.inboundHbone} ${NOT_MARKED_BY_ZTUNNEL} counter redirect to :${ZTUNNEL_PORTS.inboundPlaintext}`;
  rules.push(`${NOT_LOOPBACK_V4} ${capture}`);
  if (ipv6) rules.push(`${NOT_LOOPBACK_V6} ${capture}`);
  return rules;
}

function captureOutbound({ ipv6, dnsCapture }: RedirectionSettings, probe: ProbeAddress): readonly string[] {
  const rules = [`meta l4proto tcp ip daddr ${probe.ipv4} counter accept`];
  if (ipv6) rules.push(`meta l4proto tcp ip6 daddr ${probe.ipv6} counter accept`);
  if (dnsCapture) {
    const redirect = `counter redirect to :${ZTUNNEL_PORTS.dns}`;
    // Without IPv6 capture this one, which names no address, must still leave IPv6 alone.
    const family = ipv6 ? "" : "meta nfproto ipv4 ";
    rules.push(`${family}oifname != "lo" ${NOT_MARKED_BY_ZTUNNEL} udp dport 53 ${redirect}`);
    rules.push(`${NOT_LOOPBACK_V4} tcp dport 53 ${NOT_MARKED_BY_ZTUNNEL} ${redirect}`);
    if (ipv6) rules.push(`${NOT_LOOPBACK_V6} tcp dport 53 ${NOT_MARKED_BY_ZTUNNEL} ${redirect}`);
  }
  rules.push(`meta l4proto tcp meta mark & ${hex(MARK_MASK)} == ${hex(RETURN_MARK)} counter accept`);
  rules.push(`oifname "lo" ${NOT_LOOPBACK_V4} counter accept`);
  if (ipv6) rules.push(`oifname "lo" ${NOT_LOOPBACK_V6} counter accept`);
  const redirect = `${NOT_MARKED_BY_ZTUNNEL} counter redirect to :${ZTUNNEL_PORTS.outbound}`;
  rules.push(`meta l4proto tcp ${NOT_LOOPBACK_V4} ${redirect}`);
  if (ipv6) rules.push(`meta l4proto tcp ${NOT_LOOPBACK_V6} ${redirect}`);
  return rules;
}

function hex(value: number): string {
  return `0x${value.toString(16).padStart(8, "0")}`;
}
