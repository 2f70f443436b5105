/** Envoy clusters to `spec/clusters.ts`. Clusters of Envoy's internal plumbing are not among them: the engine needs none. */
import {
  type CircuitBreakers_Thresholds,
  CircuitBreakers_Thresholds_RetryBudgetSchema,
  CircuitBreakers_ThresholdsSchema,
} from "../../gen/envoy/config/cluster/v3/circuit_breaker_pb.ts";
import {
  type Cluster,
  Cluster_DiscoveryType as Discovery,
  Cluster_DnsLookupFamily as DnsFamily,
  Cluster_LbPolicy as LbPolicy,
  Cluster_SlowStartConfig as SlowStart,
  ClusterSchema,
} from "../../gen/envoy/config/cluster/v3/cluster_pb.ts";
import {
  type OutlierDetection,
  OutlierDetectionSchema,
} from "../../gen/envoy/config/cluster/v3/outlier_detection_pb.ts";
import { ClusterConfigSchema as ForwardProxySchema } from "../../gen/envoy/extensions/clusters/dynamic_forward_proxy/v3/cluster_pb.ts";
import type {
  BalancingSpec,
  ClusterName,
  ClusterSpec,
  DiscoverySpec,
  EndpointTag,
  LimitsSpec,
  OutlierSpec,
  SlowStartSpec,
  TransportSpec,
} from "../spec/mod.ts";
import { endpointsSpec } from "./endpoints.ts";
import { expectUnderstood, milliseconds, understand, unpack, Unsupported } from "./guard.ts";
import { sourceOf } from "./routes.ts";
import { transport } from "./tls.ts";
import { type UpstreamOptions, upstreamOptions } from "./upstream_options.ts";

/** Envoy's way through itself; the engine takes these steps directly. */
const PLUMBING = new Set([
  "main_internal",
  "connect_originate",
  "inner_connect_originate",
  "outer_connect_originate",
  "forward_inner_connect",
]);
/** The one of them that routes name: a tunnel to where the client wanted to go. */
const ENCAP = "encap";
const BLACK_HOLE = "BlackHoleCluster";
const CONNECT_TIMEOUT_MS = 5_000;
const DNS_REFRESH_MS = 5_000;
/** Envoy's uint32 for "no limit". */
const UNLIMITED = 4_294_967_295;
const DEFAULT_LIMIT = 1024;
const DEFAULT_RETRIES = 3;

const CLUSTER = understand(
  ClusterSchema,
  "name alt_stat_name type cluster_type eds_cluster_config connect_timeout lb_policy load_assignment circuit_breakers typed_extension_protocol_options dns_refresh_rate respect_dns_ttl dns_lookup_family outlier_detection ring_hash_lb_config maglev_lb_config original_dst_lb_config least_request_lb_config round_robin_lb_config common_lb_config transport_socket transport_socket_matches metadata upstream_connection_options dns_jitter",
  "cleanup_interval typed_dns_resolver_config dns_failure_refresh_rate filters track_cluster_stats wait_for_warm_on_init per_connection_buffer_limit_bytes",
);

/** Undefined for a cluster that only Envoy needs. @throws Unsupported */
export function clusterSpec(cluster: Cluster): ClusterSpec | undefined {
  const { name } = cluster;
  if (PLUMBING.has(name)) return undefined;
  expectUnderstood(CLUSTER, cluster);
  const options = upstreamOptions(cluster.typedExtensionProtocolOptions);
  const socket = transport(cluster.transportSocket);
  return {
    name: name as ClusterName,
    statName: cluster.altStatName.replace(/;$/, "") || name,
    discovery: name === ENCAP ? { kind: "original destination", port: undefined, hbone: true } : discovery(cluster),
    balancing: balancing(cluster),
    connectTimeoutMs: milliseconds(cluster.connectTimeout, CONNECT_TIMEOUT_MS),
    limits: limits(cluster, options),
    outliers: cluster.outlierDetection && outliers(cluster.outlierDetection),
    protocol: options.protocol,
    transport: withAutomaticNames(socket, options),
    transportByTag: cluster.transportSocketMatches.map(({ match, transportSocket }) => ({
      tag: tagOfMatch(match),
      transport: withAutomaticNames(transport(transportSocket), options),
    })),
    service: serviceOf(cluster),
    source: sourceOf(cluster.metadata),
    keepalive: keepalive(cluster),
  };
}

