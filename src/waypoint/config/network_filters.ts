/** What the filters of a TCP chain, and those before a connection manager, come to. */
import type { Filter } from "../../gen/envoy/config/listener/v3/listener_components_pb.ts";
import { ExtAuthzSchema } from "../../gen/envoy/extensions/filters/network/ext_authz/v3/ext_authz_pb.ts";
import { RBACSchema } from "../../gen/envoy/extensions/filters/network/rbac/v3/rbac_pb.ts";
import {
  type Config,
  ConfigSchema as SetFilterStateSchema,
} from "../../gen/envoy/extensions/filters/network/set_filter_state/v3/set_filter_state_pb.ts";
import { FilterConfigSchema as SniForwardSchema } from "../../gen/envoy/extensions/filters/network/sni_dynamic_forward_proxy/v3/sni_dynamic_forward_proxy_pb.ts";
import {
  type TcpProxy,
  TcpProxy_WeightedCluster_ClusterWeightSchema as WeightSchema,
  TcpProxySchema,
} from "../../gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.ts";
import { type FilterStateValue } from "../../gen/envoy/extensions/filters/common/set_filter_state/v3/value_pb.ts";
import { TypedStructSchema } from "../../gen/udpa/type/v1/typed_struct_pb.ts";
import type { ChainName, ClusterName, TcpChainSpec } from "../spec/mod.ts";
import { accessLogs, type Warn } from "./access_log.ts";
import { networkExtAuthz } from "./ext_authz.ts";
import { expectUnderstood, milliseconds, typeOf, understand, unpack, Unsupported, within } from "./guard.ts";
import { networkRbac } from "./rbac.ts";
import { STATS_TYPE, statsSpec } from "./stats.ts";

const TYPED_STRUCT = understand(TypedStructSchema, "type_url value");
/** They find out who the peers are; the engine knows that by itself. */
const PEER_METADATA = new Set([
  "io.istio.http.peer_metadata.Config",
  "envoy.tcp.metadataexchange.config.MetadataExchange",
  "envoy.extensions.network_filters.peer_metadata.Config",
  "envoy.extensions.network_filters.peer_metadata.UpstreamConfig",
]);

/** Whether a TypedStruct is one of those that a waypoint of ambit does without. @throws Unsupported for any other */
export function isPeerMetadata(any: Filter["configType"]["value"]): boolean {
  if (any === undefined || !("typeUrl" in any) || typeOf(any) !== TypedStructSchema.typeName) return false;
  const { typeUrl } = unpack(any, TYPED_STRUCT);
  const type = typeUrl.slice(typeUrl.lastIndexOf("/") + 1);
  if (!PEER_METADATA.has(type)) throw new Unsupported(`${type} is not supported`);
  return true;
}

const SET_FILTER_STATE = understand(SetFilterStateSchema, "on_new_connection");
/** Where the connection wants to go, kept under the name it has already. */
const KNOWN_STATE: ReadonlyMap<string, readonly string[]> = new Map([
  ["envoy.filters.listener.original_dst.local_ip", [
    "%FILTER_STATE(envoy.filters.listener.original_dst.local_ip:PLAIN)%",
  ]],
]);

/** @throws Unsupported for filter state that says anything new */
export function expectKnownState(
  values: readonly FilterStateValue[],
  known: ReadonlyMap<string, readonly string[]>,
): void {
  for (const { key, value } of values) {
    const name = key.case === "objectKey" ? key.value : "";
    const format = value.case === "formatString" ? value.value.format : undefined;
    const text = format?.case === "textFormatSource" && format.value.specifier.case === "inlineString"
      ? format.value.specifier.value
      : format?.case === "textFormat"
      ? format.value
      : "";
    if (known.get(name)?.includes(text) !== true) {
      throw new Unsupported(`the filter state ${name} of ${JSON.stringify(text)} is not supported`);
    }
  }
}

