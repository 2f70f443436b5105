/**
 * The mesh as it is now, with every index that decisions need. Invariant: the indices say what the resources say, and no
 * answer depends on the order in which resources came. A change reports tokens, by which holders of answers
 * (closure.ts) know whether theirs may have changed.
 */
import { dumpPolicy, dumpService, dumpWorkload, type MeshDump } from "./config_dump.ts";
import { sameData } from "./equal.ts";
import { MultiIndex } from "./multi_index.ts";
import { PolicyIndex, type WorkloadPolicies } from "./policy_index.ts";
import { bestService, ServiceIndex } from "./service_index.ts";
import {
  type Authorization,
  type Endpoint,
  keyOfPolicy,
  keyOfService,
  type MeshResources,
  networkAddress,
  type PolicyKey,
  type Service,
  type ServiceKey,
  type Workload,
  type WorkloadUid,
} from "./types.ts";
import type { Address, EndpointSet, MeshView } from "./view.ts";

/** Upserts are applied before removals, as in one xDS response. */
export interface MeshChange {
  readonly upsert?: Partial<MeshResources>;
  readonly remove?: {
    readonly workloads?: readonly WorkloadUid[];
    readonly services?: readonly ServiceKey[];
    readonly policies?: readonly PolicyKey[];
  };
}

/**
 * What changed: `w:<uid>`, `s:<ns/host>` (the service, or one of its endpoints), `a:<network>/<ip>` (a workload's ip or an
 * exact VIP), `h:<hostname>` (a service or workload of this name), `cidr` (any range VIP), `p:<policy key>`. A resource
 * that is replaced by its equal changes nothing.
 */
export interface ChangeSet {
  readonly tokens: ReadonlySet<string>;
}

/** Which workload a local pod is. `node` undefined: any. */
export interface LocalPod {
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly name: string;
  readonly node?: string;
}

const NO_ENDPOINTS: EndpointSet = { entries: [] };

/** Endpoints of one service, known or not yet. `set` is made when asked for and dropped when one of them changes. */
interface EndpointBook {
  readonly byUid: Map<WorkloadUid, Endpoint>;
  set: EndpointSet | undefined;
}

export class MeshStore implements MeshView {
  readonly #workloads = new Map<WorkloadUid, Workload>();
  readonly #services = new Map<ServiceKey, Service>();
  readonly #policies = new PolicyIndex();
  readonly #serviceIndex = new ServiceIndex();
  readonly #endpoints = new Map<ServiceKey, EndpointBook>();
  readonly #workloadsByAddress = new MultiIndex<WorkloadUid, Workload>();
  readonly #workloadsByHostname = new MultiIndex<WorkloadUid, Workload>();
  readonly #workloadsByPod = new MultiIndex<WorkloadUid, Workload>();

  static fromResources(resources: MeshResources): MeshStore {
    const store = new MeshStore();
    store.apply({ upsert: resources });
    return store;
  }

