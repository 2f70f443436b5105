/**
 * What the mesh knows of a domain name that a pod asks for (reference ztunnel, section 8): which service, or pod of a headless
 * service, is meant, and which addresses a client may have. Names are lower-case text without the final dot; one with an escape in
 * it is none of the mesh's.
 *
 * A name is tried as it stands, as the Kubernetes names it may abbreviate, and without each search domain, because the client's
 * resolver appends those before it tries the bare name. Each is tried exactly and then by ever shorter wildcards.
 */
import { isIpv6 } from "./ip.ts";
import { bestService } from "./service_index.ts";
import { type Service, serviceKey, type Workload } from "./types.ts";
import type { MeshView } from "./view.ts";

/** From whose point of view a name is looked up. */
export interface DnsScope {
  readonly namespace: string;
  /** `cluster.local` */
  readonly clusterDomain: string;
  /** What the client's resolver appends; undefined: what Kubernetes gives to pods of the namespace. */
  readonly search: readonly string[] | undefined;
  /** Wins where several namespaces have the name and nothing else decides. */
  readonly preferredNamespace: string | undefined;
}

/** A name that a requested name may stand for. */
export interface DnsAlias {
  readonly name: string;
  /** The requested name without the search domain by which this alias came about. */
  readonly stripped: string | undefined;
}

export type DnsMatch =
  | {
    readonly kind: "service";
    readonly service: Service;
    readonly alias: DnsAlias;
    /** The service's name begins with `*.`. */
    readonly wildcard: boolean;
  }
  /** A pod of a headless service, by the pod's name. */
  | { readonly kind: "pod"; readonly workload: Workload; readonly service: Service; readonly alias: DnsAlias };

export type AddressFamily = "ipv4" | "ipv6";

/** Told which names were looked for, found or not: an answer holds as long as nothing changes about these. */
export interface DnsTrace {
  hostname(name: string): void;
  /** Any service whose name is a wildcard. */
  wildcards(): void;
  /** Which endpoints the service has. */
  endpoints(service: Service): void;
}

const NO_TRACE: DnsTrace = { hostname: () => {}, wildcards: () => {}, endpoints: () => {} };

/** Search domains of a pod with Kubernetes' default DNS policy. */
export function kubernetesSearch(namespace: string, clusterDomain: string): readonly string[] {
  return [`${namespace}.svc.${clusterDomain}`, `svc.${clusterDomain}`, clusterDomain];
}

/** The names to try, in order, none twice. */
export function dnsAliases(name: string, scope: DnsScope): DnsAlias[] {
  const aliases = new Map<string, DnsAlias>();
  const add = (alias: string, stripped: string | undefined) => {
    if (!aliases.has(alias)) aliases.set(alias, { name: alias, stripped });
  };
  add(name, undefined);
  for (const expanded of kubernetesNames(name, scope)) add(expanded, undefined);
  for (const domain of scope.search ?? kubernetesSearch(scope.namespace, scope.clusterDomain)) {
    if (domain === "" || !name.endsWith(`.${domain}`)) continue;
    const stripped = name.slice(0, -domain.length - 1);
    add(stripped, stripped);
    for (const expanded of kubernetesNames(stripped, scope)) add(expanded, stripped);
  }
  return [...aliases.values()];
}

/**
 * The full Kubernetes names that a shortened one may mean: `service`, `service.namespace`, `service.namespace.svc`, and the
 * same of pods, `pod.service` and so on.
 */
export function kubernetesNames(name: string, { namespace, clusterDomain }: DnsScope): string[] {
  const labels = name.split(".");
  const endsInSvc = labels[labels.length - 1] === "svc";
  switch (name === "" ? 0 : labels.length) {
    case 1:
      return [`${name}.${namespace}.svc.${clusterDomain}`];
    case 2:
      return [`${name}.svc.${clusterDomain}`, `${name}.${namespace}.svc.${clusterDomain}`];
    case 3:
      return endsInSvc
        ? [`${name}.${clusterDomain}`, `${name}.svc.${clusterDomain}`]
        : [`${name}.svc.${clusterDomain}`];
    case 4:
      return endsInSvc ? [`${name}.${clusterDomain}`] : [];
    default:
      return [];
  }
}

