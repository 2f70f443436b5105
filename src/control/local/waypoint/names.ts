/** Names as istiod gives them (waypoint.md 2.3, 2.7); istioctl and dashboards read them. */
import type { Service } from "../../../mesh/types.ts";

export type Protocol = "http" | "tcp";

/** SMTP, DNS, MySQL, MongoDB: there the server may speak first, and istiod takes a port of which nothing is known for one of bytes. */
const BYTES_ONLY: ReadonlySet<number> = new Set([25, 53, 3306, 27_017]);

/** What a port may speak; of two the client's first bytes tell. */
export function protocolsOf(port: number): readonly Protocol[] {
  return BYTES_ONLY.has(port) ? ["tcp"] : ["http", "tcp"];
}

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
