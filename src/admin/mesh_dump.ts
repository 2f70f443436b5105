/**
 * The mesh's part of `/config_dump`, made while it is written: sorted and rendered in slices, from the resources as they were
 * when it was asked for. Resources are immutable, so what changes meanwhile does not tear one.
 */
import { dumpPolicy, dumpService, dumpWorkload } from "../mesh/config_dump.ts";
import {
  type Authorization,
  type Endpoint,
  type EndpointSet,
  keyOfPolicy,
  keyOfService,
  type MeshResources,
  type Service,
  type ServiceKey,
  type Workload,
  type WorkloadUid,
} from "../mesh/mod.ts";
import { LazyArray, LazyObject, sortedInSlices, TICK } from "./json_stream.ts";

/** What is asked of the store. */
export interface MeshDumpSource {
  resources(): MeshResources;
  /** Workloads of a service, healthy or not. */
  workloadsOf(key: ServiceKey): ReadonlyMap<WorkloadUid, Workload>;
  /** Endpoints of services that are not known, by service key. */
  stagedEndpoints(): Iterable<readonly [string, Iterable<Endpoint>]>;
}

/** The lists of a dump. They can be gone through once or more often. */
export interface LazyMeshDump {
  readonly workloads: LazyArray;
  readonly services: LazyArray;
  readonly policies: LazyArray;
  readonly stagedServices: LazyObject;
}

const NO_ENDPOINTS: EndpointSet = { entries: [] };

export function lazyMeshDump(source: MeshDumpSource): LazyMeshDump {
  const { workloads, services, policies } = source.resources();
  const staged = [...source.stagedEndpoints()];
  return {
    workloads: new LazyArray(() => mapped(sortedInSlices(workloads, byUid), dumpWorkload)),
    services: new LazyArray(() =>
      mapped(sortedInSlices(services, byHostname), (service) => lazyService(source, service))
    ),
    policies: new LazyArray(() => mapped(sortedInSlices(policies, byKey), dumpPolicy)),
    stagedServices: new LazyObject(() =>
      mapped(
        sortedInSlices(staged, (a, b) => compare(a[0], b[0])),
        ([key, endpoints]) => [key, lazyEndpoints(endpoints)] as const,
      )
    ),
  };
}

/** Endpoints that get no traffic are left out, as in ztunnel. */
function lazyService(source: MeshDumpSource, service: Service): Record<string, unknown> {
  const key = keyOfService(service);
  const all = service.loadBalancer?.healthPolicy === "AllowAll";
  return {
    ...dumpService(service, NO_ENDPOINTS),
    endpoints: new LazyObject(function* () {
      for (const workload of sortedInSlices([...source.workloadsOf(key).values()], byUid)) {
        if (workload === TICK || all || (workload as Workload).status === "Healthy") yield endpointEntry(workload, key);
      }
    }),
  };
}

function endpointEntry(workload: Workload | typeof TICK, key: ServiceKey) {
  if (workload === TICK) return TICK;
  const { uid, services, status } = workload as Workload;
  const endpoint: Endpoint = { workloadUid: uid, port: services[key], status };
  return [uid, endpoint] as const;
}

function lazyEndpoints(endpoints: Iterable<Endpoint>): LazyObject {
  return new LazyObject(() =>
    mapped(
      sortedInSlices([...endpoints], (a, b) => compare(a.workloadUid, b.workloadUid)),
      (endpoint) => [endpoint.workloadUid, endpoint] as const,
    )
  );
}

function* mapped<T, R>(items: Iterable<T | typeof TICK>, render: (item: T) => R): Generator<R | typeof TICK> {
  for (const item of items) yield item === TICK ? TICK : render(item as T);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function byUid(a: Workload, b: Workload): number {
  return compare(a.uid, b.uid);
}

function byHostname(a: Service, b: Service): number {
  return compare(a.hostname, b.hostname) || compare(a.namespace, b.namespace);
}

function byKey(a: Authorization, b: Authorization): number {
  return compare(keyOfPolicy(a), keyOfPolicy(b));
}
