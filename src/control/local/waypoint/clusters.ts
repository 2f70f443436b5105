/** Clusters: ports of services, the way out through the tunnel, and the address that was called (waypoint.md 2.7). */
import type { JsonObject } from "@bufbuild/protobuf";
import { HBONE_PORT } from "../../../mesh/ports.ts";
import type { Service } from "../../../mesh/types.ts";
import {
  CONNECT_ORIGINATE,
  ENCAP,
  inboundName,
  MAIN_INTERNAL,
  ORIGINAL_DST,
  outboundName,
  type Protocol,
} from "./names.ts";
import {
  AS_DOWNSTREAM,
  httpOptions,
  internalAddress,
  internalTransport,
  meshTls,
  TUNNEL_OR_PLAIN,
} from "./transports.ts";

const UNLIMITED = 4_294_967_295;
const NO_LIMITS: JsonObject = {
  thresholds: [{
    max_connections: UNLIMITED,
    max_pending_requests: UNLIMITED,
    max_requests: UNLIMITED,
    max_retries: UNLIMITED,
  }],
};
const CONNECT_TIMEOUT = "10s";

/** A port of a service that passes the waypoint. Nothing says what the port speaks, so HTTP goes on in the client's version. */
export function inboundCluster(service: Service, port: number, protocol: Protocol): JsonObject {
  return {
    ...serviceCluster(inboundName(port, protocol, service), service, protocol),
    transport_socket: internalTransport(true),
  };
}

/** A port of a service that a route leads to, past any waypoint of its own. */
export function outboundCluster(service: Service, port: number): JsonObject {
  return {
    ...serviceCluster(outboundName(port, service), service, undefined),
    transport_socket_matches: [...TUNNEL_OR_PLAIN],
  };
}

function serviceCluster(name: string, { hostname, name: service, namespace }: Service, subset?: string): JsonObject {
  return {
    ...named(name),
    type: "EDS",
    lb_policy: "LEAST_REQUEST",
    connect_timeout: CONNECT_TIMEOUT,
    // Without this share of healthy endpoints all would be used, the sick ones too.
    common_lb_config: { healthy_panic_threshold: {} },
    eds_cluster_config: {
      eds_config: { ads: {}, initial_fetch_timeout: "0s", resource_api_version: "V3" },
      service_name: name,
    },
    metadata: {
      filter_metadata: {
        istio: {
          services: [{ host: hostname, name: service, namespace }],
          ...(subset === undefined ? {} : { subset }),
        },
      },
    },
    typed_extension_protocol_options: httpOptions(AS_DOWNSTREAM),
  };
}

/** What every waypoint has. */
export function ownClusters(trustDomains: readonly string[]): readonly JsonObject[] {
  const toListener = (name: string, listener: string): JsonObject => ({
    ...named(name),
    type: "STATIC",
    load_assignment: {
      cluster_name: name,
      endpoints: [{ lb_endpoints: [{ endpoint: { address: internalAddress(listener) } }] }],
    },
    transport_socket: internalTransport(false),
    typed_extension_protocol_options: httpOptions({
      common_http_protocol_options: { idle_timeout: "300s" },
      ...AS_DOWNSTREAM,
    }),
  });
  return [
    {
      ...named(CONNECT_ORIGINATE),
      type: "ORIGINAL_DST",
      lb_policy: "CLUSTER_PROVIDED",
      connect_timeout: CONNECT_TIMEOUT,
      cleanup_interval: "60s",
      original_dst_lb_config: {
        metadata_key: { key: ORIGINAL_DST, path: [{ key: "waypoint" }] },
        upstream_port_override: HBONE_PORT,
      },
      transport_socket: meshTls("Upstream", trustDomains),
      typed_extension_protocol_options: httpOptions({
        common_http_protocol_options: { idle_timeout: "3600s" },
        explicit_http_config: { http2_protocol_options: { allow_connect: true } },
      }),
    },
    toListener(ENCAP, CONNECT_ORIGINATE),
    toListener(MAIN_INTERNAL, MAIN_INTERNAL),
  ];
}

function named(name: string): JsonObject {
  return { name, alt_stat_name: `${name};`, circuit_breakers: NO_LIMITS };
}
