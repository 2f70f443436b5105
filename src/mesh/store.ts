/**
 * The mesh as it is now, with every index that decisions need. Invariant: the indices say what the resources say, and no
 * answer depends on the order in which resources came. A change reports tokens, by which holders of answers
 * (closure.ts) know whether theirs may have changed.
 */
import { Changes, type ChangeSet, isFoundByIp, type MeshChange } from "./changes.ts";
import { dumpPolicy, dumpService, dumpWorkload, type MeshDump } from "./config_dump.ts";
import { sameData } from "./equal.ts";
import { MultiIndex } from "./multi_index.ts";
import { PolicyIndex, type PolicyPlace, type WorkloadPolicies } from "./policy_index.ts";
import { bestService, ServiceIndex } from "./service_index.ts";
import {
  type Authorization,
  type Endpoint,
  keyOfPolicy,
  keyOfService,
  type MeshResources,
  type PolicyKey,
  type Service,
  type ServiceKey,
  type Workload,
  type WorkloadUid,
} from "./types.ts";
import type { Address, EndpointSet, MeshView } from "./view.ts";

/** Which workload a local pod is. `node` undefined: any. */
export interface LocalPod {
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly name: string;
  readonly node?: string;
}

const NO_ENDPOINTS: EndpointSet = { entries: [] };
const NO_WORKLOADS: ReadonlyMap<WorkloadUid, Workload> = new Map();

/** Endpoints of one service, known or not yet. `set` is made when asked for and dropped when one of them changes. */
interface EndpointBook {
  readonly byUid: Map<WorkloadUid, Workload>;
  set: EndpointSet | undefined;
}

const uidOf = (workload: Workload) => workload.uid;

export class MeshStore implements MeshView {
  readonly #workloads = new Map<WorkloadUid, Workload>();
  readonly #services = new Map<ServiceKey, Service>();
  readonly #policies = new PolicyIndex();
  readonly #serviceIndex = new ServiceIndex();
  readonly #endpoints = new Map<ServiceKey, EndpointBook>();
  /** By ip alone: it is hardly ever there in two networks, and the text is the workload's own. */
  readonly #workloadsByIp = new MultiIndex(uidOf);
  readonly #workloadsByHostname = new MultiIndex(uidOf);
  /** By name alone, for the same reason; only those that `localWorkload` may be asked for. */
  readonly #workloadsByName = new MultiIndex(uidOf);
  readonly #nodeName: string | undefined;

  /** `nodeName`: pods of other nodes are never asked for by `localWorkload`. */
  constructor(nodeName?: string) {
    this.#nodeName = nodeName;
  }

  static fromResources(resources: MeshResources): MeshStore {
    const store = new MeshStore();
    store.apply({ upsert: resources });
    return store;
  }

