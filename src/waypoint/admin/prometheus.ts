/**
 * All metrics of a waypoint as one text in Prometheus' format 0.0.4, which pilot-agent and Envoy answer with whatever is asked for: Envoy's names
 * first, then the registry's. Ports 15000, 15020 and 15090 show the same.
 */
import { openMetricsPieces } from "../../telemetry/openmetrics.ts";
import type { Registry } from "../../telemetry/registry.ts";
import type { Statistic } from "./statistics.ts";
import { type Inclusion, statsPrometheus } from "./stats_text.ts";

export interface PrometheusOptions {
  readonly registry: Registry;
  /** Asks the workers: their metrics are in the registry then. */
  readonly statistics: () => Promise<readonly Statistic[]>;
  readonly inclusion: Inclusion;
}

export const PROMETHEUS_TYPE = "text/plain; version=0.0.4; charset=utf-8";

export async function prometheusPieces(
  { registry, statistics, inclusion }: PrometheusOptions,
): Promise<Iterable<string>> {
  const envoy = await statistics();
  const own = openMetricsPieces(registry, "prometheus");
  return (function* () {
    yield* statsPrometheus(envoy, inclusion);
    yield* own;
  })();
}
