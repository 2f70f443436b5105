/** What pilot-agent tells of itself under `istio_agent_…`, as far as it is a fact here too. Set on the main thread, at each scrape. */
import { type LabelSet, labelSet, NO_LABELS } from "../../telemetry/metric_family.ts";
import type { Family, Registry, Slot } from "../../telemetry/registry.ts";

export interface AgentMetrics {
  scraped(facts: ScrapeFacts): void;
}

export interface ScrapeFacts {
  /** From the start of the process until it was ready; undefined before. */
  readonly startupMs: number | undefined;
  /** Until the own certificate ends; undefined: there is none. */
  readonly certificateSeconds: number | undefined;
  readonly residentBytes: number;
  readonly cpuSeconds: number;
  readonly openDescriptors: number;
  readonly maxDescriptors: number;
}

export function createAgentMetrics(registry: Registry, startedMs: number): AgentMetrics {
  const gauge = (name: string, help: string) =>
    registry.acquire(registry.register({ name: `istio_agent_${name}`, help, type: "gauge" }), NO_LABELS);
  const counter = (name: string, help: string) =>
    registry.acquire(registry.register({ name: `istio_agent_${name}`, help, type: "counter" }), NO_LABELS);
  const expiry = registry.register({
    name: "istio_agent_cert_expiry_seconds",
    help: "The time remaining, in seconds, before the certificate chain will expire",
    type: "gauge",
  });
  const startup = registry.register({
    name: "istio_agent_startup_duration_seconds",
    help: "The time from the process starting to being marked ready",
    type: "gauge",
  });
  const scrapes = counter("scrapes", "The total number of scrapes");
  const cpu = counter("process_cpu_seconds", "Total user and system CPU time spent in seconds");
  const resident = gauge("process_resident_memory_bytes", "Resident memory size in bytes");
  const started = gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds");
  const open = gauge("process_open_fds", "Number of open file descriptors");
  const max = gauge("process_max_fds", "Maximum number of open file descriptors");
  registry.set(started, startedMs / 1000);
  return {
    scraped({ startupMs, certificateSeconds, residentBytes, cpuSeconds, openDescriptors, maxDescriptors }) {
      registry.add(scrapes, 1);
      registry.set(cpu, cpuSeconds);
      registry.set(resident, residentBytes);
      registry.set(open, openDescriptors);
      registry.set(max, maxDescriptors);
      if (startupMs !== undefined) registry.set(once(startup, NO_LABELS), startupMs / 1000);
      if (certificateSeconds !== undefined) {
        registry.set(once(expiry, labelSet({ resource_name: "default" })), certificateSeconds);
      }
    },
  };

  /** A series that is not there before there is something to tell. */
  function once(family: Family, labels: LabelSet): Slot {
    return family.series.get(labels.text)?.slot ?? registry.acquire(family, labels);
  }
}
