/** `/clusters`, as text and as envoy.admin.v3.Clusters: every endpoint that is configured, with what the workers count of it. */
import type { WorkerCounts } from "../telemetry/worker_counts.ts";
import type { ClusterSpec, EndpointSpec, LocalityEndpointsSpec } from "../spec/mod.ts";
import type { WorkerReport } from "../worker/messages.ts";
import type { ConfigView } from "./config_view.ts";

interface HostView {
  readonly endpoint: EndpointSpec;
  readonly locality: LocalityEndpointsSpec;
  readonly counters: Readonly<Record<string, number>>;
  readonly isEjected: boolean;
}

interface ClusterView {
  readonly cluster: ClusterSpec;
  readonly hosts: readonly HostView[];
}

const GAUGES = new Set(["cx_active", "rq_active"]);
const COUNTERS = [
  "cx_active",
  "cx_connect_fail",
  "cx_total",
  "rq_active",
  "rq_error",
  "rq_success",
  "rq_timeout",
  "rq_total",
];

function* clusterViews(view: ConfigView, reports: readonly WorkerReport[]): Generator<ClusterView> {
  const counted = hostCounts(reports);
  for (const cluster of view.clusters.values()) {
    const own = counted.get(cluster.name);
    const hosts = (view.endpointsOf(cluster)?.localities ?? []).flatMap((locality) =>
      locality.endpoints.map((endpoint) => ({
        endpoint,
        locality,
        counters: own?.get(endpoint.id)?.counters ?? {},
        isEjected: own?.get(endpoint.id)?.isEjected ?? false,
      }))
    );
    yield { cluster, hosts };
  }
}

type Counted = { counters: Record<string, number>; isEjected: boolean };

/** By cluster and endpoint, over all workers. */
function hostCounts(reports: readonly WorkerReport[]): ReadonlyMap<string, ReadonlyMap<string, Counted>> {
  const all = new Map<string, Map<string, Counted>>();
  for (const { telemetry } of reports) {
    for (const { name, hosts } of (telemetry as WorkerCounts | undefined)?.clusters ?? []) {
      let cluster = all.get(name);
      if (cluster === undefined) all.set(name, cluster = new Map());
      for (const { id, counters, isEjected } of hosts) {
        const known = cluster.get(id) ?? { counters: {}, isEjected: false };
        for (const [key, value] of Object.entries(counters)) known.counters[key] = (known.counters[key] ?? 0) + value;
        known.isEjected ||= isEjected;
        cluster.set(id, known);
      }
    }
  }
  return all;
}

/** In pieces: a mesh may be large. */
export function* clustersText(view: ConfigView, reports: readonly WorkerReport[]): Generator<string> {
  for (const { cluster, hosts } of clusterViews(view, reports)) {
    const { name, statName, limits } = cluster;
    let text = `${name}::observability_name::${statName || name}\n`;
    for (const priority of ["default", "high"]) {
      for (const [key, value] of limitEntries(limits)) text += `${name}::${priority}_priority::max_${key}::${value}\n`;
    }
    text += `${name}::added_via_api::true\n`;
    if (cluster.discovery.kind === "eds") text += `${name}::eds_service_name::${cluster.discovery.name}\n`;
    for (const { endpoint, locality, counters, isEjected } of hosts) {
      const prefix = `${name}::${shown(endpoint)}::`;
      for (const key of COUNTERS) text += `${prefix}${key}::${counters[key] ?? 0}\n`;
      text += `${prefix}hostname::\n${prefix}health_flags::${healthFlags(endpoint, isEjected)}\n`;
      text += `${prefix}weight::${endpoint.weight}\n${prefix}region::${locality.region}\n`;
      text += `${prefix}zone::${locality.zone}\n${prefix}sub_zone::${locality.subzone}\n`;
      text += `${prefix}canary::false\n${prefix}priority::${locality.priority}\n`;
    }
    yield text;
  }
}

export function* clustersJson(view: ConfigView, reports: readonly WorkerReport[]): Generator<string> {
  yield '{"cluster_statuses":[';
  let separator = "";
  for (const { cluster, hosts } of clusterViews(view, reports)) {
    yield separator + JSON.stringify({
      name: cluster.name,
      added_via_api: true,
      host_statuses: hosts.map(hostStatus),
      circuit_breakers: { thresholds: [thresholds(cluster.limits)] },
      observability_name: cluster.statName || cluster.name,
      ...(cluster.discovery.kind === "eds" ? { eds_service_name: cluster.discovery.name } : {}),
    });
    separator = ",";
  }
  yield "]}";
}

function hostStatus({ endpoint, locality, counters, isEjected }: HostView): unknown {
  const { region, zone, subzone, priority } = locality;
  return {
    address: addressJson(endpoint),
    stats: COUNTERS.map((name) => ({
      ...(GAUGES.has(name) ? { type: "GAUGE" } : {}),
      name,
      value: String(counters[name] ?? 0),
    })),
    health_status: {
      ...(isEjected ? { failed_outlier_check: true } : {}),
      eds_health_status: HEALTH[endpoint.health],
    },
    weight: endpoint.weight,
    ...(priority === 0 ? {} : { priority }),
    locality: {
      ...(region === "" ? {} : { region }),
      ...(zone === "" ? {} : { zone }),
      ...(subzone === "" ? {} : { sub_zone: subzone }),
    },
  };
}

const HEALTH: Readonly<Record<EndpointSpec["health"], string>> = {
  healthy: "HEALTHY",
  unhealthy: "UNHEALTHY",
  draining: "DRAINING",
  degraded: "DEGRADED",
};

function healthFlags({ health }: EndpointSpec, isEjected: boolean): string {
  const flags = [
    ...(isEjected ? ["/failed_outlier_check"] : []),
    ...(health === "unhealthy" || health === "draining" ? ["/failed_eds_health"] : []),
    ...(health === "degraded" ? ["/degraded_eds_health"] : []),
  ];
  return flags.length === 0 ? "healthy" : flags.join("");
}

/** As envoy.config.core.v3.Address. An endpoint behind a tunnel stands behind an internal listener in Envoy, and is named by it. */
function addressJson({ id, reach }: EndpointSpec): unknown {
  if (reach.kind === "direct") return { socket_address: { address: reach.host, port_value: reach.port } };
  return { envoy_internal_address: { server_listener_name: tunnelListener(reach.kind), endpoint_id: id } };
}

function shown({ id, reach }: EndpointSpec): string {
  if (reach.kind !== "direct") return `envoy://${tunnelListener(reach.kind)}/${id}`;
  return `${reach.host.includes(":") ? `[${reach.host}]` : reach.host}:${reach.port}`;
}

function tunnelListener(kind: "hbone" | "gateway"): string {
  return kind === "hbone" ? "connect_originate" : "inner_connect_originate";
}

const MAX_UINT32 = 4_294_967_295;

function limitEntries(limits: ClusterSpec["limits"]): readonly (readonly [string, number])[] {
  const { maxConnections, maxPending, maxRequests, maxRetries } = limits;
  return [
    ["connections", Math.min(maxConnections, MAX_UINT32)],
    ["pending_requests", Math.min(maxPending, MAX_UINT32)],
    ["requests", Math.min(maxRequests, MAX_UINT32)],
    ["retries", Math.min(maxRetries, MAX_UINT32)],
  ];
}

function thresholds(limits: ClusterSpec["limits"]): unknown {
  return Object.fromEntries(limitEntries(limits).map(([key, value]) => [`max_${key}`, value]));
}