function withAutomaticNames(socket: TransportSpec, { autoSni, autoSan }: UpstreamOptions): TransportSpec {
  if (socket.kind === "proxy protocol") {
    return { ...socket, inner: withAutomaticNames(socket.inner, { autoSni, autoSan } as UpstreamOptions) };
  }
  return socket.kind === "tls" ? { kind: "tls", tls: { ...socket.tls, autoSni, autoSan } } : socket;
}

function tagOfMatch(match: Readonly<Record<string, unknown>> | undefined): EndpointTag {
  const keys = Object.keys(match ?? {});
  if (keys.length === 0) return "plain";
  if (keys.length === 1 && match?.["tunnel"] === "http") return "tunnel";
  if (keys.length === 1 && match?.["tlsMode"] === "istio") return "istio tls";
  throw new Unsupported(`a transport socket for endpoints with ${JSON.stringify(match)} is not supported`);
}

function serviceOf({ metadata }: Cluster): ClusterSpec["service"] {
  const services = metadata?.filterMetadata["istio"]?.["services"];
  const first = Array.isArray(services) ? services[0] : undefined;
  if (typeof first !== "object" || first === null || Array.isArray(first)) return undefined;
  const text = (key: string): string => typeof first[key] === "string" ? first[key] : "";
  return { host: text("host"), name: text("name"), namespace: text("namespace") };
}

const FAMILIES: Readonly<Record<DnsFamily, "v4" | "v6" | "auto" | "v4 preferred" | "all">> = {
  [DnsFamily.AUTO]: "auto",
  [DnsFamily.V4_ONLY]: "v4",
  [DnsFamily.V6_ONLY]: "v6",
  [DnsFamily.V4_PREFERRED]: "v4 preferred",
  [DnsFamily.ALL]: "all",
};
const FORWARD_PROXY = understand(
  ForwardProxySchema,
  "dns_cache_config",
  "allow_insecure_cluster_options allow_coalesced_connections",
);
/** What istiod puts behind a wildcard host to name its cache. */
const CACHE_SUFFIX = "_dfp_dns_cache";

function discovery(cluster: Cluster): DiscoverySpec {
  const { clusterDiscoveryType: type, lbConfig } = cluster;
  if (type.case === "clusterType") {
    const { clusterImplementationSpecifier: cache } = unpack(type.value.typedConfig, FORWARD_PROXY);
    if (cache.case !== "dnsCacheConfig") {
      throw new Unsupported("a dynamic forward proxy without a DNS cache is not supported");
    }
    const { name, dnsLookupFamily } = cache.value;
    if (!name.endsWith(CACHE_SUFFIX)) throw new Unsupported(`the DNS cache ${name} does not name its hosts`);
    return {
      kind: "dynamic forward",
      wildcard: name.slice(0, -CACHE_SUFFIX.length),
      family: FAMILIES[dnsLookupFamily] ?? "auto",
    };
  }
  const endpoints = () => endpointsSpec(cluster.loadAssignment ?? missing("load_assignment"));
  switch (type.value ?? Discovery.STATIC) {
    case Discovery.EDS:
      return { kind: "eds", name: cluster.edsClusterConfig?.serviceName || cluster.name };
    case Discovery.STATIC:
      if (cluster.name === BLACK_HOLE) {
        return { kind: "static", endpoints: { name: cluster.name, localities: [], overprovisioning: 140 } };
      }
      return { kind: "static", endpoints: endpoints() };
    case Discovery.STRICT_DNS:
    case Discovery.LOGICAL_DNS:
      return {
        kind: "dns",
        strict: type.value === Discovery.STRICT_DNS,
        family: FAMILIES[cluster.dnsLookupFamily] ?? "auto",
        respectTtl: cluster.respectDnsTtl,
        refreshMs: milliseconds(cluster.dnsRefreshRate, DNS_REFRESH_MS),
        jitterMs: milliseconds(cluster.dnsJitter, 0),
        endpoints: endpoints(),
      };
    case Discovery.ORIGINAL_DST:
      return {
        kind: "original destination",
        port: lbConfig.case === "originalDstLbConfig" ? lbConfig.value.upstreamPortOverride : undefined,
        hbone: false,
      };
    default:
      throw new Unsupported(`the cluster type ${type.value} is not known`);
  }
}