/** `a.b.c` → `*.b.c`, `*.c`. */
export function wildcardsOf(name: string): string[] {
  const wildcards: string[] = [];
  for (let dot = name.indexOf("."); dot !== -1; dot = name.indexOf(".", dot + 1)) wildcards.push(`*${name.slice(dot)}`);
  return wildcards;
}

/** What a name means to a client of the scope; undefined: nothing in the mesh, somebody else may know it. */
export function findByName(
  view: MeshView,
  name: string,
  scope: DnsScope,
  trace: DnsTrace = NO_TRACE,
): DnsMatch | undefined {
  if (name === "" || name.includes("\\")) return undefined;
  for (const alias of dnsAliases(name, scope)) {
    trace.hostname(alias.name);
    const exact = answering(view, alias.name, scope);
    if (exact !== undefined) return { kind: "service", service: exact, alias, wildcard: alias.name.startsWith("*.") };
    trace.wildcards();
    for (const wildcard of wildcardsOf(alias.name)) {
      const service = answering(view, wildcard, scope);
      if (service !== undefined) return { kind: "service", service, alias, wildcard: true };
    }
    const pod = podOfHeadless(view, alias, scope, trace);
    if (pod !== undefined) return pod;
  }
  return undefined;
}

/**
 * The addresses of a match that a client in `network` may have, in no particular order. Empty: the name exists, but not in this
 * family or network. Ranges of addresses are no answer.
 */
export function addressesOf(view: MeshView, match: DnsMatch, network: string, family: AddressFamily): string[] {
  const v6 = family === "ipv6";
  const { service } = match;
  if (service.ipFamilies === (v6 ? "IPv4" : "IPv6")) return [];
  const wanted = (ip: string) => isIpv6(ip) === v6;
  if (match.kind === "pod") return match.workload.workloadIps.filter(wanted);
  if (service.vips.length > 0) {
    const prefix = `${network}/`;
    return service.vips.filter((vip) => vip.startsWith(prefix)).map((vip) => vip.slice(prefix.length)).filter(wanted);
  }
  const addresses: string[] = [];
  for (const { workload } of view.endpointsOf(service).entries) {
    // Another network's addresses lead nowhere here, or to somebody else.
    const ip = workload.network === network ? workload.workloadIps.find(wanted) : undefined;
    if (ip !== undefined) addresses.push(ip);
  }
  return addresses;
}

/** Whether answers for the service come from its endpoints. */
export function isHeadless(service: Service): boolean {
  return service.vips.length === 0;
}

/**
 * The best service of a name that has an answer to give: a headless one outside the cluster's own domain has none that would be
 * better than what its own name servers say.
 */
function answering(view: MeshView, hostname: string, scope: DnsScope): Service | undefined {
  const services = view.servicesByHostname(hostname);
  if (services.length === 0) return undefined;
  const kubernetes = hostname.endsWith(`.svc.${scope.clusterDomain}`);
  const able = kubernetes ? services : services.filter((service) => !isHeadless(service));
  return bestService(able, scope.namespace, scope.preferredNamespace);
}

/** `pod.service.namespace.svc.cluster.local`, as pods of a StatefulSet call each other. */
function podOfHeadless(view: MeshView, alias: DnsAlias, scope: DnsScope, trace: DnsTrace): DnsMatch | undefined {
  const suffix = `.svc.${scope.clusterDomain}`;
  if (!alias.name.endsWith(suffix)) return undefined;
  const labels = alias.name.slice(0, -suffix.length).split(".");
  if (labels.length !== 3) return undefined;
  const [pod, , namespace] = labels;
  const hostname = alias.name.slice(pod.length + 1);
  trace.hostname(hostname);
  const service = view.serviceByKey(serviceKey(namespace, hostname));
  const visible = service !== undefined && bestService([service], scope.namespace) !== undefined;
  if (!visible || !isHeadless(service)) return undefined;
  trace.endpoints(service);
  for (const { workload } of view.endpointsOf(service).entries) {
    if (workload.name === pod && workload.namespace === namespace) return { kind: "pod", workload, service, alias };
  }
  return undefined;
}
