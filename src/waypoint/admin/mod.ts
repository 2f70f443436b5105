/** Admin of a waypoint, on the main thread. Sockets and what all roles' servers share come from src/admin by way of the role. */
export { type AgentMetrics, createAgentMetrics } from "./agent_metrics.ts";
export { daysToExpiry, secondsToExpiry } from "./certificates_page.ts";
export { ConfigView } from "./config_view.ts";
export { createEnvoyAdmin, type EnvoyAdminOptions } from "./envoy_admin.ts";
export type { LogControl } from "./log_levels.ts";
export { PROMETHEUS_TYPE, type PrometheusOptions, prometheusPieces } from "./prometheus.ts";
export { collectStatistics, type Statistic } from "./statistics.ts";
export { inclusionOf } from "./stats_text.ts";
