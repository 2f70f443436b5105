/** Transport sockets: to internal listeners, and mTLS with the mesh's certificates (waypoint.md 2.7, 2.10). */
import type { JsonObject } from "@bufbuild/protobuf";
import { CONNECT_ORIGINATE, ORIGINAL_DST } from "./names.ts";
import { extension, packed } from "./xds_resource.ts";

const TLS = "envoy.extensions.transport_sockets.tls.v3";

const RAW = extension("raw_buffer", "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer");

/** To another listener of the same process. */
export function internalTransport(withHostMetadata: boolean): JsonObject {
  const metadata: JsonObject = withHostMetadata
    ? { passthrough_metadata: [ORIGINAL_DST, "istio"].map((name) => ({ kind: { host: {} }, name })) }
    : {};
  const type = "envoy.extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport";
  return extension("internal_upstream", type, { ...metadata, transport_socket: RAW });
}

/** Chooses by what the endpoint says of itself: through a tunnel, or plain. */
export const TUNNEL_OR_PLAIN: readonly JsonObject[] = [
  { match: { tunnel: "http" }, name: "hbone", transport_socket: internalTransport(true) },
  { match: {}, name: "tlsMode-disabled", transport_socket: RAW },
];

/** Peers of the mesh, by URI SAN. */
export function meshTls(side: "Upstream" | "Downstream", trustDomains: readonly string[]): JsonObject {
  const common = {
    alpn_protocols: ["h2"],
    combined_validation_context: {
      default_validation_context: {
        match_typed_subject_alt_names: trustDomains.map((name) => ({
          matcher: { prefix: `spiffe://${name}/` },
          san_type: "URI",
        })),
      },
      validation_context_sds_secret_config: secret("ROOTCA"),
    },
    tls_certificate_sds_secret_configs: [secret("default")],
    tls_params: { tls_maximum_protocol_version: "TLSv1_3", tls_minimum_protocol_version: "TLSv1_3" },
  };
  return extension("tls", `${TLS}.${side}TlsContext`, {
    common_tls_context: common,
    ...(side === "Downstream" ? { require_client_certificate: true } : {}),
  });
}

function secret(name: string): JsonObject {
  return {
    name,
    sds_config: {
      api_config_source: {
        api_type: "GRPC",
        grpc_services: [{ envoy_grpc: { cluster_name: "sds-grpc" } }],
        set_node_on_first_message_only: true,
        transport_api_version: "V3",
      },
      initial_fetch_timeout: "0s",
      resource_api_version: "V3",
    },
  };
}

const HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/** How a cluster speaks HTTP to its endpoints. */
export function httpOptions(fields: JsonObject): JsonObject {
  return { [HTTP_OPTIONS]: packed(HTTP_OPTIONS, fields) };
}

/** The version that the client speaks. */
export const AS_DOWNSTREAM: JsonObject = {
  use_downstream_protocol_config: { http_protocol_options: {}, http2_protocol_options: {} },
};

export function internalAddress(listener: string, endpointId = ""): JsonObject {
  return {
    envoy_internal_address: {
      server_listener_name: listener,
      ...(endpointId === "" ? {} : { endpoint_id: endpointId }),
    },
  };
}

export const TUNNELLED = (socket: string): JsonObject => internalAddress(CONNECT_ORIGINATE, socket);