  get size(): { readonly workloads: number; readonly services: number } {
    return { workloads: this.#workloads.size, services: this.#services.size };
  }

  apply(change: MeshChange): ChangeSet {
    const tokens = new Set<string>();
    for (const workload of change.upsert?.workloads ?? []) this.#putWorkload(workload, tokens);
    for (const service of change.upsert?.services ?? []) this.#putService(service, tokens);
    for (const policy of change.upsert?.policies ?? []) this.#putPolicy(policy, tokens);
    for (const uid of change.remove?.workloads ?? []) this.#removeWorkload(uid, tokens);
    for (const key of change.remove?.services ?? []) this.#removeService(key, tokens);
    for (const key of change.remove?.policies ?? []) this.#removePolicy(key, tokens);
    return { tokens };
  }

  /** Makes the mesh exactly this. Only what differs is touched. */
  replaceAll(resources: MeshResources): ChangeSet {
    const workloads = new Set(resources.workloads.map((workload) => workload.uid));
    const services = new Set(resources.services.map(keyOfService));
    const policies = new Set(resources.policies.map(keyOfPolicy));
    return this.apply({
      upsert: resources,
      remove: {
        workloads: [...this.#workloads.keys()].filter((uid) => !workloads.has(uid)),
        services: [...this.#services.keys()].filter((key) => !services.has(key)),
        policies: [...this.#policies.keys()].filter((key) => !policies.has(key)),
      },
    });
  }

  resources(): MeshResources {
    return {
      workloads: [...this.#workloads.values()],
      services: [...this.#services.values()],
      policies: [...this.#policies.values()],
    };
  }

  lookupAddress(network: string, ip: string, clientNamespace?: string): Address | undefined {
    const workload = this.findWorkload(network, ip);
    if (workload !== undefined) return { kind: "workload", workload };
    const service = this.findService(network, ip, clientNamespace);
    return service === undefined ? undefined : { kind: "service", service };
  }

  findWorkload(network: string, ip: string): Workload | undefined {
    const bucket = this.#workloadsByAddress.get(networkAddress(network, ip));
    return bucket === undefined ? undefined : preferredWorkload(bucket.values());
  }

  findService(network: string, ip: string, clientNamespace?: string): Service | undefined {
    return this.findServiceByVip(network, ip, clientNamespace) ??
      this.#serviceIndex.byRange(network, ip, clientNamespace);
  }

  /** Like `findService`, without ranges. */
  findServiceByVip(network: string, ip: string, clientNamespace?: string): Service | undefined {
    return this.#serviceIndex.byVip(network, ip, clientNamespace);
  }

  serviceByKey(key: ServiceKey): Service | undefined {
    return this.#services.get(key);
  }

  serviceByHostname(hostname: string, clientNamespace?: string, preferredNamespace?: string): Service | undefined {
    const services = this.#serviceIndex.byHostname(hostname);
    return services === undefined ? undefined : bestService(services.values(), clientNamespace, preferredNamespace);
  }

  servicesByHostname(hostname: string): readonly Service[] {
    return sortedValues(this.#serviceIndex.byHostname(hostname));
  }

  workloadByUid(uid: WorkloadUid): Workload | undefined {
    return this.#workloads.get(uid);
  }

  workloadsByHostname(hostname: string): readonly Workload[] {
    return sortedValues(this.#workloadsByHostname.get(hostname));
  }

  /** The workload record of a pod on this node. */
  localWorkload(pod: LocalPod): Workload | undefined {
    const bucket = this.#workloadsByPod.get(podKey(pod.namespace, pod.serviceAccount, pod.name));
    for (const workload of sortedValues(bucket)) {
      if (pod.node === undefined || workload.node === pod.node) return workload;
    }
    return undefined;
  }

  endpointsOf(service: Service): EndpointSet {
    const book = this.#endpoints.get(keyOfService(service));
    if (book === undefined) return NO_ENDPOINTS;
    book.set ??= this.#endpointSet(service, book);
    return book.set;
  }

  /** Policies that apply to a workload, and the ones it names that are missing. */
  policiesFor(workload: Workload): WorkloadPolicies {
    return this.#policies.policiesFor(workload);
  }

  /** The lists of `/config_dump`, sorted. */
  configDump(): MeshDump {
    const stagedServices: Record<string, Record<string, Endpoint>> = {};
    for (const key of [...this.#endpoints.keys()].sort()) {
      if (this.#services.has(key)) continue;
      stagedServices[key] = Object.fromEntries(sortedEntries(this.#endpoints.get(key)!.byUid));
    }
    return {
      workloads: sortedValues(this.#workloads).map(dumpWorkload),
      services: [...this.#services.values()]
        .sort((a, b) => compare(a.hostname, b.hostname) || compare(a.namespace, b.namespace))
        .map((service) => dumpService(service, this.endpointsOf(service))),
      policies: [...this.#policies.values()].sort((a, b) => compare(keyOfPolicy(a), keyOfPolicy(b))).map(dumpPolicy),
      stagedServices,
    };
  }

  #putWorkload(workload: Workload, tokens: Set<string>): void {
    const old = this.#workloads.get(workload.uid);
    if (old !== undefined) {
      if (sameData(old, workload)) return;
      this.#unfileWorkload(old, tokens);
    }
    this.#workloads.set(workload.uid, workload);
    for (const address of addressesOf(workload)) this.#workloadsByAddress.set(address, workload.uid, workload);
    if (workload.hostname !== "") this.#workloadsByHostname.set(workload.hostname, workload.uid, workload);
    this.#workloadsByPod.set(podKeyOf(workload), workload.uid, workload);
    for (const [key, port] of servicesOf(workload)) {
      const book = this.#endpoints.get(key) ?? { byUid: new Map(), set: undefined };
      book.byUid.set(workload.uid, { workloadUid: workload.uid, port, status: workload.status });
      book.set = undefined;
      this.#endpoints.set(key, book);
    }
    addWorkloadTokens(workload, tokens);
  }

  #removeWorkload(uid: WorkloadUid, tokens: Set<string>): void {
    const old = this.#workloads.get(uid);
    if (old === undefined) return;
    this.#workloads.delete(uid);
    this.#unfileWorkload(old, tokens);
  }

  #unfileWorkload(workload: Workload, tokens: Set<string>): void {
    for (const address of addressesOf(workload)) this.#workloadsByAddress.delete(address, workload.uid);
    if (workload.hostname !== "") this.#workloadsByHostname.delete(workload.hostname, workload.uid);
    this.#workloadsByPod.delete(podKeyOf(workload), workload.uid);
    for (const [key] of servicesOf(workload)) {
      const book = this.#endpoints.get(key);
      if (book === undefined) continue;
      book.byUid.delete(workload.uid);
      book.set = undefined;
      if (book.byUid.size === 0) this.#endpoints.delete(key);
    }
    addWorkloadTokens(workload, tokens);
  }

  #putService(service: Service, tokens: Set<string>): void {
    const key = keyOfService(service);
    const old = this.#services.get(key);
    if (old !== undefined) {
      if (sameData(old, service)) return;
      this.#serviceIndex.delete(old);
      addServiceTokens(old, tokens);
    }
    this.#services.set(key, service);
    this.#serviceIndex.add(service);
    this.#forgetEndpointSet(key);
    addServiceTokens(service, tokens);
  }

  #removeService(key: ServiceKey, tokens: Set<string>): void {
    const old = this.#services.get(key);
    if (old === undefined) return;
    this.#services.delete(key);
    this.#serviceIndex.delete(old);
    this.#forgetEndpointSet(key);
    addServiceTokens(old, tokens);
  }

  #putPolicy(policy: Authorization, tokens: Set<string>): void {
    const key = keyOfPolicy(policy);
    if (sameData(this.#policies.get(key), policy)) return;
    this.#policies.set(policy);
    tokens.add(`p:${key}`);
  }

  #removePolicy(key: PolicyKey, tokens: Set<string>): void {
    if (this.#policies.get(key) === undefined) return;
    this.#policies.delete(key);
    tokens.add(`p:${key}`);
  }

  /** The service's health policy decides which endpoints are in the set. */
  #forgetEndpointSet(key: ServiceKey): void {
    const book = this.#endpoints.get(key);
    if (book !== undefined) book.set = undefined;
  }

  #endpointSet(service: Service, book: EndpointBook): EndpointSet {
    const all = service.loadBalancer?.healthPolicy === "AllowAll";
    const entries = [];
    for (const endpoint of sortedValues(book.byUid)) {
      const workload = this.#workloads.get(endpoint.workloadUid);
      if (workload !== undefined && (all || endpoint.status === "Healthy")) entries.push({ endpoint, workload });
    }
    return { entries };
  }
}

/** Several workloads may share an ip: a pod is preferred, then one that speaks HBONE, then the first by uid. */
function preferredWorkload(workloads: Iterable<Workload>): Workload | undefined {
  let best: Workload | undefined;
  let bestWeight = -1;
  for (const workload of workloads) {
    const weight = (workload.uid.includes("//Pod/") ? 2 : 0) + (workload.protocol === "HBONE" ? 1 : 0);
    if (best === undefined || weight > bestWeight || (weight === bestWeight && workload.uid < best.uid)) {
      best = workload;
      bestWeight = weight;
    }
  }
  return best;
}

/** A host-network pod is not to be found by its node's ip. */
function addressesOf(workload: Workload): readonly string[] {
  if (workload.networkMode === "HostNetwork") return [];
  return workload.workloadIps.map((ip) => networkAddress(workload.network, ip));
}

function servicesOf(workload: Workload): [ServiceKey, Workload["services"][ServiceKey]][] {
  return Object.entries(workload.services) as [ServiceKey, Workload["services"][ServiceKey]][];
}

/** No part of a pod's identity may hold a zero character. */
function podKey(namespace: string, serviceAccount: string, name: string): string {
  return `${namespace}\0${serviceAccount}\0${name}`;
}

function podKeyOf(workload: Workload): string {
  return podKey(workload.namespace, workload.serviceAccount, workload.name);
}

function addWorkloadTokens(workload: Workload, tokens: Set<string>): void {
  tokens.add(`w:${workload.uid}`);
  for (const address of addressesOf(workload)) tokens.add(`a:${address}`);
  if (workload.hostname !== "") tokens.add(`h:${workload.hostname}`);
  for (const key in workload.services) tokens.add(`s:${key}`);
}

function addServiceTokens(service: Service, tokens: Set<string>): void {
  tokens.add(`s:${keyOfService(service)}`);
  tokens.add(`h:${service.hostname}`);
  for (const vip of service.vips) tokens.add(`a:${vip}`);
  if (service.cidrVips.length > 0) tokens.add("cidr");
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function sortedEntries<Value>(map: ReadonlyMap<string, Value>): [string, Value][] {
  return [...map].sort((a, b) => compare(a[0], b[0]));
}

function sortedValues<Value>(map: ReadonlyMap<string, Value> | undefined): Value[] {
  return map === undefined ? [] : sortedEntries(map).map((entry) => entry[1]);
}
