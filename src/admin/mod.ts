/** The three HTTP servers of a role: readiness, metrics, admin. What they show comes in as arguments. */
export { createAdminApp } from "./admin.ts";
export type { AdminControl, LogControl } from "./admin.ts";
export { composeConfigDump } from "./config_dump.ts";
export type {
  CertificateInfo,
  CertificateState,
  ConfigDumpInput,
  IdentityCertificate,
  InboundConnection,
  OutboundConnection,
  PodState,
} from "./config_dump.ts";
export { createMetricsApp, expositionResponse } from "./metrics.ts";
export type { MetricsSource } from "./metrics.ts";
export { createReadinessApp, Readiness } from "./readiness.ts";
export type { ReadinessTask } from "./readiness.ts";
export { isLoopback, listen } from "./server.ts";
export type { App, AppEnvironment, HttpServer } from "./server.ts";
export { ADMIN_SLICES, inSlices, streamText } from "./slices.ts";
