/**
 * Which address is whose, as it should be in the probes' sets, and what of it is not done yet. Pure.
 *
 * An address is reused as soon as its pod is gone, and news of the two pods may come in any order: what is taken out must still be the
 * former pod's.
 */
import { canonicalIp, isIpv6 } from "../../mesh/ip.ts";
import type { Changes, Entries } from "./backend.ts";

/** What may stand in a comment, which tools read back from between quotes. */
const UID = /^[A-Za-z0-9._:-]{1,128}$/;

export interface ProbeEntries {
  readonly desired: Entries;
  /** Canonical, without those of a family that is not in use. */
  usable(ips: readonly string[]): string[];
  /** @throws Error when the uid is none */
  add(uid: string, ips: readonly string[]): void;
  /**
   * Takes out all addresses of the pod. Of those given: `others` are another pod's, and stay; of `unknown` nothing is known, and only the
   * sets themselves can tell.
   */
  remove(uid: string, ips: readonly string[]): { readonly others: string[]; readonly unknown: string[] };
  /** The address goes, whoever has it. */
  drop(ip: string): void;
  /** What is to be done since the last call. */
  takeChanges(): Changes;
  clear(): void;
}

export function createProbeEntries(ipv6: boolean): ProbeEntries {
  const desired = new Map<string, string>();
  let touched = new Set<string>();
  const usable = (ips: readonly string[]) => {
    const canonical = ips.map(canonicalIp).filter((ip) => ip !== undefined);
    return [...new Set(canonical)].filter((ip) => ipv6 || !isIpv6(ip));
  };
  return {
    desired,
    usable,
    add(uid, ips) {
      if (!UID.test(uid)) throw new Error(`${JSON.stringify(uid)} is not the uid of a pod`);
      for (const ip of usable(ips)) {
        desired.set(ip, uid);
        touched.add(ip);
      }
    },
    remove(uid, ips) {
      const given = usable(ips);
      for (const [ip, owner] of [...desired]) {
        if (owner !== uid) continue;
        desired.delete(ip);
        touched.add(ip);
      }
      const others = given.filter((ip) => desired.has(ip));
      return { others, unknown: given.filter((ip) => !desired.has(ip) && !touched.has(ip)) };
    },
    drop(ip) {
      desired.delete(ip);
      touched.add(ip);
    },
    takeChanges() {
      const ips = [...touched];
      touched = new Set();
      return {
        add: new Map(ips.flatMap((ip) => {
          const uid = desired.get(ip);
          return uid === undefined ? [] : [[ip, uid] as const];
        })),
        remove: ips.filter((ip) => !desired.has(ip)),
      };
    },
    clear() {
      desired.clear();
      touched.clear();
    },
  };
}
