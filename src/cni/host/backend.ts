/** One way to hold the probes' rule and its sets in the node's network namespace: nftables (nft_backend.ts) or iptables (iptables_backend.ts). */
import { isIpv6 } from "../../mesh/ip.ts";

/** Sets of the pods' addresses; the names are Istio's, whose tools look for them. */
export const PROBE_SETS = { ipv4: "istio-inpod-probes-v4", ipv6: "istio-inpod-probes-v6" } as const;

/** Addresses with the uid of the pod that has each. */
export type Entries = ReadonlyMap<string, string>;

/** What is to be changed in the sets; an address is in one of the two only. */
export interface Changes {
  readonly add: Entries;
  readonly remove: readonly string[];
}

/** Every method rejects with the failed command and its words. */
export interface Backend {
  /** Rules and empty sets, whatever was there. */
  setUp(): Promise<void>;
  /** An address that is there gets the new uid; one that is not there may be removed. */
  change(changes: Changes): Promise<void>;
  /** What the sets hold. Rejects when they are not there. */
  entries(): Promise<Entries>;
  /** What differs from rules, and sets with exactly these entries. */
  verify(desired: Entries): Promise<string[]>;
  /** Makes it so. No connection meets a state in which a desired entry that was there is missing. */
  repair(desired: Entries): Promise<void>;
  /** Nothing is left. */
  tearDown(): Promise<void>;
}

export interface Family {
  readonly ipv6: boolean;
  readonly set: string;
  /** The source address probes get. */
  readonly snat: string;
}

export function families(snatV4: string, snatV6: string, ipv6: boolean): readonly Family[] {
  const v4: Family = { ipv6: false, set: PROBE_SETS.ipv4, snat: snatV4 };
  return ipv6 ? [v4, { ipv6: true, set: PROBE_SETS.ipv6, snat: snatV6 }] : [v4];
}

export function ofFamily(entries: Entries, { ipv6 }: Family): [string, string][] {
  return [...entries].filter(([ip]) => isIpv6(ip) === ipv6);
}

/** Compares sets; the texts name address and pod. */
export function compareEntries(found: Entries, desired: Entries): string[] {
  const differences: string[] = [];
  for (const [ip, uid] of desired) {
    const other = found.get(ip);
    if (other === undefined) differences.push(`probe set: ${ip} of pod ${uid} is missing`);
    else if (other !== uid) differences.push(`probe set: ${ip} is noted for "${other}" instead of pod ${uid}`);
  }
  for (const [ip, uid] of found) {
    if (!desired.has(ip)) differences.push(`probe set: ${ip} of "${uid}" does not belong there`);
  }
  return differences;
}