/** A filter before the last of a chain that changes nothing here. @throws Unsupported for one that might */
export function isWithoutEffect({ configType }: Filter): boolean {
  const any = configType.value;
  if (isPeerMetadata(any)) return true;
  if (configType.case !== "typedConfig" || typeOf(configType.value) !== SetFilterStateSchema.typeName) return false;
  const config: Config = unpack(configType.value, SET_FILTER_STATE);
  expectKnownState(config.onNewConnection, KNOWN_STATE);
  return true;
}

const SNI_FORWARD = understand(SniForwardSchema, "dns_cache_config port_value");

/** A chain whose last filter is a TCP proxy. @throws Unsupported */
export function tcpChain(name: ChainName, filters: readonly Filter[], warn: Warn): TcpChainSpec {
  const rbac: TcpChainSpec["rbac"][number][] = [];
  const extAuthz: TcpChainSpec["extAuthz"][number][] = [];
  let stats: TcpChainSpec["stats"], sniForward: TcpChainSpec["sniForward"];
  for (const filter of filters.slice(0, -1)) {
    within(`filter ${filter.name}`, () => {
      if (isWithoutEffect(filter)) return;
      if (filter.configType.case !== "typedConfig") throw new Unsupported("a filter by discovery is not supported");
      const any = filter.configType.value;
      switch (typeOf(any)) {
        case RBACSchema.typeName:
          rbac.push(networkRbac(any));
          break;
        case ExtAuthzSchema.typeName:
          extAuthz.push(networkExtAuthz(any));
          break;
        case STATS_TYPE:
          stats = statsSpec(any);
          break;
        case SniForwardSchema.typeName: {
          const { portSpecifier } = unpack(any, SNI_FORWARD);
          if (portSpecifier.case !== "portValue") {
            throw new Unsupported("forwarding by SNI without a port is not supported");
          }
          sniForward = { port: portSpecifier.value };
          break;
        }
        default:
          throw new Unsupported(`${typeOf(any)} is not supported`);
      }
    });
  }
  const last = filters.at(-1);
  if (last?.configType.case !== "typedConfig") throw new Unsupported("a chain without filters is not supported");
  const proxy = unpack(last.configType.value, TCP_PROXY);
  return { kind: "tcp", name, rbac, extAuthz, sniForward, stats, ...tcpProxy(proxy, warn) };
}

const TCP_PROXY = understand(
  TcpProxySchema,
  "stat_prefix cluster weighted_clusters idle_timeout access_log hash_policy max_downstream_connection_duration",
  "max_connect_attempts access_log_flush_interval access_log_options",
);
const WEIGHT = understand(WeightSchema, "name weight", "metadata_match");
/** Envoy's: an hour. */
const IDLE_TIMEOUT_MS = 3_600_000;

function tcpProxy(
  proxy: TcpProxy,
  warn: Warn,
): Pick<TcpChainSpec, "clusters" | "idleTimeoutMs" | "maxConnectionMs" | "hashSourceIp" | "accessLogs"> {
  return {
    clusters: tcpClusters(proxy),
    idleTimeoutMs: milliseconds(proxy.idleTimeout, IDLE_TIMEOUT_MS),
    maxConnectionMs: milliseconds(proxy.maxDownstreamConnectionDuration, 0),
    hashSourceIp: proxy.hashPolicy.some(({ policySpecifier: specifier }) => {
      if (specifier.case !== "sourceIp") {
        throw new Unsupported(`a hash by ${specifier.case ?? "nothing"} is not supported`);
      }
      return true;
    }),
    accessLogs: accessLogs(proxy.accessLog, warn),
  };
}

function tcpClusters({ clusterSpecifier: specifier }: TcpProxy): TcpChainSpec["clusters"] {
  switch (specifier.case) {
    case "cluster":
      return [{ cluster: specifier.value as ClusterName, weight: 1 }];
    case "weightedClusters":
      return specifier.value.clusters.map((cluster) => {
        expectUnderstood(WEIGHT, cluster);
        return { cluster: cluster.name as ClusterName, weight: cluster.weight };
      });
    default:
      throw new Unsupported("a TCP proxy without a cluster is not supported");
  }
}
