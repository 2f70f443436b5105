/** What of the configuration is in force, as the main thread tells it to the workers: for admin pages and for ways to collectors. */
import type { ClusterSpec, ConfigUpdate, EndpointsSpec } from "../spec/mod.ts";

export class ConfigView {
  readonly #clusters = new Map<string, ClusterSpec>();
  readonly #endpoints = new Map<string, EndpointsSpec>();
  readonly #workloads = new Set<string>();

  apply(change: Partial<ConfigUpdate>): void {
    for (const name of change.removedClusters ?? []) this.#clusters.delete(name);
    for (const cluster of change.clusters ?? []) this.#clusters.set(cluster.name, cluster);
    for (const name of change.removedEndpoints ?? []) this.#endpoints.delete(name);
    for (const endpoints of change.endpoints ?? []) this.#endpoints.set(endpoints.name, endpoints);
    for (const uid of change.removedWorkloads ?? []) this.#workloads.delete(uid);
    for (const { uid } of change.workloads ?? []) this.#workloads.add(uid);
  }

  get clusters(): ReadonlyMap<string, ClusterSpec> {
    return this.#clusters;
  }

  get endpoints(): ReadonlyMap<string, EndpointsSpec> {
    return this.#endpoints;
  }

  get workloadCount(): number {
    return this.#workloads.size;
  }

  /** Those that a cluster has by configuration; none where they are found otherwise. */
  endpointsOf({ discovery }: ClusterSpec): EndpointsSpec | undefined {
    switch (discovery.kind) {
      case "eds":
        return this.#endpoints.get(discovery.name);
      case "static":
      case "dns":
        return discovery.endpoints;
      default:
        return undefined;
    }
  }
}
