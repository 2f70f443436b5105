/**
 * Envoy's statistics of the whole process (waypoint.md 6.2, appendix G), put together from the workers' reports when somebody asks. Names and values
 * that pilot-agent and istioctl look for are there also while they are zero.
 */
import type { WaypointState } from "../agent/state.ts";
import { TYPES } from "../config/mod.ts";
import type { WorkerCounts } from "../telemetry/worker_counts.ts";
import { GAUGES } from "../upstream/counters.ts";
import type { WorkerReport } from "../worker/messages.ts";
import type { ConfigView } from "./config_view.ts";

export interface Statistic {
  readonly name: string;
  readonly value: number;
  readonly kind: "counter" | "gauge";
}

export interface StatisticsInput {
  readonly state: WaypointState;
  readonly view: ConfigView;
  readonly reports: readonly WorkerReport[];
  /** Lines and records that the main thread lost. */
  readonly dropped: Readonly<Record<string, number>>;
  readonly nowMs: number;
  readonly memoryBytes: number;
  /** Infinity: there is no certificate. */
  readonly daysToExpiry: number;
}

/** Envoy's numbers for `server.state`. */
const STATES = { live: 0, draining: 1, initializing: 2 } as const;

export function collectStatistics(input: StatisticsInput): Statistic[] {
  const { reports, view } = input;
  const found = new Map<string, Statistic>();
  const add = (name: string, value: number, kind: Statistic["kind"]) => {
    const known = found.get(name);
    found.set(name, { name, value: (known?.value ?? 0) + value, kind });
  };
  for (const [name, value, kind] of serverStatistics(input)) add(name, value, kind);
  for (const [name, value] of Object.entries(input.dropped)) add(`ambit.${name}_dropped`, value, "counter");
  for (const { telemetry } of reports) {
    const counts = telemetry as WorkerCounts | undefined;
    if (counts === undefined) continue;
    for (const [prefix, values] of Object.entries(counts.http)) {
      for (const [name, value] of Object.entries(values)) add(`http.${marked(prefix)}.${name}`, value, "counter");
    }
    for (const [prefix, values] of Object.entries(counts.tcp)) {
      for (const [name, value] of Object.entries(values)) add(`tcp.${marked(prefix)}.${name}`, value, "counter");
    }
    for (const [name, value] of Object.entries(counts.rbac)) add(`rbac.${name}`, value, "counter");
    for (const [name, value] of Object.entries(counts.dropped)) add(`ambit.${name}_dropped`, value, "counter");
    for (const { name, counters } of counts.clusters) {
      const prefix = `cluster.${marked(view.clusters.get(name)?.statName || name)}`;
      for (const [counter, value] of Object.entries(counters)) {
        if (counter.startsWith("membership_")) continue;
        add(`${prefix}.${counter}`, value, (GAUGES as ReadonlySet<string>).has(counter) ? "gauge" : "counter");
      }
    }
  }
  for (const [name, value] of memberships(reports, view)) add(name, value, "gauge");
  return [...found.values()].sort((a, b) => a.name < b.name ? -1 : 1);
}

/** Istio ends its names with a mark, by which they are cut out again as labels. */
function marked(name: string): string {
  const clean = name.replaceAll(":", "_");
  return clean.endsWith(";") ? clean : `${clean};`;
}

/** All workers have the same members: they are not added up. */
function* memberships(reports: readonly WorkerReport[], view: ConfigView): Generator<readonly [string, number]> {
  const seen = new Set<string>();
  for (const { telemetry } of reports) {
    for (const { name, counters } of (telemetry as WorkerCounts | undefined)?.clusters ?? []) {
      if (seen.has(name)) continue;
      seen.add(name);
      const prefix = `cluster.${marked(view.clusters.get(name)?.statName || name)}`;
      for (const key of ["membership_total", "membership_healthy", "membership_degraded"]) {
        yield [`${prefix}.${key}`, counters[key] ?? 0];
      }
    }
  }
}

function serverStatistics(
  { state, view, reports, nowMs, memoryBytes, daysToExpiry }: StatisticsInput,
): readonly (readonly [string, number, Statistic["kind"]])[] {
  const sum = (read: (report: WorkerReport) => number) => reports.reduce((total, report) => total + read(report), 0);
  const connections = sum((report) => report.connections);
  const listeners = state.resources.get(url(TYPES.listeners))?.size ?? 0;
  return [
    ...updates("cluster_manager.cds", state.types.get(url(TYPES.clusters))),
    ["cluster_manager.active_clusters", view.clusters.size, "gauge"],
    ["cluster_manager.warming_clusters", 0, "gauge"],
    ...updates("listener_manager.lds", state.types.get(url(TYPES.listeners))),
    ["listener_manager.total_listeners_active", listeners, "gauge"],
    ["listener_manager.workers_started", reports.length === 0 ? 0 : 1, "gauge"],
    ["listener.0.0.0.0_15008.downstream_cx_active", connections, "gauge"],
    ["http.connect_terminate.downstream_rq_active", sum((report) => report.streams), "gauge"],
    ["server.state", STATES[state.phase], "gauge"],
    ["server.live", state.phase === "live" ? 1 : 0, "gauge"],
    ["server.uptime", Math.floor((nowMs - state.startedMs) / 1000), "gauge"],
    ["server.concurrency", state.workers, "gauge"],
    ["server.memory_allocated", memoryBytes, "gauge"],
    ["server.memory_heap_size", memoryBytes, "gauge"],
    ["server.total_connections", connections, "gauge"],
    // Envoy: the largest number it has, when there is no certificate.
    [
      "server.days_until_first_cert_expiring",
      Number.isFinite(daysToExpiry) ? Math.floor(daysToExpiry) : 2 ** 32 - 1,
      "gauge",
    ],
    ["workload_discovery.total", view.workloadCount, "gauge"],
  ];
}

function updates(
  prefix: string,
  status: { readonly accepted: number; readonly rejected: number; readonly lastUpdateMs: number } | undefined,
): readonly (readonly [string, number, Statistic["kind"]])[] {
  const { accepted = 0, rejected = 0, lastUpdateMs = 0 } = status ?? {};
  return [
    [`${prefix}.update_attempt`, accepted + rejected, "counter"],
    [`${prefix}.update_rejected`, rejected, "counter"],
    [`${prefix}.update_success`, accepted, "counter"],
    [`${prefix}.update_time`, lastUpdateMs, "gauge"],
  ];
}

function url(type: string): string {
  return `type.googleapis.com/${type}`;
}
