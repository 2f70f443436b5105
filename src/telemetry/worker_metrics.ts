/**
 * All metrics that workers count. The main thread's registry merges theirs, so it registers the same: both call this, and
 * no family can be forgotten on one side.
 */
import { type AuthorizationMetrics, createAuthorizationMetrics } from "./authorization_metrics.ts";
import { createCrlMetrics, type CrlMetrics } from "./crl_metrics.ts";
import { createDnsMetrics, type DnsMetrics } from "./dns_metrics.ts";
import { createLimits, type Limits } from "./limits.ts";
import type { Logger } from "./log.ts";
import { createOnDemandDnsMetrics, type OnDemandDnsMetrics } from "./on_demand_dns_metrics.ts";
import type { Registry } from "./registry.ts";
import { createTrafficMetrics, type TrafficMetrics } from "./traffic_metrics.ts";

export interface WorkerMetrics {
  readonly traffic: TrafficMetrics;
  readonly authorization: AuthorizationMetrics;
  readonly dns: DnsMetrics;
  readonly onDemandDns: OnDemandDnsMetrics;
  readonly crl: CrlMetrics;
  readonly limits: Limits;
}

/** @param nowMs a clock that only moves forward. */
export function createWorkerMetrics(registry: Registry, log: Logger, nowMs: () => number): WorkerMetrics {
  const full = (metric: string) => () => limits.reached("metric_series", { metric });
  const metrics = {
    traffic: createTrafficMetrics(registry, undefined, full("istio_tcp")),
    authorization: createAuthorizationMetrics(registry, undefined, full("ambit_authorization")),
    dns: createDnsMetrics(registry),
    onDemandDns: createOnDemandDnsMetrics(registry, full("istio_on_demand_dns")),
    crl: createCrlMetrics(registry),
  };
  const limits = createLimits({ registry, log, nowMs });
  return { ...metrics, limits };
}
