/**
 * What the workers have in force, and what has come but must wait: a cluster until its endpoints and secrets are here, a chain until its clusters
 * are. Meanwhile the version before it goes on serving, so that no request meets half of a change (Envoy's warming, waypoint.md 2.1).
 *
 * A cluster that istiod has removed stays, with its endpoints, while a chain in force still names it: istiod removes it one push before the routes to
 * it. And for a while after: clients of a chain that is gone learn of it with their next answer.
 *
 * Nothing waits for ever: what has waited for `WAIT_MS` comes into force as it is, by itself.
 */
import type {
  ChainName,
  ChainSpec,
  ClusterName,
  ClusterSpec,
  ConfigUpdate,
  EndpointsSpec,
  SecretSpec,
  SelectionSpec,
  TerminateSpec,
  TransportSpec,
  WorkloadSpec,
} from "../spec/mod.ts";

import { Patience } from "./patience.ts";

export type Change = Omit<ConfigUpdate, "epoch">;
type MutableChange = { -readonly [K in keyof Change]: Change[K] };

/** istiod answers a new subscription within a second, also when it is busy. */
export const WAIT_MS = 5_000;

/** What waits is looked at so often; each then waits for as much longer at most. */
export const LOOK_MS = 1_000;

/** Longer than a connection of a removed chain is waited for that asks nothing. */
export const DEPARTED_MS = 10_000;

export interface LiveConfigOptions {
  readonly schedule: (task: () => void, delayMs: number) => () => void;
  /** What waited long enough. */
  readonly released: (change: Change) => void;
}

export class LiveConfig {
  readonly #options: LiveConfigOptions;
  #terminate: TerminateSpec | undefined;
  #selection: SelectionSpec | undefined;
  readonly #chains = new Map<ChainName, ChainSpec>();
  readonly #clusters = new Map<ClusterName, ClusterSpec>();
  readonly #endpoints = new Map<string, EndpointsSpec>();
  readonly #secrets = new Map<string, SecretSpec>();
  readonly #workloads = new Map<string, WorkloadSpec>();
  readonly #waitingChains = new Map<ChainName, ChainSpec>();
  readonly #waitingClusters = new Map<ClusterName, ClusterSpec>();
  readonly #leaving = new Set<ClusterName>();
  readonly #leavingEndpoints = new Set<string>();
  /** Clusters of chains that are gone, with what ends that. */
  readonly #departed = new Map<ReadonlySet<ClusterName>, () => void>();
  /** A newer version is another one. Names are of those that leave. */
  readonly #patience = new Patience<ClusterSpec | ChainSpec | ClusterName>(WAIT_MS / LOOK_MS);
  #cancelTimer: (() => void) | undefined;

  constructor(options: LiveConfigOptions) {
    this.#options = options;
  }

