/** Telemetry of the whole process, on the main thread: the workers' metrics put together, their spans and records sent on. */
import { type FamilySpec, labelSet } from "../../telemetry/metric_family.ts";
import type { Registry } from "../../telemetry/registry.ts";
import type { Exporter } from "./export/exporter.ts";
import { HTTP_METRICS, TCP_METRICS } from "./istio_families.ts";
import type { TelemetryMessage } from "./messages.ts";

export interface MainTelemetryOptions {
  readonly registry: Registry;
  readonly exporter: Pick<Exporter, "received">;
  /** For `istio_build`. */
  readonly version: string;
}

export class MainTelemetry {
  readonly #registry: Registry;
  readonly #exporter: MainTelemetryOptions["exporter"];
  readonly #families = new Set<string>();

  constructor({ registry, exporter, version }: MainTelemetryOptions) {
    this.#registry = registry;
    this.#exporter = exporter;
    for (const spec of [...Object.values(HTTP_METRICS), ...Object.values(TCP_METRICS)]) this.#register(spec);
    const build = registry.register({ name: "istio_build", help: "The version of the proxy", type: "gauge" });
    registry.set(registry.acquire(build, labelSet({ component: "proxy", tag: version })), 1);
  }

  received(message: TelemetryMessage): void {
    if (message.kind !== "metrics") return this.#exporter.received(message);
    for (const spec of message.families) this.#register(spec);
    this.#registry.merge(message.snapshot);
  }

  /** A worker is no more: its counts stay. */
  lost(source: string): void {
    this.#registry.forget(source);
  }

  /** Metrics of a Telemetry resource are known when a worker first counts them. */
  #register(spec: FamilySpec): void {
    if (this.#families.has(spec.name)) return;
    this.#families.add(spec.name);
    this.#registry.register(spec);
  }
}
