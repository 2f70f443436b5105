/** Where tunnels come in, which chain takes what is in them, and how tunnels go out (waypoint.md 2.2, 2.3, 2.5). */
import type { JsonObject } from "@bufbuild/protobuf";
import { isIpv6 } from "../../../mesh/ip.ts";
import { HBONE_PORT } from "../../../mesh/ports.ts";
import type { Service } from "../../../mesh/types.ts";
import { accessLog, NO_CHAIN, REFUSED } from "./access_log.ts";
import {
  CONNECT_ORIGINATE,
  CONNECT_TERMINATE,
  inboundName,
  MAIN_INTERNAL,
  PEER_PRINCIPAL,
  protocolsOf,
} from "./names.ts";
import { meshTls } from "./transports.ts";
import { extension, packed } from "./xds_resource.ts";

const NETWORK = "envoy.extensions.filters.network";
const LISTENER = "envoy.extensions.filters.listener";
const INPUTS = "envoy.extensions.matching.common_inputs.network.v3";
const DIRECT_TCP = "direct-tcp";
const DIRECT_HTTP = "direct-http";

/** Keys of what a tunnel tells of itself, for the listeners behind it. */
const TUNNEL_FACTS = [
  ["envoy.filters.listener.original_dst.local_ip", "%REQ(:AUTHORITY)%", false],
  ["io.istio.connect_authority", "%REQ(:AUTHORITY)%", true],
  ["envoy.filters.listener.original_dst.remote_ip", "%DOWNSTREAM_REMOTE_ADDRESS%", false],
  [PEER_PRINCIPAL, "%DOWNSTREAM_PEER_URI_SAN%", true],
  ["io.istio.local_principal", "%DOWNSTREAM_LOCAL_URI_SAN%", true],
] as const;

export function connectTerminate(trustDomains: readonly string[]): JsonObject {
  const facts = TUNNEL_FACTS.map(([key, format, hashable]): JsonObject => ({
    object_key: key,
    ...(hashable ? { factory_key: "istio.hashable_string" } : {}),
    format_string: { text_format_source: { inline_string: format } },
    shared_with_upstream: "ONCE",
  }));
  const manager = extension(
    "envoy.filters.network.http_connection_manager",
    `${NETWORK}.http_connection_manager.v3.HttpConnectionManager`,
    {
      stat_prefix: CONNECT_TERMINATE,
      server_name: "istio-envoy",
      stream_idle_timeout: "0s",
      use_remote_address: false,
      forward_client_cert_details: "APPEND_FORWARD",
      set_current_client_cert_details: { dns: true, subject: true, uri: true },
      upgrade_configs: [{ upgrade_type: "CONNECT" }],
      access_log: [accessLog(REFUSED)],
      http2_protocol_options: {
        allow_connect: true,
        connection_keepalive: { interval: "10s", timeout: "20s" },
        max_concurrent_streams: 100,
      },
      http_filters: [
        extension("waypoint_downstream_peer_metadata", "udpa.type.v1.TypedStruct", {
          type_url: "type.googleapis.com/io.istio.http.peer_metadata.Config",
          value: { downstream_discovery: [{ workload_discovery: {} }], shared_with_upstream: true },
        }),
        extension("connect_authority", "envoy.extensions.filters.http.set_filter_state.v3.Config", {
          on_request_headers: facts,
        }),
        extension("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router"),
      ],
      route_config: {
        name: "default",
        virtual_hosts: [{
          name: "default",
          domains: ["*"],
          routes: [{
            match: { connect_matcher: {} },
            route: {
              cluster: MAIN_INTERNAL,
              upgrade_configs: [{ upgrade_type: "CONNECT", connect_config: {} }],
            },
          }],
        }],
      },
    },
  );
  return {
    name: CONNECT_TERMINATE,
    address: { socket_address: { address: "0.0.0.0", port_value: HBONE_PORT } },
    connection_balance_config: { exact_balance: {} },
    access_log: [accessLog(NO_CHAIN)],
    filter_chains: [{
      name: "default",
      transport_socket: meshTls("Downstream", trustDomains),
      filters: [manager],
    }],
  };
}

export function connectOriginate(): JsonObject {
  return {
    name: CONNECT_ORIGINATE,
    internal_listener: {},
    use_original_dst: false,
    listener_filters: [originalDst()],
    filter_chains: [{
      filters: [
        extension("envoy.filters.network.tcp_proxy", `${NETWORK}.tcp_proxy.v3.TcpProxy`, {
          stat_prefix: CONNECT_ORIGINATE,
          cluster: CONNECT_ORIGINATE,
          tunneling_config: { hostname: "%DOWNSTREAM_LOCAL_ADDRESS%" },
        }),
      ],
    }],
  };
}

export interface MainInternalOptions {
  readonly services: readonly Service[];
  /** Addresses of workloads that are served when they are called themselves. */
  readonly addresses: readonly string[];
  /** Named as in names.ts, and the two by address. */
  readonly filterChains: readonly JsonObject[];
}

/** Every chain, and the choice among them. */
export function mainInternal({ services, addresses, filterChains }: MainInternalOptions): JsonObject {
  const ranges = services.flatMap((service): JsonObject[] => {
    const ips = service.vips.map((vip) => vip.slice(vip.lastIndexOf("/") + 1));
    if (ips.length === 0) return [];
    const ports = Object.keys(service.ports).map(Number).map((port) => [
      String(port),
      protocolsOf(port).includes("http")
        ? bySniffing(inboundName(port, "http", service), inboundName(port, "tcp", service))
        : toChain(inboundName(port, "tcp", service)),
    ]);
    return [{ ranges: ips.map(single), on_match: byPort(Object.fromEntries(ports)) }];
  });
  if (addresses.length > 0) {
    ranges.push({ ranges: addresses.map(single), on_match: bySniffing(DIRECT_HTTP, DIRECT_TCP) });
  }
  return {
    name: MAIN_INTERNAL,
    internal_listener: {},
    traffic_direction: "INBOUND",
    listener_filters: [
      originalDst(),
      extension("envoy.filters.listener.http_inspector", `${LISTENER}.http_inspector.v3.HttpInspector`),
    ],
    filter_chain_matcher: {
      matcher_tree: {
        input: extension("ip", `${INPUTS}.DestinationIPInput`),
        custom_match: extension("ip", "xds.type.matcher.v3.IPMatcher", { range_matchers: ranges }),
      },
    },
    filter_chains: [...filterChains],
  };
}

function originalDst(): JsonObject {
  return extension("envoy.filters.listener.original_dst", `${LISTENER}.original_dst.v3.OriginalDst`);
}

function single(ip: string): JsonObject {
  return { address_prefix: ip, prefix_len: isIpv6(ip) ? 128 : 32 };
}

function byPort(map: JsonObject): JsonObject {
  const input = extension("port", `${INPUTS}.DestinationPortInput`);
  return { matcher: { matcher_tree: { input, exact_match_map: { map } } } };
}

/** By what the client sends first. */
function bySniffing(http: string, tcp: string): JsonObject {
  return {
    matcher: {
      matcher_tree: {
        input: extension("application-protocol", `${INPUTS}.ApplicationProtocolInput`),
        exact_match_map: { map: { "'h2c'": toChain(http), "'http/1.1'": toChain(http) } },
      },
      on_no_match: toChain(tcp),
    },
  };
}

function toChain(name: string): JsonObject {
  return { action: { name, typed_config: packed("google.protobuf.StringValue", { value: name }) } };
}
