/**
 * The part of the mesh that decisions about one destination need, cut out of the whole, with the tokens of every change
 * that could alter them (store.ts). A store made of it decides as the whole one does: no lookup that a decision makes
 * may find less, and what it adds never outranks what the whole store would find.
 */
import type { Random } from "./balance.ts";
import { sampleEndpoints, WHOLE_ENDPOINTS } from "./endpoint_sample.ts";
import { mayHaveTraffic, type MeshStore } from "./store.ts";
import {
  type GatewayAddress,
  keyOfService,
  type MeshResources,
  networkAddress,
  type Service,
  type ServiceKey,
  type Workload,
  type WorkloadUid,
} from "./types.ts";
import { gatewayTarget } from "./view.ts";

export interface Closure {
  /** Cloneable; holds no policies. */
  readonly resources: MeshResources;
  readonly tokens: string[];
  /** Of a large service only some endpoints are there (endpoint_sample.ts): ask again now and then. */
  readonly sampled?: boolean;
}

/** What it takes to give only some of a large service's endpoints; without it all are given. */
export interface Sampling {
  /** Workloads of this node are always among them. */
  readonly nodeName: string;
  readonly random: Random;
}

/**
 * For connections to an ip, by clients of a namespace in a network (`resolveOutbound`), and for requests that name the ip
 * (`resolveInbound`, without a client namespace).
 */
export function closureFor(
  store: MeshStore,
  network: string,
  ip: string,
  clientNamespace?: string,
  sampling?: Sampling,
): Closure {
  const cut = new Cut(store, network, clientNamespace, sampling);
  const { workload, services } = cut.address(network, ip);
  for (const service of services) {
    cut.endpoints(service, true);
    cut.waypoints(service);
  }
  if (workload?.waypoint !== undefined) cut.gateway(workload.waypoint, true);
  return cut.closure();
}

/** For requests that name a service by hostname (`resolveInbound`): the service, and the local workload as its endpoint. */
export function closureForHostname(store: MeshStore, hostname: string, workload: Workload): Closure {
  const cut = new Cut(store, workload.network, workload.namespace);
  cut.token(`h:${hostname}`);
  for (const service of store.servicesByHostname(hostname)) cut.service(service);
  cut.workload(workload.uid);
  return cut.closure();
}

/** A local workload and the services it belongs to: what names the service of an inbound connection. */
export function closureForWorkload(store: MeshStore, workload: Workload): Closure {
  const cut = new Cut(store, workload.network, workload.namespace);
  cut.workload(workload.uid);
  for (const key of Object.keys(workload.services)) {
    cut.token(`s:${key}`);
    const service = store.serviceByKey(key as ServiceKey);
    if (service !== undefined) cut.service(service);
  }
  return cut.closure();
}

class Cut {
  readonly #store: MeshStore;
  readonly #network: string;
  readonly #clientNamespace: string | undefined;
  readonly #sampling: Sampling | undefined;
  #sampled = false;
  readonly #workloads = new Map<WorkloadUid, Workload>();
  readonly #services = new Map<ServiceKey, Service>();
  readonly #tokens = new Set<string>();
  /** Gateways followed, by destination and whether theirs were too. */
  readonly #gateways = new Set<string>();

  constructor(store: MeshStore, network: string, clientNamespace: string | undefined, sampling?: Sampling) {
    this.#store = store;
    this.#network = network;
    this.#clientNamespace = clientNamespace;
    this.#sampling = sampling;
  }

  closure(): Closure {
    return {
      resources: { workloads: [...this.#workloads.values()], services: [...this.#services.values()], policies: [] },
      tokens: [...this.#tokens],
      ...(this.#sampled ? { sampled: true } : {}),
    };
  }

  token(token: string): void {
    this.#tokens.add(token);
  }

  workload(uid: WorkloadUid): void {
    this.token(`w:${uid}`);
    const workload = this.#store.workloadByUid(uid);
    if (workload !== undefined) this.#workloads.set(uid, workload);
  }

  service(service: Service): void {
    const key = keyOfService(service);
    this.token(`s:${key}`);
    this.#services.set(key, service);
  }

  /** What an ip may belong to. Ranges matter only where no visible service has the ip as a VIP. */
  address(network: string, ip: string): { readonly workload: Workload | undefined; readonly services: Service[] } {
    this.token(`a:${networkAddress(network, ip)}`);
    const workload = this.#store.findWorkload(network, ip);
    if (workload !== undefined) this.#workloads.set(workload.uid, workload);
    if (this.#store.findServiceByVip(network, ip, this.#clientNamespace) === undefined) this.token("cidr");
    const service = this.#store.findService(network, ip, this.#clientNamespace);
    if (service === undefined) return { workload, services: [] };
    this.service(service);
    return { workload, services: [service] };
  }

  /** A change of an endpoint changes its services' tokens, so the workloads need none of their own. */
  endpoints(service: Service, followGateways: boolean): void {
    const { workloads, sampled } = endpointsFor(this.#store, service, this.#sampling);
    if (sampled) this.#sampled = true;
    for (const workload of workloads) {
      // One that is there for another reason is there as it is: with the share of many it would outweigh the others of a small service.
      if (!sampled || !this.#workloads.has(workload.uid)) this.#workloads.set(workload.uid, workload);
      if (followGateways) this.#networkGateway(workload);
    }
  }

  waypoints(service: Service): void {
    if (service.waypoint !== undefined) this.gateway(service.waypoint, true);
    for (const { destination, weight } of service.weightedWaypoints) {
      if (weight > 0) this.gateway(destination, true);
    }
  }

  /** `followGateways`: those of other networks that lead to this one's workloads. */
  gateway(gateway: GatewayAddress, followGateways: boolean): void {
    const visit = `${gateway.destination}${followGateways ? "+" : ""}`;
    if (this.#gateways.has(visit)) return;
    this.#gateways.add(visit);
    const target = gatewayTarget(gateway);
    if (target.kind === "address") {
      const { workload, services } = this.address(target.network, target.ip);
      if (workload !== undefined && followGateways) this.#networkGateway(workload);
      for (const service of services) this.endpoints(service, followGateways);
      return;
    }
    // Also tells when a service of that name appears.
    this.token(`h:${target.hostname}`);
    const service = this.#store.serviceByKey(target.key);
    if (service !== undefined) {
      this.service(service);
      this.endpoints(service, followGateways);
      return;
    }
    for (const workload of this.#store.workloadsByHostname(target.hostname)) {
      this.#workloads.set(workload.uid, workload);
      if (followGateways) this.#networkGateway(workload);
    }
  }

  #networkGateway(workload: Workload): void {
    if (workload.networkGateway === undefined || workload.network === this.#network) return;
    this.gateway(workload.networkGateway, false);
  }
}

/** A service's endpoints, or of too many some that stand for all. */
export function endpointsFor(
  store: MeshStore,
  service: Service,
  sampling: Sampling | undefined,
): { readonly workloads: Iterable<Workload>; readonly sampled: boolean } {
  const key = keyOfService(service);
  const all = store.workloadsOf(key);
  const endpoints = endpointsAmong(all.values(), service);
  if (sampling === undefined || all.size <= WHOLE_ENDPOINTS) return { workloads: endpoints, sampled: false };
  const { nodeName, random } = sampling;
  const isLocal = (workload: Workload) => workload.node === nodeName;
  return { workloads: sampleEndpoints(endpoints, key, isLocal, random), sampled: true };
}

function* endpointsAmong(workloads: Iterable<Workload>, service: Service): Generator<Workload> {
  for (const workload of workloads) {
    if (mayHaveTraffic(workload, service)) yield workload;
  }
}