  /** Takes a change in; what of it, and of what waited, comes into force now. Undefined: nothing. */
  admit(change: Change): Change | undefined {
    const out: MutableChange = {};
    if (change.terminate !== undefined) this.#terminate = out.terminate = change.terminate;
    if (change.selection !== undefined) this.#selection = out.selection = change.selection;
    this.#admitData(change, out);
    for (const cluster of change.clusters ?? []) {
      this.#leaving.delete(cluster.name);
      this.#patience.forget(cluster.name);
      if (cluster.discovery.kind === "eds") this.#leavingEndpoints.delete(cluster.discovery.name);
      this.#waitingClusters.set(cluster.name, cluster);
    }
    for (const name of change.removedClusters ?? []) {
      this.#waitingClusters.delete(name);
      if (this.#clusters.has(name)) this.#leaving.add(name);
    }
    for (const name of change.removedChains ?? []) {
      this.#waitingChains.delete(name);
      const chain = this.#chains.get(name);
      if (chain === undefined) continue;
      this.#chains.delete(name);
      out.removedChains = [...out.removedChains ?? [], name];
      this.#depart(chain);
    }
    for (const chain of change.chains ?? []) this.#waitingChains.set(chain.name, chain);
    this.#release(out);
    this.#watch();
    return Object.keys(out).length === 0 ? undefined : out;
  }

  /** Everything in force, for a worker that has nothing. */
  snapshot(): Change {
    return {
      ...(this.#terminate === undefined ? {} : { terminate: this.#terminate }),
      ...(this.#selection === undefined ? {} : { selection: this.#selection }),
      chains: [...this.#chains.values()],
      clusters: [...this.#clusters.values()],
      endpoints: [...this.#endpoints.values()],
      secrets: Object.fromEntries(this.#secrets),
      workloads: [...this.#workloads.values()],
    };
  }

  /** Names of endpoints that a cluster waits for or uses, and that never came. */
  get missingEndpoints(): readonly string[] {
    const missing: string[] = [];
    for (const { discovery } of [...this.#clusters.values(), ...this.#waitingClusters.values()]) {
      if (discovery.kind === "eds" && !this.#endpoints.has(discovery.name)) missing.push(discovery.name);
    }
    return missing;
  }

  get chains(): ReadonlyMap<ChainName, ChainSpec> {
    return this.#chains;
  }

  get clusters(): ReadonlyMap<ClusterName, ClusterSpec> {
    return this.#clusters;
  }

  get endpoints(): ReadonlyMap<string, EndpointsSpec> {
    return this.#endpoints;
  }

  close(): void {
    this.#cancelTimer?.();
    for (const cancel of this.#departed.values()) cancel();
  }

  #admitData(change: Change, out: MutableChange): void {
    if (change.secrets !== undefined) {
      out.secrets = change.secrets;
      for (const [name, secret] of Object.entries(change.secrets)) {
        if (secret === null) this.#secrets.delete(name);
        else this.#secrets.set(name, secret);
      }
    }
    if (change.endpoints !== undefined) {
      out.endpoints = change.endpoints;
      for (const endpoints of change.endpoints) {
        this.#endpoints.set(endpoints.name, endpoints);
        this.#leavingEndpoints.delete(endpoints.name);
      }
    }
    for (const name of change.removedEndpoints ?? []) this.#leavingEndpoints.add(name);
    // An address may move from one workload to another within a push: what is gone goes first.
    if (change.removedWorkloads !== undefined) {
      out.removedWorkloads = change.removedWorkloads;
      for (const uid of change.removedWorkloads) this.#workloads.delete(uid);
    }
    if (change.workloads !== undefined) {
      out.workloads = change.workloads;
      for (const workload of change.workloads) this.#workloads.set(workload.uid, workload);
    }
  }

  #release(out: MutableChange): void {
    const clusters: ClusterSpec[] = [];
    for (const [name, cluster] of this.#waitingClusters) {
      if (!this.#patience.isOver(cluster) && !this.#isWarm(cluster)) continue;
      this.#waitingClusters.delete(name);
      this.#clusters.set(name, cluster);
      clusters.push(cluster);
    }
    if (clusters.length > 0) {
      out.clusters = clusters;
      out.endpoints = this.#withEndpoints(clusters, out.endpoints ?? []);
    }
    const chains: ChainSpec[] = [];
    for (const [name, chain] of this.#waitingChains) {
      if (!this.#patience.isOver(chain) && this.#waits(chain)) continue;
      this.#waitingChains.delete(name);
      this.#chains.set(name, chain);
      chains.push(chain);
    }
    if (chains.length > 0) out.chains = chains;
    this.#removeClusters(out);
    this.#removeEndpoints(out);
  }

  #removeClusters(out: MutableChange): void {
    if (this.#leaving.size === 0) return;
    const departed = new Set<ClusterName>();
    for (const clusters of this.#departed.keys()) for (const name of clusters) departed.add(name);
    const named = new Set<ClusterName>();
    for (const chain of [...this.#chains.values(), ...this.#waitingChains.values()]) {
      for (const name of clustersOf(chain)) named.add(name);
    }
    const stays = (name: ClusterName) => departed.has(name) || (named.has(name) && !this.#patience.isOver(name));
    const removed = [...this.#leaving].filter((name) => !stays(name));
    for (const name of removed) {
      this.#leaving.delete(name);
      this.#clusters.delete(name);
    }
    if (removed.length > 0) out.removedClusters = removed;
  }

  /** Of a cluster that stays for a while they stay too: without them it answers nothing but 503. */
  #removeEndpoints(out: MutableChange): void {
    if (this.#leavingEndpoints.size === 0) return;
    const used = new Set<string>();
    for (const name of this.#leaving) {
      const { discovery } = this.#clusters.get(name) as ClusterSpec;
      if (discovery.kind === "eds") used.add(discovery.name);
    }
    const removed = [...this.#leavingEndpoints].filter((name) => !used.has(name));
    for (const name of removed) {
      this.#leavingEndpoints.delete(name);
      this.#endpoints.delete(name);
    }
    if (removed.length > 0) out.removedEndpoints = removed;
  }

  #depart(chain: ChainSpec): void {
    const clusters = clustersOf(chain);
    if (clusters.size === 0) return;
    const end = () => {
      this.#departed.delete(clusters);
      this.#releaseLater();
    };
    this.#departed.set(clusters, this.#options.schedule(end, DEPARTED_MS));
  }

  #releaseLater(): void {
    const out: MutableChange = {};
    this.#release(out);
    if (Object.keys(out).length > 0) this.#options.released(out);
  }

  /** A worker may have thrown them away, or never had them: the cluster comes with them. */
  #withEndpoints(clusters: readonly ClusterSpec[], given: readonly EndpointsSpec[]): readonly EndpointsSpec[] {
    const all = new Map(given.map((endpoints) => [endpoints.name, endpoints]));
    for (const { discovery } of clusters) {
      const known = discovery.kind === "eds" ? this.#endpoints.get(discovery.name) : undefined;
      if (known !== undefined) all.set(known.name, known);
    }
    return [...all.values()];
  }

  #isWarm(cluster: ClusterSpec): boolean {
    const { discovery } = cluster;
    if (discovery.kind === "eds" && !this.#endpoints.has(discovery.name)) return false;
    for (const name of secretsOf(cluster)) if (!this.#secrets.has(name)) return false;
    return true;
  }

  /** One of its clusters is here but not ready, and no older version of it serves. */
  #waits(chain: ChainSpec): boolean {
    for (const name of clustersOf(chain)) {
      if (this.#waitingClusters.has(name) && !this.#clusters.has(name)) return true;
    }
    return false;
  }

  #watch(): void {
    const waiting = this.#waitingClusters.size + this.#waitingChains.size + this.#leaving.size > 0;
    if (!waiting) {
      this.#cancelTimer?.();
      this.#cancelTimer = undefined;
      this.#patience.clear();
      return;
    }
    this.#cancelTimer ??= this.#options.schedule(() => {
      this.#cancelTimer = undefined;
      this.#patience.look(
        new Set([...this.#waitingClusters.values(), ...this.#waitingChains.values(), ...this.#leaving]),
      );
      this.#releaseLater();
      this.#watch();
    }, LOOK_MS);
  }
}

/** Clusters that the routes of a chain name. */
export function clustersOf(chain: ChainSpec): ReadonlySet<ClusterName> {
  const names = new Set<ClusterName>();
  if (chain.kind === "tcp") { for (const { cluster } of chain.clusters) names.add(cluster); }
  if (chain.kind !== "http") return names;
  for (const { routes } of chain.routes.hosts) {
    for (const { action } of routes) {
      if (action.kind !== "forward") continue;
      for (const { cluster } of action.clusters) names.add(cluster);
      for (const { cluster } of action.mirrors) names.add(cluster);
    }
  }
  return names;
}

/** Secrets that its transports name. */
export function secretsOf({ transport, transportByTag }: ClusterSpec): ReadonlySet<string> {
  const names = new Set<string>();
  const add = (spec: TransportSpec): void => {
    if (spec.kind === "proxy protocol") return add(spec.inner);
    if (spec.kind !== "tls") return;
    for (const name of [spec.tls.trust, spec.tls.certificate]) if (name !== undefined) names.add(name);
  };
  add(transport);
  for (const tagged of transportByTag) add(tagged.transport);
  return names;
}
