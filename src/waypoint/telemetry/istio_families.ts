/** Istio's standard metrics, waypoint.md 6.1: their names, help and buckets, and the order of their labels. */
import type { FamilySpec } from "../../telemetry/metric_family.ts";

/** Envoy's default buckets, which Istio keeps for times and sizes alike. */
const BUCKETS = [
  0.5,
  1,
  5,
  10,
  25,
  50,
  100,
  250,
  500,
  1000,
  2500,
  5000,
  10000,
  30000,
  60000,
  300000,
  600000,
  1800000,
  3600000,
];

/** By the names that overrides use for them. */
export const HTTP_METRICS = {
  requests_total: { name: "istio_requests", help: "The number of requests", type: "counter" },
  request_duration_milliseconds: {
    name: "istio_request_duration_milliseconds",
    help: "How long requests took, in milliseconds",
    type: "histogram",
    buckets: BUCKETS,
  },
  request_bytes: {
    name: "istio_request_bytes",
    help: "The size of requests with their heads",
    type: "histogram",
    buckets: BUCKETS,
  },
  response_bytes: {
    name: "istio_response_bytes",
    help: "The size of responses with their heads",
    type: "histogram",
    buckets: BUCKETS,
  },
  request_messages_total: {
    name: "istio_request_messages",
    help: "The number of gRPC messages that clients sent",
    type: "counter",
  },
  response_messages_total: {
    name: "istio_response_messages",
    help: "The number of gRPC messages that servers sent",
    type: "counter",
  },
} as const satisfies Readonly<Record<string, FamilySpec>>;

export const TCP_METRICS = {
  tcp_connections_opened_total: {
    name: "istio_tcp_connections_opened",
    help: "The total number of TCP connections opened",
    type: "counter",
  },
  tcp_connections_closed_total: {
    name: "istio_tcp_connections_closed",
    help: "The total number of TCP connections closed",
    type: "counter",
  },
  tcp_sent_bytes_total: {
    name: "istio_tcp_sent_bytes",
    help: "The size of total bytes sent to clients of TCP connections",
    type: "counter",
  },
  tcp_received_bytes_total: {
    name: "istio_tcp_received_bytes",
    help: "The size of total bytes received from clients of TCP connections",
    type: "counter",
  },
} as const satisfies Readonly<Record<string, FamilySpec>>;

export type HttpMetric = keyof typeof HTTP_METRICS;
export type TcpMetric = keyof typeof TCP_METRICS;

/** In Istio's order. What only requests have is left out for connections. */
export const LABELS = [
  "reporter",
  "source_workload",
  "source_canonical_service",
  "source_canonical_revision",
  "source_workload_namespace",
  "source_principal",
  "source_app",
  "source_version",
  "source_cluster",
  "destination_workload",
  "destination_workload_namespace",
  "destination_principal",
  "destination_app",
  "destination_version",
  "destination_service",
  "destination_canonical_service",
  "destination_canonical_revision",
  "destination_service_name",
  "destination_service_namespace",
  "destination_cluster",
  "request_protocol",
  "response_code",
  "grpc_response_status",
  "response_flags",
  "connection_security_policy",
] as const;

/** A metric of the mesh operator's own. */
export function customFamily(name: string, type: "counter" | "gauge" | "histogram"): FamilySpec {
  const base = `istio_${name.replace(/[^A-Za-z0-9_]/g, "_")}`;
  return {
    name: type === "counter" ? base.replace(/_total$/, "") : base,
    help: "A metric defined by a Telemetry resource",
    type,
    ...(type === "histogram" ? { buckets: BUCKETS } : {}),
  };
}
