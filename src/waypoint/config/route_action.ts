/** Where a route sends its requests, and how often it tries. */
import {
  type RetryPolicy,
  RetryPolicySchema,
  type RouteAction,
  RouteAction_ClusterNotFoundResponseCode as NotFoundCode,
  type RouteAction_HashPolicy as HashPolicy,
  RouteAction_HashPolicySchema as HashPolicySchema,
  type RouteAction_RequestMirrorPolicy as MirrorPolicy,
  RouteAction_RequestMirrorPolicySchema as MirrorPolicySchema,
  RouteActionSchema,
  type WeightedCluster_ClusterWeight as ClusterWeight,
  WeightedCluster_ClusterWeightSchema as ClusterWeightSchema,
  WeightedClusterSchema,
} from "../../gen/envoy/config/route/v3/route_components_pb.ts";
import { PreviousHostsPredicateSchema } from "../../gen/envoy/extensions/retry/host/previous_hosts/v3/previous_hosts_pb.ts";
import {
  PreviousPrioritiesConfigSchema,
} from "../../gen/envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config_pb.ts";
import type {
  ClusterName,
  ForwardSpec,
  HashPolicySpec,
  MirrorSpec,
  RetryCondition,
  RetrySpec,
  WeightedClusterSpec,
} from "../spec/mod.ts";
import { expectUnderstood, milliseconds, understand, unpack, Unsupported } from "./guard.ts";
import { HEADER_CHANGE_FIELDS, headerChanges } from "./headers.ts";
import { headerMatch, perMillion, regexRewrite } from "./matchers.ts";

/** Of a route that says nothing: Envoy's. */
const DEFAULT_TIMEOUT_MS = 15_000;

const ACTION = understand(
  RouteActionSchema,
  "cluster weighted_clusters cluster_not_found_response_code prefix_rewrite regex_rewrite host_rewrite_literal auto_host_rewrite append_x_forwarded_host timeout idle_timeout retry_policy request_mirror_policies hash_policy max_grpc_timeout upgrade_configs max_stream_duration",
  "priority",
);

const STATUS: Readonly<Record<NotFoundCode, number>> = {
  [NotFoundCode.SERVICE_UNAVAILABLE]: 503,
  [NotFoundCode.NOT_FOUND]: 404,
  [NotFoundCode.INTERNAL_SERVER_ERROR]: 500,
};

/** @throws Unsupported */
export function forward(action: RouteAction): ForwardSpec {
  expectUnderstood(ACTION, action);
  const { hostRewriteSpecifier: host } = action;
  if (action.maxStreamDuration !== undefined) throw new Unsupported("RouteAction.max_stream_duration is not supported");
  return {
    kind: "forward",
    clusters: clusters(action),
    unknownClusterStatus: STATUS[action.clusterNotFoundResponseCode] ?? 503,
    prefixRewrite: action.prefixRewrite || undefined,
    regexRewrite: regexRewrite(action.regexRewrite),
    hostRewrite: host.case === "hostRewriteLiteral" ? host.value : undefined,
    autoHostRewrite: host.case === "autoHostRewrite" && host.value.value,
    appendForwardedHost: action.appendXForwardedHost,
    timeoutMs: milliseconds(action.timeout, DEFAULT_TIMEOUT_MS),
    maxGrpcTimeoutMs: action.maxGrpcTimeout === undefined ? undefined : milliseconds(action.maxGrpcTimeout, 0),
    idleTimeoutMs: action.idleTimeout === undefined ? undefined : milliseconds(action.idleTimeout, 0),
    retry: retry(action.retryPolicy),
    hash: action.hashPolicy.map(hashPolicy),
    mirrors: action.requestMirrorPolicies.map(mirror),
    upgrades: Object.fromEntries(
      action.upgradeConfigs.map(({ upgradeType, enabled }) => [upgradeType.toLowerCase(), enabled ?? true]),
    ),
  };
}

const WEIGHTED = understand(WeightedClusterSchema, "clusters total_weight");
const WEIGHT = understand(
  ClusterWeightSchema,
  `name weight host_rewrite_literal ${HEADER_CHANGE_FIELDS}`,
  "metadata_match",
);

function clusters({ clusterSpecifier: specifier }: RouteAction): readonly WeightedClusterSpec[] {
  switch (specifier.case) {
    case "cluster":
      return [{ cluster: specifier.value as ClusterName, weight: 1, change: NO_CHANGE, hostRewrite: undefined }];
    case "weightedClusters":
      expectUnderstood(WEIGHTED, specifier.value);
      return specifier.value.clusters.map(weighted);
    default:
      throw new Unsupported(`a cluster by ${specifier.case ?? "nothing"} is not supported`);
  }
}

