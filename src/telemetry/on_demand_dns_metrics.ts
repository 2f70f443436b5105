/**
 * Names of workloads that were resolved when a connection needed them (workers).
 *
 *   createOnDemandDnsMetrics(registry): OnDemandDnsMetrics
 *     resolved(source, hostname)   a connection of `source` needed the address behind `hostname`
 */
import { formatLabel, type LabelSet } from "./metric_family.ts";
import type { Registry } from "./registry.ts";
import { peerText, type TrafficPeer } from "./traffic_metrics.ts";

export interface OnDemandDnsMetrics {
  /** Counts each connection that needed it, whether a cache answered or not. */
  resolved(source: TrafficPeer, hostname: string): void;
}

/** Host names come from the control plane; above this many series they are counted as `other`. */
export const MAX_ON_DEMAND_SERIES = 10_000;

export function createOnDemandDnsMetrics(
  registry: Registry,
  full: () => void = () => {},
): OnDemandDnsMetrics {
  const family = registry.register({
    name: "istio_on_demand_dns",
    help: "Connections that needed a workload's host name resolved",
    type: "counter",
    unstable: true,
  });
  return {
    resolved(source, hostname) {
      const labelsFor = (name: string): LabelSet => ({
        text: `${peerText("source", source)},${formatLabel("hostname", name)}`,
        owners: source.owner === undefined ? [] : [source.owner],
      });
      const labels = labelsFor(hostname);
      const bounded = family.series.has(labels.text) || family.series.size < MAX_ON_DEMAND_SERIES;
      if (!bounded) full();
      const slot = registry.acquire(family, bounded ? labels : labelsFor("other"));
      registry.add(slot, 1);
      registry.release(slot);
    },
  };
}
