/** Resources as `/config_dump` shows them, in ztunnel's shape: what istioctl's `ztunnel-config` reads. Defaults are left out. */
import type { Authorization, Endpoint, Match, Service, Workload } from "./types.ts";
import type { EndpointSet } from "./view.ts";

type Json = Readonly<Record<string, unknown>>;

export interface MeshDump {
  /** By uid. */
  readonly workloads: readonly Json[];
  /** By hostname. */
  readonly services: readonly Json[];
  /** By key. */
  readonly policies: readonly Json[];
  /** Endpoints of services that are not known, by service key and uid. */
  readonly stagedServices: Readonly<Record<string, Readonly<Record<string, Endpoint>>>>;
}

export function dumpWorkload(workload: Workload): Json {
  const { region, zone, subzone } = workload.locality;
  const tunnel = workload.applicationTunnel;
  return {
    workloadIps: workload.workloadIps,
    ...optional("waypoint", workload.waypoint),
    ...optional("networkGateway", workload.networkGateway),
    protocol: workload.protocol,
    networkMode: workload.networkMode,
    ...optional("uid", workload.uid),
    name: workload.name,
    namespace: workload.namespace,
    ...optional("trustDomain", workload.trustDomain),
    ...optional("serviceAccount", workload.serviceAccount),
    ...optional("network", workload.network),
    ...optional("workloadName", workload.workloadName),
    ...optional("workloadType", workload.workloadType),
    ...optional("canonicalName", workload.canonicalName),
    ...optional("canonicalRevision", workload.canonicalRevision),
    ...optional("hostname", workload.hostname),
    ...optional("node", workload.node),
    ...optional("nativeTunnel", workload.nativeTunnel),
    ...(tunnel === undefined ? {} : { applicationTunnel: { protocol: tunnel.protocol, port: tunnel.port ?? null } }),
    ...optional("authorizationPolicies", workload.authorizationPolicies),
    status: workload.status,
    clusterId: workload.clusterId,
    ...(region || zone || subzone ? { locality: workload.locality } : {}),
    ...optional("services", Object.keys(workload.services).sort()),
    capacity: workload.capacity,
  };
}

export function dumpService(service: Service, endpoints: EndpointSet): Json {
  return {
    name: service.name,
    namespace: service.namespace,
    hostname: service.hostname,
    vips: service.vips,
    ...optional("cidrVips", service.cidrVips),
    ports: service.ports,
    endpoints: Object.fromEntries(endpoints.entries.map(({ endpoint }) => [endpoint.workloadUid, endpoint])),
    subjectAltNames: service.subjectAltNames,
    ...optional("waypoint", service.waypoint),
    ...optional("weightedWaypoints", service.weightedWaypoints),
    ...optional("loadBalancer", service.loadBalancer),
    ...optional("ipFamilies", service.ipFamilies),
    canonical: service.canonical,
    visibility: service.visibility,
  };
}

export function dumpPolicy(policy: Authorization): Json {
  return {
    name: policy.name,
    namespace: policy.namespace,
    scope: policy.scope,
    action: policy.action,
    rules: policy.rules.map((rule) => rule.map((clause) => clause.map(dumpMatch))),
    dryRun: policy.dryRun,
  };
}

function dumpMatch(match: Match): Json {
  return Object.fromEntries(Object.entries(match).filter(([, list]) => list !== undefined && list.length > 0));
}

/** The field, unless it has its default: nothing, "", false or an empty list. */
function optional(name: string, value: unknown): Json {
  const isDefault = value === undefined || value === "" || value === false ||
    (Array.isArray(value) && value.length === 0);
  return isDefault ? {} : { [name]: value };
}
