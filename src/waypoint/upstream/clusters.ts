/**
 * All clusters of a worker, brought up to date by parts: what an update does not name is not touched, hosts and connections of what it names stay where
 * they can.
 */
import type { ClusterName, ConfigUpdate, EndpointsSpec } from "../spec/mod.ts";
import { UpstreamCluster } from "./cluster.ts";
import type { UpstreamMeans } from "./cluster_state.ts";
import { type LimitBoard, LIMITED_KINDS } from "./limits.ts";
import type { Clusters } from "./upstream.ts";

export interface ClustersOptions extends UpstreamMeans {
  /** A cluster's counts in each worker, this one's first; absent: of this worker alone. */
  readonly boards?: (cluster: ClusterName) => readonly LimitBoard[];
}

export interface ClusterSet extends Clusters {
  get(name: ClusterName): UpstreamCluster | undefined;
  all(): Iterable<UpstreamCluster>;
  apply(update: ClusterUpdate): void;
  /** Ends every connection at once. */
  close(reason: string): void;
}

export type ClusterUpdate = Pick<ConfigUpdate, "clusters" | "removedClusters" | "endpoints" | "removedEndpoints">;

export function createClusters(options: ClustersOptions): ClusterSet {
  return new UpstreamClusters(options);
}

class UpstreamClusters implements ClusterSet {
  readonly #options: ClustersOptions;
  readonly #clusters = new Map<ClusterName, UpstreamCluster>();
  readonly #endpoints = new Map<string, EndpointsSpec>();
  /** Clusters by the name of their endpoints. */
  readonly #followers = new Map<string, Set<UpstreamCluster>>();

  constructor(options: ClustersOptions) {
    this.#options = options;
  }

  get(name: ClusterName): UpstreamCluster | undefined {
    return this.#clusters.get(name);
  }

  all(): Iterable<UpstreamCluster> {
    return this.#clusters.values();
  }

  apply(update: ClusterUpdate): void {
    for (const name of update.removedEndpoints ?? []) this.#endpoints.delete(name);
    for (const endpoints of update.endpoints ?? []) this.#endpoints.set(endpoints.name, endpoints);
    // A cluster that is new, or looks at other endpoints now, takes what is there; the others are told what changed.
    const told = new Set<UpstreamCluster>();
    for (const name of update.removedClusters ?? []) this.#remove(name);
    for (const spec of update.clusters ?? []) {
      const known = this.#clusters.get(spec.name);
      const before = known === undefined ? undefined : edsName(known);
      const [own, ...others] = this.#options.boards?.(spec.name) ?? [];
      const cluster = known ??
        new UpstreamCluster(spec, this.#options, own ?? new Int32Array(LIMITED_KINDS), others);
      if (known === undefined) this.#clusters.set(spec.name, cluster);
      else known.update(spec);
      const after = edsName(cluster);
      if (after === before) continue;
      if (before !== undefined) this.#followers.get(before)?.delete(cluster);
      if (after === undefined) continue;
      this.#follow(after, cluster);
      cluster.setEndpoints(this.#endpoints.get(after));
      told.add(cluster);
    }
    for (const name of update.removedEndpoints ?? []) this.#tell(name, told);
    for (const { name } of update.endpoints ?? []) this.#tell(name, told);
  }

  #follow(name: string, cluster: UpstreamCluster): void {
    const followers = this.#followers.get(name);
    if (followers === undefined) this.#followers.set(name, new Set([cluster]));
    else followers.add(cluster);
  }

  #tell(name: string, told: ReadonlySet<UpstreamCluster>): void {
    for (const cluster of this.#followers.get(name) ?? []) {
      if (!told.has(cluster)) cluster.setEndpoints(this.#endpoints.get(name));
    }
  }

  #remove(name: ClusterName): void {
    const cluster = this.#clusters.get(name);
    if (cluster === undefined) return;
    this.#clusters.delete(name);
    const eds = edsName(cluster);
    const followers = eds === undefined ? undefined : this.#followers.get(eds);
    followers?.delete(cluster);
    if (eds !== undefined && followers?.size === 0) this.#followers.delete(eds);
    cluster.retire();
  }

  close(reason: string): void {
    for (const cluster of this.#clusters.values()) cluster.close(reason);
    this.#clusters.clear();
    this.#followers.clear();
  }
}

function edsName({ spec }: UpstreamCluster): string | undefined {
  return spec.discovery.kind === "eds" ? spec.discovery.name : undefined;
}
