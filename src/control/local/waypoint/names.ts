/** Names as istiod gives them (waypoint.md 2.3, 2.7); istioctl and dashboards read them. */
import type { Service } from "../../../mesh/types.ts";

export type Protocol = "http" | "tcp";

/** Of a chain, and of the cluster behind it: a port of a service that passes the waypoint. */
export function inboundName(port: number, protocol: Protocol, { hostname }: Service): string {
  return `inbound-vip|${port}|${protocol}|${hostname}`;
}

/** Of a cluster: a port of any other service. */
export function outboundName(port: number, { hostname }: Service): string {
  return `outbound|${port}||${hostname}`;
}

export const CONNECT_ORIGINATE = "connect_originate";
export const CONNECT_TERMINATE = "connect_terminate";
export const MAIN_INTERNAL = "main_internal";
/** Of chains by address, and the cluster of the address that was called. */
export const ENCAP = "encap";

export const ORIGINAL_DST = "envoy.filters.listener.original_dst";
export const PEER_PRINCIPAL = "io.istio.peer_principal";
/** As istiod names a mesh of one cluster. */
export const CLUSTER_ID = "Kubernetes";
