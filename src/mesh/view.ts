/** What decisions ask of a mesh, whole or in part. Every answer is the same whatever order the resources came in. */
import type { Endpoint, GatewayAddress, NetworkAddress, Service, ServiceKey, Workload, WorkloadUid } from "./types.ts";
import { canonicalIp } from "./ip.ts";
import { networkAddress, serviceKey } from "./types.ts";

/** What an ip belongs to. */
export type Address =
  | { readonly kind: "workload"; readonly workload: Workload }
  | { readonly kind: "service"; readonly service: Service };

/** A service's endpoints that may get traffic, by uid. One object until one of them changes: caches may hang on it. */
export interface EndpointSet {
  readonly entries: readonly EndpointEntry[];
}

export interface EndpointEntry {
  readonly endpoint: Endpoint;
  readonly workload: Workload;
}

export interface MeshView {
  /** A workload, else a service. `clientNamespace` undefined: visibility is not considered. */
  lookupAddress(network: string, ip: string, clientNamespace?: string): Address | undefined;
  /** The best of the workloads with this ip; none of host-network pods, which share their node's. */
  findWorkload(network: string, ip: string): Workload | undefined;
  /** The best service with this VIP, else with the longest range around it. */
  findService(network: string, ip: string, clientNamespace?: string): Service | undefined;
  serviceByKey(key: ServiceKey): Service | undefined;
  /** The best service of this name for a client. */
  serviceByHostname(hostname: string, clientNamespace?: string, preferredNamespace?: string): Service | undefined;
  /** All namespaces' services of this name, by key. */
  servicesByHostname(hostname: string): readonly Service[];
  workloadByUid(uid: WorkloadUid): Workload | undefined;
  /** By uid. */
  workloadsByHostname(hostname: string): readonly Workload[];
  endpointsOf(service: Service): EndpointSet;
}

/** What a gateway reference points to, taken apart. */
export type GatewayTarget =
  | { readonly kind: "address"; readonly network: string; readonly ip: string; readonly address: NetworkAddress }
  | { readonly kind: "hostname"; readonly namespace: string; readonly hostname: string; readonly key: ServiceKey };

/** A destination that is neither form reads as a hostname that nothing has, so that it is found unknown. */
export function gatewayTarget(gateway: GatewayAddress): GatewayTarget {
  const slash = gateway.destination.indexOf("/");
  const before = gateway.destination.slice(0, Math.max(slash, 0));
  const after = gateway.destination.slice(slash + 1);
  const ip = canonicalIp(after);
  if (ip !== undefined) return { kind: "address", network: before, ip, address: networkAddress(before, ip) };
  return { kind: "hostname", namespace: before, hostname: after, key: serviceKey(before, after) };
}

/** Workloads a gateway reference may mean when no service has its name, by uid. */
export function gatewayWorkloads(view: MeshView, namespace: string, hostname: string): readonly Workload[] {
  return view.workloadsByHostname(hostname).filter((workload) => workload.namespace === namespace);
}
