/** istio.stats: what of Istio's standard metrics is changed. */
import type { Any } from "@bufbuild/protobuf/wkt";
import { MetricType, type PluginConfig, PluginConfigSchema, Reporter } from "../../gen/stats/config_pb.ts";
import type { StatsSpec } from "../spec/mod.ts";
import { milliseconds, understand, unpack, Unsupported } from "./guard.ts";

export const STATS_TYPE = PluginConfigSchema.typeName;

const CONFIG = understand(
  PluginConfigSchema,
  "disable_host_header_fallback tcp_reporting_duration metrics definitions reporter",
  "rotation_interval graceful_deletion_interval",
);
/** Envoy's. */
const TCP_REPORTING_MS = 5_000;
const TYPES = {
  [MetricType.COUNTER]: "counter",
  [MetricType.GAUGE]: "gauge",
  [MetricType.HISTOGRAM]: "histogram",
} as const;

/** @throws Unsupported */
export function statsSpec(any: Any): StatsSpec {
  const config: PluginConfig = unpack(any, CONFIG);
  if (config.reporter !== Reporter.SERVER_GATEWAY) {
    throw new Unsupported("istio.stats of anything but a waypoint is not supported");
  }
  return {
    hostHeaderFallback: !config.disableHostHeaderFallback,
    tcpReportingMs: milliseconds(config.tcpReportingDuration, TCP_REPORTING_MS),
    metrics: config.metrics.map(({ name, dimensions, tagsToRemove, match, drop }) => ({
      name,
      dimensions: { ...dimensions },
      tagsToRemove,
      match,
      drop,
    })),
    definitions: config.definitions.map(({ name, value, type }) => ({ name, value, type: TYPES[type] ?? "counter" })),
  };
}
