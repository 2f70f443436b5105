/**
 * Who holds which tokens (changes.ts), and whom a change concerns. A mesh of 10,000 workloads has ten times as many tokens and at most some
 * hundreds are held, so none is made to be looked up: each part of a token is found by the text that the resource has anyway.
 *
 * An address is found by its ip alone: who holds it of another network is concerned once too often.
 */
import { type ChangeSet, isFoundByIp } from "./changes.ts";
import { keyOfService } from "./types.ts";

export class TokenIndex<Holder> {
  /** By kind, which is what stands before the colon; a token without one is its own kind. */
  readonly #byKind = new Map<string, Map<string, Set<Holder>>>();

  add(token: string, holder: Holder): void {
    const { kind, id } = split(token);
    let ids = this.#byKind.get(kind);
    if (ids === undefined) this.#byKind.set(kind, ids = new Map());
    const holders = ids.get(id);
    if (holders === undefined) ids.set(id, new Set([holder]));
    else holders.add(holder);
  }

  delete(token: string, holder: Holder): void {
    const { kind, id } = split(token);
    const ids = this.#byKind.get(kind);
    const holders = ids?.get(id);
    if (ids === undefined || holders === undefined) return;
    holders.delete(holder);
    if (holders.size === 0) ids.delete(id);
    if (ids.size === 0) this.#byKind.delete(kind);
  }

  /** Everybody who holds a token of the change. */
  concerned(changes: ChangeSet): Set<Holder> {
    const found = new Set<Holder>();
    const kinds = this.#byKind;
    const [uids, ips, names, services] = ["w", "a", "h", "s"].map((kind) => kinds.get(kind));
    const take = (holders: ReadonlySet<Holder> | undefined) => {
      if (holders !== undefined) { for (const holder of holders) found.add(holder); }
    };
    for (const workloads of [changes.workloadsBefore, changes.workloadsAfter]) {
      for (const workload of workloads) {
        take(uids?.get(workload.uid));
        if (ips !== undefined && isFoundByIp(workload)) { for (const ip of workload.workloadIps) take(ips.get(ip)); }
        if (workload.hostname !== "") take(names?.get(workload.hostname));
        if (services !== undefined) { for (const key in workload.services) take(services.get(key)); }
      }
    }
    for (const service of changes.services) {
      take(services?.get(keyOfService(service)));
      take(names?.get(service.hostname));
      if (service.hostname.startsWith("*.")) take(kinds.get("wildcard")?.get(""));
      if (ips !== undefined) { for (const vip of service.vips) take(ips.get(ipOf(vip))); }
      if (service.cidrVips.length > 0) take(kinds.get("cidr")?.get(""));
    }
    for (const { key } of changes.policies) take(kinds.get("p")?.get(key));
    return found;
  }
}

function split(token: string): { readonly kind: string; readonly id: string } {
  const colon = token.indexOf(":");
  if (colon < 0) return { kind: token, id: "" };
  const kind = token.slice(0, colon);
  const id = token.slice(colon + 1);
  return { kind, id: kind === "a" ? ipOf(id) : id };
}

/** Of `network/ip`. */
function ipOf(address: string): string {
  return address.slice(address.lastIndexOf("/") + 1);
}