function missing(what: string): never {
  throw new Unsupported(`Cluster.${what} is missing`);
}

const RING_MIN = 1024;
const RING_MAX = 8 * 1024 * 1024;
const MAGLEV_SIZE = 65_537;
const CHOICES = 2;
const PANIC_PERCENT = 50;

function balancing(cluster: Cluster): BalancingSpec {
  const { commonLbConfig: common } = cluster;
  return {
    policy: balancingPolicy(cluster, common?.consistentHashingLbConfig?.useHostnameForHashing ?? false),
    panicPercent: common?.healthyPanicThreshold?.value ?? PANIC_PERCENT,
    localityWeighted: common?.localityConfigSpecifier.case === "localityWeightedLbConfig",
  };
}

function balancingPolicy({ lbPolicy, lbConfig }: Cluster, hostnames: boolean): BalancingSpec["policy"] {
  switch (lbPolicy) {
    case LbPolicy.ROUND_ROBIN:
      return {
        kind: "round robin",
        slowStart: lbConfig.case === "roundRobinLbConfig" ? slowStart(lbConfig.value.slowStartConfig) : undefined,
      };
    case LbPolicy.LEAST_REQUEST:
      return lbConfig.case === "leastRequestLbConfig"
        ? {
          kind: "least request",
          choices: lbConfig.value.choiceCount ?? CHOICES,
          slowStart: slowStart(lbConfig.value.slowStartConfig),
        }
        : { kind: "least request", choices: CHOICES, slowStart: undefined };
    case LbPolicy.RANDOM:
      return { kind: "random" };
    case LbPolicy.RING_HASH: {
      const config = lbConfig.case === "ringHashLbConfig" ? lbConfig.value : undefined;
      const maxSize = Number(config?.maximumRingSize ?? RING_MAX);
      return {
        kind: "ring hash",
        minSize: Math.min(maxSize, Number(config?.minimumRingSize ?? RING_MIN)),
        maxSize,
        hostnames,
      };
    }
    case LbPolicy.MAGLEV: {
      const config = lbConfig.case === "maglevLbConfig" ? lbConfig.value : undefined;
      return { kind: "maglev", tableSize: Number(config?.tableSize ?? MAGLEV_SIZE), hostnames };
    }
    case LbPolicy.CLUSTER_PROVIDED:
      return { kind: "given" };
    default:
      throw new Unsupported(`the load balancing policy ${lbPolicy} is not supported`);
  }
}

function slowStart(config: SlowStart | undefined): SlowStartSpec | undefined {
  if (config === undefined) return undefined;
  return {
    windowMs: milliseconds(config.slowStartWindow, 0),
    aggression: config.aggression?.defaultValue ?? 1,
    minWeightPercent: config.minWeightPercent?.value ?? 10,
  };
}

const THRESHOLDS = understand(
  CircuitBreakers_ThresholdsSchema,
  "priority max_connections max_pending_requests max_requests max_retries retry_budget",
  "track_remaining max_connection_pools",
);
const BUDGET = understand(CircuitBreakers_Thresholds_RetryBudgetSchema, "budget_percent min_retry_concurrency");

