/** Filter chains: of HTTP with routes and policies, of bytes with policies alone (waypoint.md 2.3, 2.4). */
import type { JsonObject } from "@bufbuild/protobuf";
import { accessLog } from "./access_log.ts";
import { extension } from "./xds_resource.ts";

const HTTP = "envoy.extensions.filters.http";
const NETWORK = "envoy.extensions.filters.network";

const STATS = extension("istio.stats", "stats.PluginConfig", {
  disable_host_header_fallback: true,
  reporter: "SERVER_GATEWAY",
});

const METADATA_EXCHANGE = extension("istio.metadata_exchange", "udpa.type.v1.TypedStruct", {
  type_url: "type.googleapis.com/envoy.tcp.metadataexchange.config.MetadataExchange",
  value: { enable_discovery: true, protocol: "istio-peer-exchange" },
});

/** Chains by address carry on to the address that the client named. */
const TO_CALLED_ADDRESS = extension("connect_authority", `${NETWORK}.set_filter_state.v3.Config`, {
  on_new_connection: [{
    object_key: "envoy.filters.listener.original_dst.local_ip",
    format_string: {
      text_format_source: { inline_string: "%FILTER_STATE(envoy.filters.listener.original_dst.local_ip:PLAIN)%" },
    },
    shared_with_upstream: "ONCE",
  }],
});

export interface HttpChainOptions {
  readonly name: string;
  readonly statPrefix: string;
  readonly routes: readonly JsonObject[];
  readonly virtualHost: string;
  /** Tokens and policies, in the order in which they decide. */
  readonly policies: readonly JsonObject[];
  readonly byAddress: boolean;
}

export function httpChain(options: HttpChainOptions): JsonObject {
  const { name, statPrefix, routes, virtualHost, policies, byAddress } = options;
  const manager = extension(
    "envoy.filters.network.http_connection_manager",
    `${NETWORK}.http_connection_manager.v3.HttpConnectionManager`,
    {
      stat_prefix: statPrefix,
      server_name: "istio-envoy",
      stream_idle_timeout: "0s",
      use_remote_address: false,
      normalize_path: true,
      path_with_escaped_slashes_action: "KEEP_UNCHANGED",
      proxy_100_continue: true,
      upgrade_configs: [{ upgrade_type: "websocket" }],
      access_log: [accessLog()],
      http_filters: [
        ...policies,
        extension("envoy.filters.http.grpc_stats", `${HTTP}.grpc_stats.v3.FilterConfig`, {
          emit_filter_state: true,
          stats_for_all_methods: false,
        }),
        extension("envoy.filters.http.fault", `${HTTP}.fault.v3.HTTPFault`),
        extension("envoy.filters.http.cors", `${HTTP}.cors.v3.Cors`),
        extension("waypoint_upstream_peer_metadata", "udpa.type.v1.TypedStruct", {
          type_url: "type.googleapis.com/io.istio.http.peer_metadata.Config",
          value: { upstream_discovery: [{ workload_discovery: {} }] },
        }),
        STATS,
        extension("envoy.filters.http.router", `${HTTP}.router.v3.Router`),
      ],
      route_config: {
        name,
        validate_clusters: false,
        max_direct_response_body_size_bytes: 1_048_576,
        virtual_hosts: [{ name: virtualHost, domains: ["*"], routes: [...routes] }],
      },
    },
  );
  return { name, filters: byAddress ? [TO_CALLED_ADDRESS, manager] : [manager] };
}

export interface TcpChainOptions {
  readonly name: string;
  readonly cluster: string;
  readonly policies: readonly JsonObject[];
  readonly byAddress: boolean;
}

export function tcpChain({ name, cluster, policies, byAddress }: TcpChainOptions): JsonObject {
  const proxy = extension("envoy.filters.network.tcp_proxy", `${NETWORK}.tcp_proxy.v3.TcpProxy`, {
    stat_prefix: cluster,
    cluster,
    access_log: [accessLog()],
  });
  return {
    name,
    filters: [...(byAddress ? [TO_CALLED_ADDRESS] : []), METADATA_EXCHANGE, ...policies, STATS, proxy],
  };
}
