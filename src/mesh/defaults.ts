/**
 * Resources from the fields that matter, with the defaults of the istio.workload and istio.security protobufs for
 * the rest. Every resource is made here, so that all have the same shape.
 */
import { type Authorization, type Service, type Workload, workloadUid } from "./types.ts";

export const DEFAULT_TRUST_DOMAIN = "cluster.local";
export const DEFAULT_SERVICE_ACCOUNT = "default";
export const DEFAULT_CLUSTER_ID = "Kubernetes";

type Fields<T, Required extends keyof T> = Pick<T, Required> & Partial<T>;

/** `uid` defaults to what istiod gives a pod of this name: `cluster//Pod/namespace/name`. */
export function createWorkload(fields: Fields<Workload, "name" | "namespace">): Workload {
  const clusterId = fields.clusterId || DEFAULT_CLUSTER_ID;
  return {
    uid: fields.uid || workloadUid(`${clusterId}//Pod/${fields.namespace}/${fields.name}`),
    name: fields.name,
    namespace: fields.namespace,
    workloadIps: fields.workloadIps ?? [],
    network: fields.network ?? "",
    protocol: fields.protocol ?? "TCP",
    networkMode: fields.networkMode ?? "Standard",
    trustDomain: fields.trustDomain || DEFAULT_TRUST_DOMAIN,
    serviceAccount: fields.serviceAccount || DEFAULT_SERVICE_ACCOUNT,
    waypoint: fields.waypoint,
    networkGateway: fields.networkGateway,
    workloadName: fields.workloadName ?? "",
    workloadType: fields.workloadType ?? "",
    canonicalName: fields.canonicalName ?? "",
    canonicalRevision: fields.canonicalRevision ?? "",
    hostname: fields.hostname ?? "",
    node: fields.node ?? "",
    nativeTunnel: fields.nativeTunnel ?? false,
    applicationTunnel: fields.applicationTunnel,
    authorizationPolicies: fields.authorizationPolicies ?? [],
    status: fields.status ?? "Healthy",
    clusterId,
    locality: fields.locality ?? { region: "", zone: "", subzone: "" },
    services: fields.services ?? {},
    capacity: fields.capacity ?? 1,
  };
}

export function createService(fields: Fields<Service, "name" | "namespace" | "hostname">): Service {
  return {
    name: fields.name,
    namespace: fields.namespace,
    hostname: fields.hostname,
    vips: fields.vips ?? [],
    cidrVips: fields.cidrVips ?? [],
    ports: fields.ports ?? {},
    subjectAltNames: fields.subjectAltNames ?? [],
    waypoint: fields.waypoint,
    weightedWaypoints: fields.weightedWaypoints ?? [],
    loadBalancer: fields.loadBalancer,
    ipFamilies: fields.ipFamilies,
    canonical: fields.canonical ?? false,
    visibility: fields.visibility ?? "Public",
  };
}

export function createPolicy(fields: Fields<Authorization, "name" | "namespace" | "scope" | "action">): Authorization {
  return {
    name: fields.name,
    namespace: fields.namespace,
    scope: fields.scope,
    action: fields.action,
    rules: fields.rules ?? [],
    dryRun: fields.dryRun ?? false,
  };
}
