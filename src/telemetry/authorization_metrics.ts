/**
 * Which policies refuse connections, and what dry-run policies would have done (workers).
 *
 *   createAuthorizationMetrics(registry): AuthorizationMetrics
 *     denied(destination, denial)   a connection was refused, or an open one ended by a change
 *     dryRun(destination, dry)      a dry-run policy matched a connection
 *   `policyOwner(key)`: evict it when the policy is gone; the destination's workload evicts its series too.
 */
import { escapeLabelValue, type LabelSet } from "./metric_family.ts";
import type { Family, Registry } from "./registry.ts";
import type { TrafficPeer } from "./traffic_metrics.ts";

/** The pod that refused. */
export type PolicySubject = Pick<TrafficPeer, "workload" | "namespace" | "owner">;

export interface Denial {
  /** As in a verdict. */
  readonly reason: "deny_policy" | "no_allow_matched" | "missing_policy";
  /** `namespace/name`; undefined where no single policy decided. */
  readonly policy: string | undefined;
  /** Counts from 0. */
  readonly rule: number | undefined;
  /** The connection was open and a change ended it. */
  readonly late: boolean;
}

export interface DryRunMatch {
  readonly policy: string;
  /** Counts from 0. */
  readonly rule: number;
  readonly would: "deny" | "allow";
}

export interface AuthorizationMetrics {
  denied(destination: PolicySubject, denial: Denial): void;
  dryRun(destination: PolicySubject, match: DryRunMatch): void;
}

/** Policies and rules come from the control plane, so this is only a bound; what is above it is counted as `other`. */
export const MAX_AUTHORIZATION_SERIES = 10_000;

/** The eviction owner of a policy's series; no workload's owner has a colon. */
export function policyOwner(policy: string): string {
  return `policy:${policy}`;
}

export function createAuthorizationMetrics(
  registry: Registry,
  maxSeries = MAX_AUTHORIZATION_SERIES,
  full: () => void = () => {},
): AuthorizationMetrics {
  const denials = registry.register({
    name: "ambit_authorization_denied",
    help: "Connections refused or ended by authorization policies",
    type: "counter",
    unstable: true,
  });
  const dryRuns = registry.register({
    name: "ambit_authorization_dry_run",
    help: "Connections that a dry-run policy matched",
    type: "counter",
    unstable: true,
  });

  function count(family: Family, labels: LabelSet, fallback: string): void {
    const bounded = family.series.has(labels.text) || family.series.size < maxSeries;
    if (!bounded) full();
    const slot = registry.acquire(family, bounded ? labels : { text: fallback, owners: [] });
    registry.add(slot, 1);
    registry.release(slot);
  }

  return {
    denied(destination, { reason, policy, rule, late }) {
      const head = `reason="${reason}",phase="${late ? "policy_change" : "open"}",`;
      count(denials, subjectLabels(head, policy, rule, destination), `${head}policy="other",${NOBODY}`);
    },
    dryRun(destination, { policy, rule, would }) {
      const head = `action="${would}",`;
      count(dryRuns, subjectLabels(head, policy, rule, destination), `${head}policy="other",${NOBODY}`);
    },
  };
}

const NOBODY = 'rule="",destination_workload="unknown",destination_workload_namespace="unknown"';

/** A rule is shown as people count them: from 1. */
function subjectLabels(
  head: string,
  policy: string | undefined,
  rule: number | undefined,
  destination: PolicySubject,
): LabelSet {
  const text = `${head}policy="${escapeLabelValue(policy ?? "")}",rule="${rule === undefined ? "" : rule + 1}",` +
    `destination_workload="${escapeLabelValue(destination.workload || "unknown")}",` +
    `destination_workload_namespace="${escapeLabelValue(destination.namespace || "unknown")}"`;
  const owners = destination.owner === undefined ? [] : [destination.owner];
  if (policy !== undefined) owners.push(policyOwner(policy));
  return { text, owners };
}
