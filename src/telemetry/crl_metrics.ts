/**
 * Metrics of certificate revocation (workers).
 *
 *   createCrlMetrics(registry): CrlMetrics
 *     rejected(reporter)    a connection was refused or ended because a certificate is revoked
 *     untracked(reporter)   a connection could not be kept track of, so a later revocation will not end it
 */
import { labelSet } from "./metric_family.ts";
import type { Family, Registry } from "./registry.ts";
import type { Reporter } from "./traffic_metrics.ts";

export interface CrlMetrics {
  rejected(reporter: Reporter): void;
  untracked(reporter: Reporter): void;
}

export function createCrlMetrics(registry: Registry): CrlMetrics {
  const register = (name: string, help: string) => registry.register({ name, help, type: "counter", unstable: true });
  const rejections = register(
    "istio_crl_policy_rejections",
    "Connections refused or ended because of a revoked certificate",
  );
  const untracked = register(
    "istio_crl_untracked_connections",
    "Connections that a later revocation will not end",
  );
  const count = (family: Family, reporter: Reporter) => {
    const slot = registry.acquire(family, labelSet({ reporter }));
    registry.add(slot, 1);
    registry.release(slot);
  };
  return {
    rejected: (reporter) => count(rejections, reporter),
    untracked: (reporter) => count(untracked, reporter),
  };
}