const NO_CHANGE = headerChanges({
  requestHeadersToAdd: [],
  requestHeadersToRemove: [],
  responseHeadersToAdd: [],
  responseHeadersToRemove: [],
});

function weighted(cluster: ClusterWeight): WeightedClusterSpec {
  expectUnderstood(WEIGHT, cluster);
  const { hostRewriteSpecifier: host } = cluster;
  return {
    cluster: cluster.name as ClusterName,
    weight: cluster.weight ?? 0,
    change: headerChanges(cluster),
    hostRewrite: host.case === "hostRewriteLiteral" ? host.value : undefined,
  };
}

const CONDITIONS: ReadonlySet<string> = new Set<RetryCondition>([
  "5xx",
  "gateway-error",
  "reset",
  "reset-before-request",
  "connect-failure",
  "envoy-ratelimited",
  "retriable-4xx",
  "refused-stream",
  "retriable-status-codes",
  "retriable-headers",
  "cancelled",
  "deadline-exceeded",
  "internal",
  "resource-exhausted",
  "unavailable",
]);

const RETRY = understand(
  RetryPolicySchema,
  "retry_on num_retries per_try_timeout per_try_idle_timeout retry_priority retry_host_predicate host_selection_retry_max_attempts retriable_status_codes retry_back_off retriable_headers",
);
const PREVIOUS_HOSTS = understand(PreviousHostsPredicateSchema, "");
const PREVIOUS_PRIORITIES = understand(PreviousPrioritiesConfigSchema, "update_frequency");
/** Envoy's. */
const BASE_BACKOFF_MS = 25;
const BACKOFF_FACTOR = 10;

function retry(policy: RetryPolicy | undefined): RetrySpec | undefined {
  if (policy === undefined) return undefined;
  expectUnderstood(RETRY, policy);
  // Envoy leaves conditions out that it does not know.
  const tokens = policy.retryOn.split(",").map((token) => token.trim());
  const baseBackoffMs = Math.max(1, milliseconds(policy.retryBackOff?.baseInterval, BASE_BACKOFF_MS));
  for (const { configType } of policy.retryHostPredicate) unpack(configType.value, PREVIOUS_HOSTS);
  return {
    retries: policy.numRetries ?? 1,
    on: [...new Set(tokens.filter((token): token is RetryCondition => CONDITIONS.has(token)))],
    statuses: policy.retriableStatusCodes,
    retriableHeaders: policy.retriableHeaders.map(headerMatch),
    perTryTimeoutMs: milliseconds(policy.perTryTimeout, 0),
    perTryIdleMs: milliseconds(policy.perTryIdleTimeout, 0),
    baseBackoffMs,
    maxBackoffMs: milliseconds(policy.retryBackOff?.maxInterval, BACKOFF_FACTOR * baseBackoffMs),
    avoidPreviousHosts: policy.retryHostPredicate.length > 0,
    hostAttempts: Math.max(1, Number(policy.hostSelectionRetryMaxAttempts)),
    priorityUpdateFrequency: policy.retryPriority === undefined
      ? 0
      : unpack(policy.retryPriority.configType.value, PREVIOUS_PRIORITIES).updateFrequency,
  };
}

const HASH = understand(HashPolicySchema, "header cookie connection_properties query_parameter terminal");

function hashPolicy(policy: HashPolicy): HashPolicySpec {
  expectUnderstood(HASH, policy);
  const { policySpecifier: specifier, terminal } = policy;
  switch (specifier.case) {
    case "header":
      if (specifier.value.regexRewrite !== undefined) {
        throw new Unsupported("HashPolicy.Header.regex_rewrite is not supported");
      }
      return { kind: "header", name: specifier.value.headerName.toLowerCase(), terminal };
    case "queryParameter":
      return { kind: "query", name: specifier.value.name, terminal };
    case "connectionProperties":
      return { kind: "source ip", terminal };
    case "cookie": {
      const { name, ttl, path, attributes } = specifier.value;
      return {
        kind: "cookie",
        name,
        ttlSeconds: ttl === undefined ? undefined : milliseconds(ttl, 0) / 1000,
        path,
        attributes: attributes.map(({ name, value }) => ({ name, value })),
        terminal,
      };
    }
    default:
      throw new Unsupported(`a hash by ${specifier.case ?? "nothing"} is not supported`);
  }
}

const MIRROR = understand(
  MirrorPolicySchema,
  "cluster runtime_fraction trace_sampled disable_shadow_host_suffix_append",
);

function mirror(policy: MirrorPolicy): MirrorSpec {
  expectUnderstood(MIRROR, policy);
  return {
    cluster: policy.cluster as ClusterName,
    fraction: perMillion(policy.runtimeFraction?.defaultValue, 1_000_000),
    appendShadowSuffix: !policy.disableShadowHostSuffixAppend,
    traced: policy.traceSampled ?? true,
  };
}
