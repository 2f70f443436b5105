/**
 * Envoy's equivalent of two ztunnels: HTTP/2 CONNECT over mTLS with SPIFFE names checked on both sides.
 *
 * Same windows, streams per connection and TLS version as ambit; statistics on (Envoy's default), no access log, no policy:
 * where the two differ in work, Envoy has less to do.
 */
import type { CertificateFiles } from "./certificates.ts";

/** HBONE's windows (reference ztunnel 5.8). */
const STREAM_WINDOW_BYTES = 4 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES = 16 * 1024 * 1024;
/** ztunnel's POOL_MAX_STREAMS_PER_CONNECTION. */
const STREAMS_PER_CONNECTION = 100;
/** Above anything the benchmark opens: Envoy's own default of 1,024 would end the idle test. */
const NO_CIRCUIT_BREAKER = 100_000;
/** Where ambit marks its own packets, so that the pod's redirection lets them out (reference ztunnel 1.4). */
const PACKET_MARK = 1337;
const SOL_SOCKET = 1;
const SO_MARK = 36;

export interface Endpoint {
  readonly ip: string;
  readonly port: number;
}

export interface ClientHop {
  readonly listen: Endpoint;
  readonly admin: Endpoint;
  /** The second hop's listener. */
  readonly peer: Endpoint;
  /** The CONNECT authority; undefined takes the original destination of the redirected connection. */
  readonly authority: string | undefined;
  readonly certificates: CertificateFiles;
  readonly peerSpiffeId: string;
  /** Connections to the peer carry ambit's packet mark. Needs NET_ADMIN. */
  readonly mark: boolean;
}

export interface ServerHop {
  readonly listen: Endpoint;
  readonly admin: Endpoint;
  readonly application: Endpoint;
  readonly certificates: CertificateFiles;
  readonly peerSpiffeId: string;
  readonly mark: boolean;
}

const typed = (type: string, fields: object = {}) => ({ "@type": `type.googleapis.com/${type}`, ...fields });

function address(endpoint: Endpoint) {
  return { socket_address: { address: endpoint.ip, port_value: endpoint.port } };
}

function http2Options() {
  return {
    allow_connect: true,
    max_concurrent_streams: STREAMS_PER_CONNECTION,
    initial_stream_window_size: STREAM_WINDOW_BYTES,
    initial_connection_window_size: CONNECTION_WINDOW_BYTES,
  };
}

function tlsContext(files: CertificateFiles, peerSpiffeId: string) {
  return {
    alpn_protocols: ["h2"],
    tls_params: { tls_minimum_protocol_version: "TLSv1_3", tls_maximum_protocol_version: "TLSv1_3" },
    tls_certificates: [{ certificate_chain: { filename: files.certificate }, private_key: { filename: files.key } }],
    validation_context: {
      trusted_ca: { filename: files.root },
      match_typed_subject_alt_names: [{ san_type: "URI", matcher: { exact: peerSpiffeId } }],
    },
  };
}

function cluster(name: string, endpoint: Endpoint, mark: boolean, extra: object) {
  return {
    name,
    type: "STATIC",
    connect_timeout: "10s",
    circuit_breakers: {
      thresholds: [{
        max_connections: NO_CIRCUIT_BREAKER,
        max_pending_requests: NO_CIRCUIT_BREAKER,
        max_requests: NO_CIRCUIT_BREAKER,
      }],
    },
    load_assignment: {
      cluster_name: name,
      endpoints: [{ lb_endpoints: [{ endpoint: { address: address(endpoint) } }] }],
    },
    ...(mark
      ? {
        upstream_bind_config: {
          socket_options: [{ level: SOL_SOCKET, name: SO_MARK, int_value: PACKET_MARK, state: "STATE_PREBIND" }],
        },
      }
      : {}),
    ...extra,
  };
}

/** The bootstrap of the first hop: plain TCP in, HBONE out. */
export function clientHopConfig(hop: ClientHop): object {
  const redirected = hop.authority === undefined;
  return {
    admin: { address: address(hop.admin) },
    static_resources: {
      listeners: [{
        name: "outbound",
        address: address(hop.listen),
        listener_filters: redirected
          ? [{
            name: "envoy.filters.listener.original_dst",
            typed_config: typed("envoy.extensions.filters.listener.original_dst.v3.OriginalDst"),
          }]
          : [],
        filter_chains: [{
          filters: [{
            name: "envoy.filters.network.tcp_proxy",
            typed_config: typed("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", {
              stat_prefix: "outbound",
              cluster: "hbone",
              idle_timeout: "0s",
              tunneling_config: { hostname: hop.authority ?? "%DOWNSTREAM_LOCAL_ADDRESS%" },
            }),
          }],
        }],
      }],
      clusters: [cluster("hbone", hop.peer, hop.mark, {
        typed_extension_protocol_options: {
          "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed(
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            { explicit_http_config: { http2_protocol_options: http2Options() } },
          ),
        },
        transport_socket: {
          name: "envoy.transport_sockets.tls",
          typed_config: typed("envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", {
            common_tls_context: tlsContext(hop.certificates, hop.peerSpiffeId),
          }),
        },
      })],
    },
  };
}

/** The bootstrap of the second hop: HBONE in, plain TCP to the application. */
export function serverHopConfig(hop: ServerHop): object {
  return {
    admin: { address: address(hop.admin) },
    static_resources: {
      listeners: [{
        name: "inbound",
        address: address(hop.listen),
        filter_chains: [{
          transport_socket: {
            name: "envoy.transport_sockets.tls",
            typed_config: typed("envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext", {
              require_client_certificate: true,
              disable_stateless_session_resumption: true,
              disable_stateful_session_resumption: true,
              common_tls_context: tlsContext(hop.certificates, hop.peerSpiffeId),
            }),
          },
          filters: [{ name: "envoy.filters.network.http_connection_manager", typed_config: connectManager() }],
        }],
      }],
      clusters: [cluster("application", hop.application, hop.mark, {})],
    },
  };
}

function connectManager(): object {
  return typed("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", {
    stat_prefix: "inbound",
    codec_type: "HTTP2",
    stream_idle_timeout: "0s",
    http2_protocol_options: http2Options(),
    upgrade_configs: [{ upgrade_type: "CONNECT" }],
    route_config: {
      name: "connect",
      virtual_hosts: [{
        name: "any",
        domains: ["*"],
        routes: [{
          match: { connect_matcher: {} },
          route: {
            cluster: "application",
            timeout: "0s",
            upgrade_configs: [{ upgrade_type: "CONNECT", connect_config: {} }],
          },
        }],
      }],
    },
    http_filters: [{
      name: "envoy.filters.http.router",
      typed_config: typed("envoy.extensions.filters.http.router.v3.Router"),
    }],
  });
}
