/**
 * Services by VIP, by address range and by hostname, and which of several is the best for a client. Several services,
 * also of one namespace, may share a VIP or a name.
 */
import { type Cidr, maskIp, parseCidr, parseIp } from "./ip.ts";
import { MultiIndex } from "./multi_index.ts";
import { keyOfService, networkAddress, type Service } from "./types.ts";

export class ServiceIndex {
  readonly #byVip = new MultiIndex(keyOfService);
  readonly #byHostname = new MultiIndex(keyOfService);
  /** Key: network, prefix length and masked address. */
  readonly #byRange = new MultiIndex(keyOfService);
  /** Prefix lengths that ranges of a network and family have had: what a lookup has to try. At most 129 each. */
  readonly #rangeLengths = new Map<string, Set<number>>();

  add(service: Service): void {
    for (const vip of service.vips) this.#byVip.set(vip, service);
    for (const { network, range } of rangesOf(service)) {
      this.#byRange.set(rangeKey(network, range.bytes, range.prefixLength), service);
      const family = familyKey(network, range.bytes);
      const lengths = this.#rangeLengths.get(family);
      if (lengths === undefined) this.#rangeLengths.set(family, new Set([range.prefixLength]));
      else lengths.add(range.prefixLength);
    }
    this.#byHostname.set(service.hostname, service);
  }

  delete(service: Service): void {
    const key = keyOfService(service);
    for (const vip of service.vips) this.#byVip.delete(vip, key);
    for (const { network, range } of rangesOf(service)) {
      this.#byRange.delete(rangeKey(network, range.bytes, range.prefixLength), key);
    }
    this.#byHostname.delete(service.hostname, key);
  }

  byHostname(hostname: string): Iterable<Service> {
    return this.#byHostname.values(hostname);
  }

  /** The best visible service with exactly this VIP. */
  byVip(network: string, ip: string, clientNamespace?: string): Service | undefined {
    return bestService(this.#byVip.values(networkAddress(network, ip)), clientNamespace);
  }

  /** The best visible service with a range around the address: of the client's namespace, then the longest, then canonical. */
  byRange(network: string, ip: string, clientNamespace?: string): Service | undefined {
    if (this.#rangeLengths.size === 0) return undefined;
    const bytes = parseIp(ip);
    if (bytes === undefined) return undefined;
    const lengths = this.#rangeLengths.get(familyKey(network, bytes));
    if (lengths === undefined) return undefined;
    let best: Service | undefined;
    let bestLength = -1;
    for (const length of lengths) {
      const services = this.#byRange.values(rangeKey(network, maskIp(bytes, length), length));
      const candidate = bestService(services, clientNamespace);
      if (candidate === undefined) continue;
      const nearer = Number(candidate.namespace === clientNamespace) - Number(best?.namespace === clientNamespace);
      if (best === undefined || nearer > 0 || (nearer === 0 && length > bestLength)) {
        best = candidate;
        bestLength = length;
      }
    }
    return best;
  }
}

/**
 * The best of several services for a client: visible, of its namespace, canonical, of the preferred namespace, and last by
 * key, so that the choice does not depend on the order in which they came.
 */
export function bestService(
  services: Iterable<Service>,
  clientNamespace: string | undefined,
  preferredNamespace?: string,
): Service | undefined {
  let best: Service | undefined;
  let bestRank = -1;
  for (const service of services) {
    if (!isVisible(service, clientNamespace)) continue;
    const rank = (service.namespace === clientNamespace ? 4 : 0) + (service.canonical ? 2 : 0) +
      (service.namespace === preferredNamespace ? 1 : 0);
    if (best === undefined || rank > bestRank || (rank === bestRank && keyOfService(service) < keyOfService(best))) {
      best = service;
      bestRank = rank;
    }
  }
  return best;
}

function isVisible(service: Service, clientNamespace: string | undefined): boolean {
  return service.visibility === "Public" || clientNamespace === undefined || service.namespace === clientNamespace;
}

function rangesOf(service: Service): { readonly network: string; readonly range: Cidr }[] {
  const ranges = new Map<string, { readonly network: string; readonly range: Cidr }>();
  for (const { network, cidr } of service.cidrVips) {
    const range = parseCidr(cidr);
    // Resources are parsed before they come here; a range that is none matches nothing.
    if (range === undefined) continue;
    ranges.set(rangeKey(network, range.bytes, range.prefixLength), { network, range });
  }
  return [...ranges.values()];
}

function rangeKey(network: string, masked: Uint8Array, prefixLength: number): string {
  return `${network}/${masked.join(".")}/${prefixLength}`;
}

function familyKey(network: string, ip: Uint8Array): string {
  return `${network}/${ip.length}`;
}