function limits(cluster: Cluster, options: UpstreamOptions): LimitsSpec {
  const { thresholds = [], perHostThresholds = [] } = cluster.circuitBreakers ?? {};
  if (thresholds.length > 1 || perHostThresholds.length > 0) {
    throw new Unsupported("circuit breakers by priority or host are not supported");
  }
  const first: CircuitBreakers_Thresholds | undefined = thresholds[0];
  if (first !== undefined) expectUnderstood(THRESHOLDS, first);
  const limit = (value: number | undefined, fallback: number): number =>
    value === UNLIMITED ? Infinity : value ?? fallback;
  const budget = first?.retryBudget;
  if (budget !== undefined) expectUnderstood(BUDGET, budget);
  return {
    maxConnections: limit(first?.maxConnections, DEFAULT_LIMIT),
    maxPending: limit(first?.maxPendingRequests, DEFAULT_LIMIT),
    maxRequests: limit(first?.maxRequests, DEFAULT_LIMIT),
    maxRetries: limit(first?.maxRetries, DEFAULT_RETRIES),
    retryBudget: budget &&
      { percent: budget.budgetPercent?.value ?? 20, minConcurrency: budget.minRetryConcurrency ?? 3 },
    maxRequestsPerConnection: options.maxRequestsPerConnection,
    idleTimeoutMs: options.idleTimeoutMs,
    maxConnectionMs: options.maxConnectionMs,
    maxConcurrentStreams: options.maxConcurrentStreams,
  };
}

const OUTLIERS = understand(
  OutlierDetectionSchema,
  "consecutive_5xx interval base_ejection_time max_ejection_percent enforcing_consecutive_5xx enforcing_success_rate consecutive_gateway_failure enforcing_consecutive_gateway_failure split_external_local_origin_errors consecutive_local_origin_failure enforcing_consecutive_local_origin_failure enforcing_local_origin_success_rate max_ejection_time",
  "success_rate_minimum_hosts success_rate_request_volume success_rate_stdev_factor max_ejection_time_jitter",
);
const OUTLIER_DEFAULTS = { failures: 5, intervalMs: 10_000, baseMs: 30_000, maxMs: 300_000, percent: 10 } as const;

function outliers(detection: OutlierDetection): OutlierSpec {
  expectUnderstood(OUTLIERS, detection);
  if ((detection.enforcingSuccessRate ?? 100) !== 0 && detection.successRateMinimumHosts !== undefined) {
    throw new Unsupported("outlier detection by success rate is not supported");
  }
  // Enforced for a part of all failures, or for all: istiod only sends 0 and 100.
  const enforced = (percent: number | undefined, fallback: number, count: number | undefined): number | undefined =>
    (percent ?? fallback) > 0 ? count ?? OUTLIER_DEFAULTS.failures : undefined;
  const baseEjectionMs = milliseconds(detection.baseEjectionTime, OUTLIER_DEFAULTS.baseMs);
  return {
    consecutive5xx: enforced(detection.enforcingConsecutive5xx, 100, detection.consecutive5xx),
    consecutiveGatewayFailure: enforced(
      detection.enforcingConsecutiveGatewayFailure,
      0,
      detection.consecutiveGatewayFailure,
    ),
    consecutiveLocalOrigin: detection.splitExternalLocalOriginErrors
      ? enforced(detection.enforcingConsecutiveLocalOriginFailure, 100, detection.consecutiveLocalOriginFailure)
      : undefined,
    splitLocalOrigin: detection.splitExternalLocalOriginErrors,
    intervalMs: milliseconds(detection.interval, OUTLIER_DEFAULTS.intervalMs),
    baseEjectionMs,
    maxEjectionMs: Math.max(baseEjectionMs, milliseconds(detection.maxEjectionTime, OUTLIER_DEFAULTS.maxMs)),
    maxEjectionPercent: detection.maxEjectionPercent ?? OUTLIER_DEFAULTS.percent,
  };
}

/** Linux's own, where only some are said. */
const KEEPALIVE = { idleSeconds: 7200, intervalSeconds: 75, probes: 9 } as const;

function keepalive({ upstreamConnectionOptions: options }: Cluster): ClusterSpec["keepalive"] {
  const tcp = options?.tcpKeepalive;
  if (tcp === undefined) return undefined;
  return {
    idleSeconds: tcp.keepaliveTime ?? KEEPALIVE.idleSeconds,
    intervalSeconds: tcp.keepaliveInterval ?? KEEPALIVE.intervalSeconds,
    probes: tcp.keepaliveProbes ?? KEEPALIVE.probes,
  };
}
