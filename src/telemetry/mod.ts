/** Telemetry: the log, the access log and metrics. Nothing here opens a file or a socket. */
export { createAccessLog } from "./access_log.ts";
export type { AccessConnection, AccessLog, AccessOutcome, AccessPeer } from "./access_log.ts";
export { buildInfo, formatBuildInfo } from "./build_info.ts";
export type { BuildInfo } from "./build_info.ts";
export { bare, createLog, createWallClock } from "./log.ts";
export type { Bare, Fields, FieldValue, Level, Log, LogFormat, Logger, LogSettings } from "./log.ts";
export { createLogWriter } from "./log_writer.ts";
export type { LogWriter, LogWriterSettings } from "./log_writer.ts";
export { labelSet, NO_LABELS } from "./metric_family.ts";
export type { FamilySpec, LabelSet, MetricType } from "./metric_family.ts";
export { openMetricsPieces, renderOpenMetrics } from "./openmetrics.ts";
export { createProcessMetrics } from "./process_metrics.ts";
export type { ProcessMetrics } from "./process_metrics.ts";
export { Registry } from "./registry.ts";
export type { Family, MetricsSnapshot, RegistrySettings, Series, Slot } from "./registry.ts";
export { createTrafficMetrics, MAX_TRAFFIC_SERIES } from "./traffic_metrics.ts";
export type {
  ConnectionMetrics,
  Reporter,
  ResponseFlags,
  TrafficKey,
  TrafficMetrics,
  TrafficPeer,
  TrafficService,
} from "./traffic_metrics.ts";
export { createAuthorizationMetrics, policyOwner } from "./authorization_metrics.ts";
export type { AuthorizationMetrics, Denial, DryRunMatch, PolicySubject } from "./authorization_metrics.ts";
export { createCrlMetrics } from "./crl_metrics.ts";
export type { CrlMetrics } from "./crl_metrics.ts";
export { createDnsMetrics } from "./dns_metrics.ts";
export type { DnsMetrics, DnsQuery, DnsSource } from "./dns_metrics.ts";
export { createLimits, LIMITS } from "./limits.ts";
export type { LimitName, Limits, LimitsSettings } from "./limits.ts";
export { createOnDemandDnsMetrics } from "./on_demand_dns_metrics.ts";
export type { OnDemandDnsMetrics } from "./on_demand_dns_metrics.ts";
export { createWorkerMetrics } from "./worker_metrics.ts";
export type { WorkerMetrics } from "./worker_metrics.ts";
export { createXdsMetrics } from "./xds_metrics.ts";
export type { XdsMetrics, XdsTermination } from "./xds_metrics.ts";