  get size(): { readonly workloads: number; readonly services: number } {
    return { workloads: this.#workloads.size, services: this.#services.size };
  }

  /** `changes` gathers what this touches, besides what it holds already. */
  apply(change: MeshChange, changes: Changes = new Changes()): ChangeSet {
    const { upsert, remove, unreadable } = change;
    if (upsert?.workloads) { for (const workload of upsert.workloads) this.#putWorkload(workload, changes); }
    if (upsert?.services) { for (const service of upsert.services) this.#putService(service, changes); }
    if (upsert?.policies) { for (const policy of upsert.policies) this.#putPolicy(policy, changes); }
    if (unreadable) { for (const policy of unreadable) this.#putUnreadable(policy, changes); }
    if (remove?.workloads) { for (const uid of remove.workloads) this.#removeWorkload(uid, changes); }
    if (remove?.services) { for (const key of remove.services) this.#removeService(key, changes); }
    if (remove?.policies) { for (const key of remove.policies) this.#removePolicy(key, changes); }
    return changes;
  }

  /** Makes the mesh exactly this. Only what differs is touched. */
  replaceAll(resources: MeshResources, changes: Changes = new Changes()): ChangeSet {
    const workloads = new Set(resources.workloads.map((workload) => workload.uid));
    const services = new Set(resources.services.map(keyOfService));
    const policies = new Set(resources.policies.map(keyOfPolicy));
    return this.apply({
      upsert: resources,
      remove: {
        workloads: [...this.#workloads.keys()].filter((uid) => !workloads.has(uid)),
        services: [...this.#services.keys()].filter((key) => !services.has(key)),
        policies: this.#policies.keys().filter((key) => !policies.has(key)),
      },
    }, changes);
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
    return preferredWorkload(this.#workloadsByIp.values(ip), network);
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
    return bestService(this.#serviceIndex.byHostname(hostname), clientNamespace, preferredNamespace);
  }

  servicesByHostname(hostname: string): readonly Service[] {
    return sortedBy(this.#serviceIndex.byHostname(hostname), keyOfService);
  }

  workloadByUid(uid: WorkloadUid): Workload | undefined {
    return this.#workloads.get(uid);
  }

  workloadsByHostname(hostname: string): readonly Workload[] {
    return sortedBy(this.#workloadsByHostname.values(hostname), uidOf);
  }

  /** The workload record of a pod on this node. */
  localWorkload(pod: LocalPod): Workload | undefined {
    let first: Workload | undefined;
    for (const workload of this.#workloadsByName.values(pod.name)) {
      if (workload.namespace !== pod.namespace || workload.serviceAccount !== pod.serviceAccount) continue;
      if (pod.node !== undefined && workload.node !== pod.node) continue;
      if (first === undefined || workload.uid < first.uid) first = workload;
    }
    return first;
  }

  endpointsOf(service: Service): EndpointSet {
    const book = this.#endpoints.get(keyOfService(service));
    if (book === undefined) return NO_ENDPOINTS;
    book.set ??= this.#endpointSet(service, book);
    return book.set;
  }

  /** Workloads of a service, healthy or not, by uid in no order; also of a service that is not known. */
  workloadsOf(key: ServiceKey): ReadonlyMap<WorkloadUid, Workload> {
    return this.#endpoints.get(key)?.byUid ?? NO_WORKLOADS;
  }

  policy(key: PolicyKey): Authorization | undefined {
    return this.#policies.get(key);
  }

  /** Policies that apply to a workload, and the ones it names that are missing. */
  policiesFor(workload: Workload): WorkloadPolicies {
    return this.#policies.policiesFor(workload);
  }

  /** Endpoints of services that are not known, by service key, in no order. */
  *stagedEndpoints(): Generator<readonly [ServiceKey, readonly Endpoint[]]> {
    for (const [key, book] of this.#endpoints) {
      if (!this.#services.has(key)) yield [key, [...book.byUid.values()].map((workload) => endpointOf(workload, key))];
    }
  }

  /** The lists of `/config_dump`, sorted. */
  configDump(): MeshDump {
    const stagedServices: Record<string, Record<string, Endpoint>> = {};
    for (const key of [...this.#endpoints.keys()].sort()) {
      if (this.#services.has(key)) continue;
      const workloads = sortedBy(this.#endpoints.get(key)!.byUid.values(), uidOf);
      stagedServices[key] = Object.fromEntries(workloads.map((workload) => [workload.uid, endpointOf(workload, key)]));
    }
    return {
      workloads: sortedBy(this.#workloads.values(), uidOf).map(dumpWorkload),
      services: [...this.#services.values()]
        .sort((a, b) => compare(a.hostname, b.hostname) || compare(a.namespace, b.namespace))
        .map((service) => dumpService(service, this.endpointsOf(service))),
      policies: [...this.#policies.values()].sort((a, b) => compare(keyOfPolicy(a), keyOfPolicy(b))).map(dumpPolicy),
      stagedServices,
    };
  }

  #putWorkload(workload: Workload, changes: Changes): void {
    const old = this.#workloads.get(workload.uid);
    if (old !== undefined) {
      if (sameData(old, workload)) return;
      this.#unfileWorkload(old, changes);
    }
    this.#workloads.set(workload.uid, workload);
    if (isFoundByIp(workload)) { for (const ip of workload.workloadIps) this.#workloadsByIp.set(ip, workload); }
    if (workload.hostname !== "") this.#workloadsByHostname.set(workload.hostname, workload);
    if (this.#isLocal(workload)) this.#workloadsByName.set(workload.name, workload);
    for (const key in workload.services) {
      const book = this.#endpoints.get(key as ServiceKey);
      if (book === undefined) {
        this.#endpoints.set(key as ServiceKey, { byUid: new Map([[workload.uid, workload]]), set: undefined });
      } else {
        book.byUid.set(workload.uid, workload);
        book.set = undefined;
      }
    }
    changes.workloadsAfter.push(workload);
  }

  #isLocal(workload: Workload): boolean {
    return this.#nodeName === undefined || workload.node === this.#nodeName;
  }

  #removeWorkload(uid: WorkloadUid, changes: Changes): void {
    const old = this.#workloads.get(uid);
    if (old === undefined) return;
    this.#workloads.delete(uid);
    this.#unfileWorkload(old, changes);
  }

  #unfileWorkload(workload: Workload, changes: Changes): void {
    const { uid } = workload;
    if (isFoundByIp(workload)) { for (const ip of workload.workloadIps) this.#workloadsByIp.delete(ip, uid); }
    if (workload.hostname !== "") this.#workloadsByHostname.delete(workload.hostname, uid);
    if (this.#isLocal(workload)) this.#workloadsByName.delete(workload.name, uid);
    for (const key in workload.services) {
      const book = this.#endpoints.get(key as ServiceKey);
      if (book === undefined) continue;
      book.byUid.delete(uid);
      book.set = undefined;
      if (book.byUid.size === 0) this.#endpoints.delete(key as ServiceKey);
    }
    changes.workloadsBefore.push(workload);
  }

  #putService(service: Service, changes: Changes): void {
    const key = keyOfService(service);
    const old = this.#services.get(key);
    if (old !== undefined) {
      if (sameData(old, service)) return;
      this.#serviceIndex.delete(old);
      changes.services.push(old);
    }
    this.#services.set(key, service);
    this.#serviceIndex.add(service);
    this.#forgetEndpointSet(key);
    changes.services.push(service);
  }

  #removeService(key: ServiceKey, changes: Changes): void {
    const old = this.#services.get(key);
    if (old === undefined) return;
    this.#services.delete(key);
    this.#serviceIndex.delete(old);
    this.#forgetEndpointSet(key);
    changes.services.push(old);
  }

  #putPolicy(policy: Authorization, changes: Changes): void {
    const key = keyOfPolicy(policy);
    const old = this.#policies.get(key);
    if (sameData(old, policy)) return;
    this.#notePolicy(key, changes);
    this.#policies.set(policy);
    changes.policies.push({ key, namespace: policy.namespace, scope: policy.scope });
  }

  #putUnreadable(policy: PolicyPlace, changes: Changes): void {
    if (this.#policies.get(policy.key) !== undefined || sameData(this.#policies.unreadable(policy.key), policy)) return;
    this.#notePolicy(policy.key, changes);
    this.#policies.setUnreadable(policy);
    changes.policies.push(policy);
  }

  #removePolicy(key: PolicyKey, changes: Changes): void {
    if (!this.#notePolicy(key, changes)) return;
    this.#policies.delete(key);
  }

  /** Notes what is about to be replaced; false when there is nothing. */
  #notePolicy(key: PolicyKey, changes: Changes): boolean {
    const old = this.#policies.get(key);
    const unreadable = this.#policies.unreadable(key);
    if (old !== undefined) changes.policies.push({ key, namespace: old.namespace, scope: old.scope });
    if (unreadable !== undefined) changes.policies.push(unreadable);
    return old !== undefined || unreadable !== undefined;
  }

  /** The service's health policy decides which endpoints are in the set. */
  #forgetEndpointSet(key: ServiceKey): void {
    const book = this.#endpoints.get(key);
    if (book !== undefined) book.set = undefined;
  }

  #endpointSet(service: Service, book: EndpointBook): EndpointSet {
    const key = keyOfService(service);
    const entries = [];
    for (const workload of sortedBy(book.byUid.values(), uidOf)) {
      if (mayHaveTraffic(workload, service)) entries.push({ endpoint: endpointOf(workload, key), workload });
    }
    return { entries };
  }
}

/** Whether a service's health policy lets its workload be an endpoint. */
export function mayHaveTraffic(workload: Workload, service: Service): boolean {
  return workload.status === "Healthy" || service.loadBalancer?.healthPolicy === "AllowAll";
}

function endpointOf(workload: Workload, key: ServiceKey): Endpoint {
  return { workloadUid: workload.uid, port: workload.services[key], status: workload.status };
}

/** Several workloads may share an ip: a pod is preferred, then one that speaks HBONE, then the first by uid. */
function preferredWorkload(workloads: Iterable<Workload>, network: string): Workload | undefined {
  let best: Workload | undefined;
  let bestWeight = -1;
  for (const workload of workloads) {
    if (workload.network !== network) continue;
    const weight = (workload.uid.includes("//Pod/") ? 2 : 0) + (workload.protocol === "HBONE" ? 1 : 0);
    if (best === undefined || weight > bestWeight || (weight === bestWeight && workload.uid < best.uid)) {
      best = workload;
      bestWeight = weight;
    }
  }
  return best;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function sortedBy<Value>(values: Iterable<Value>, keyOf: (value: Value) => string): Value[] {
  return [...values].sort((a, b) => compare(keyOf(a), keyOf(b)));
}
