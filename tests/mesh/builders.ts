/** A small mesh by hand: short names for the resources the tests need. */
import {
  createPolicy,
  createService,
  createWorkload,
  type GatewayAddress,
  MeshStore,
  type NetworkAddress,
  type OutboundRequest,
  type Service,
  type ServiceKey,
  type Workload,
} from "../../src/mesh/mod.ts";

/** `ports`: service key (namespace/hostname) to the endpoint's own port map. */
export function pod(name: string, ips: readonly string[], fields: Partial<Workload> = {}): Workload {
  return createWorkload({
    name,
    namespace: "default",
    workloadIps: ips,
    workloadName: name,
    canonicalName: name,
    protocol: "HBONE",
    serviceAccount: name,
    ...fields,
  });
}

export function service(name: string, vips: readonly string[], fields: Partial<Service> = {}): Service {
  const namespace = fields.namespace ?? "default";
  return createService({
    name,
    namespace,
    hostname: `${name}.${namespace}.svc`,
    vips: vips.map((vip) => (vip.includes("/") ? vip : `/${vip}`) as NetworkAddress),
    ports: { 80: 8080 },
    ...fields,
  });
}

export const policy = createPolicy;

export function gateway(destination: string, hboneMtlsPort = 15008): GatewayAddress {
  return { destination, hboneMtlsPort };
}

/** Membership in services named as `service` names them. */
export function endpointOf(...names: readonly string[]): { readonly services: Workload["services"] } {
  return { services: Object.fromEntries(names.map((name) => [`default/${name}.default.svc`, {}])) };
}

export function key(text: string): ServiceKey {
  return text as ServiceKey;
}

export function mesh(workloads: readonly Workload[], services: readonly Service[] = []): MeshStore {
  return MeshStore.fromResources({ workloads, services, policies: [] });
}

export const client = pod("client", ["10.0.0.1"]);

export function request(target: string, from: Workload = client): OutboundRequest {
  const colon = target.lastIndexOf(":");
  return {
    network: from.network,
    target: { ip: target.slice(0, colon), port: Number(target.slice(colon + 1)) },
    client: { workload: from, ip: from.workloadIps[0] },
    ipv6Enabled: true,
  };
}

/** Gives the numbers in turn, then the last one for ever. */
export function sequence(...numbers: readonly number[]): () => number {
  let next = 0;
  return () => numbers[Math.min(next++, numbers.length - 1)];
}
