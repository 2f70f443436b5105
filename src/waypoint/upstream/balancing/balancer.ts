/**
 * The choice of a host: priority, then locality where they are weighed, then host (waypoint.md 4.6). What it takes is built when it is asked for the
 * first time after a change; a cluster of one priority, by far the most, then costs one call.
 */
import type { BalancingSpec } from "../../spec/mod.ts";
import type { ClusterCounters } from "../counters.ts";
import type { Host } from "../host.ts";
import type { PickRequest, UpstreamHost } from "../upstream.ts";
import { EdfSchedule } from "./edf.ts";
import { maglev } from "./maglev.ts";
import { NOBODY, type Picker, type Share } from "./picker.ts";
import { type LocalityHosts, type PriorityHosts, type PriorityLoads, priorityLoads, retryLoads } from "./priorities.ts";
import { ringHash } from "./ring_hash.ts";
import { leastRequest, type PaceContext, randomPicker, roundRobin, slowStartEndsMs } from "./simple.ts";

export const HASH_RANGE = 2 ** 53;

export interface BalancerHosts {
  readonly priorities: readonly PriorityHosts[];
  readonly overprovisioning: number;
}

interface Level {
  readonly healthy: Picker;
  readonly degraded: Picker;
}

export class Balancer {
  readonly #spec: BalancingSpec;
  readonly #context: PaceContext;
  readonly #counters: ClusterCounters;
  readonly #hosts: BalancerHosts;
  readonly #isHashed: boolean;
  #loads: PriorityLoads | undefined;
  /** Of one priority that takes everything. */
  #only: Picker | undefined;
  readonly #levels: (Level | undefined)[] = [];
  /** Slow start is over then. */
  #expiresMs = Infinity;

  constructor(spec: BalancingSpec, hosts: BalancerHosts, context: PaceContext, counters: ClusterCounters) {
    this.#spec = spec;
    this.#hosts = hosts;
    this.#context = context;
    this.#counters = counters;
    this.#isHashed = spec.policy.kind === "ring hash" || spec.policy.kind === "maglev";
  }

  /** Undefined: no host is fit. */
  pick(request: PickRequest): Host | undefined {
    if (this.#context.nowMs() >= this.#expiresMs) this.#forget();
    const loads = this.#loads ??= this.#weigh();
    const { tried } = request;
    if (this.#only !== undefined && tried.length === 0 && !this.#isHashed) return this.#only.pick(0, 0);
    const hash = request.hash ?? Math.floor(this.#context.random() * HASH_RANGE);
    const picker = this.#only !== undefined && tried.length === 0 ? this.#only : this.#choose(hash, request, loads);
    if (!request.avoidTried || tried.length === 0) return picker.pick(hash, 0);
    let host: Host | undefined;
    for (let attempt = 0; attempt <= request.hostAttempts; attempt++) {
      host = picker.pick(hash, attempt);
      if (host === undefined || !includes(tried, host)) break;
    }
    return host;
  }

  #choose(hash: number, request: PickRequest, usual: PriorityLoads): Picker {
    const { healthy, degraded } = this.#retryLoads(request) ?? usual;
    let at = hash % 100;
    for (let i = 0; i < healthy.length; i++) {
      at -= healthy[i];
      if (at >= 0) continue;
      if (usual.panic[i]) this.#counters.lb_healthy_panic++;
      return this.#level(i).healthy;
    }
    for (let i = 0; i < degraded.length; i++) {
      at -= degraded[i];
      if (at < 0) return this.#level(i).degraded;
    }
    return NOBODY;
  }

  /** Envoy's previous_priorities: after each `frequency` tries the priorities tried by then are left out. */
  #retryLoads({ tried, priorityUpdateFrequency: frequency }: PickRequest): Omit<PriorityLoads, "panic"> | undefined {
    if (frequency <= 0 || tried.length < frequency) return undefined;
    const counted = tried.length - tried.length % frequency;
    const priorities = new Set(tried.slice(0, counted).map((host) => (host as Host).priority));
    return retryLoads(this.#hosts.priorities, this.#hosts.overprovisioning, (priority) => priorities.has(priority));
  }

  #weigh(): PriorityLoads {
    const { priorities, overprovisioning } = this.#hosts;
    const loads = priorityLoads(priorities, overprovisioning, this.#spec.panicPercent);
    if (priorities.length === 1 && loads.healthy[0] === 100 && !loads.panic[0]) {
      this.#only = this.#level(0, loads).healthy;
    }
    return loads;
  }

  #forget(): void {
    this.#loads = undefined;
    this.#only = undefined;
    this.#levels.length = 0;
    this.#expiresMs = Infinity;
  }

  #level(priority: number, loads = this.#loads): Level {
    const known = this.#levels[priority];
    if (known !== undefined) return known;
    const hosts = this.#hosts.priorities[priority];
    const level: Level = loads?.panic[priority] === true
      ? { healthy: this.#picker(hosts, (of) => of.all, false), degraded: NOBODY }
      : {
        healthy: this.#picker(hosts, (of) => of.healthy, true),
        degraded: this.#picker(hosts, (of) => of.degraded, true),
      };
    this.#levels[priority] = level;
    return level;
  }

  #picker(
    hosts: PriorityHosts,
    select: (of: { all: readonly Host[]; healthy: readonly Host[]; degraded: readonly Host[] }) => readonly Host[],
    byHealth: boolean,
  ): Picker {
    const isWeighed = this.#spec.localityWeighted && hosts.localities.some(({ weight }) => weight > 0);
    if (this.#isHashed) {
      return this.#hashed(isWeighed ? localityShares(hosts.localities, select) : flatShares(select(hosts), 1));
    }
    // In panic Envoy looks at hosts alone.
    if (!isWeighed || !byHealth) return this.#among(select(hosts));
    const choices = hosts.localities.map((locality) => ({
      weight: this.#localityWeight(locality, select(locality).length),
      picker: this.#among(select(locality)),
    })).filter(({ weight }) => weight > 0);
    if (choices.length === 0) return this.#among(select(hosts));
    const schedule = new EdfSchedule(choices, ({ weight }) => weight, this.#context.random);
    return { pick: (hash, attempt) => schedule.next()?.picker.pick(hash, attempt) };
  }

  #localityWeight({ all, weight }: LocalityHosts, fit: number): number {
    if (all.length === 0) return 0;
    return weight * Math.min(1, this.#hosts.overprovisioning / 100 * fit / all.length);
  }

  #among(hosts: readonly Host[]): Picker {
    const { policy } = this.#spec;
    switch (policy.kind) {
      case "least request":
        this.#expireAt(slowStartEndsMs(hosts, policy.slowStart, this.#context.nowMs()));
        return leastRequest(hosts, policy.choices, policy.slowStart, this.#context);
      case "round robin":
        this.#expireAt(slowStartEndsMs(hosts, policy.slowStart, this.#context.nowMs()));
        return roundRobin(hosts, policy.slowStart, this.#context);
      case "given":
        return roundRobin(hosts, undefined, this.#context);
      case "random":
        return randomPicker(hosts, this.#context.random);
      case "ring hash":
      case "maglev":
        return this.#hashed(flatShares(hosts, 1));
    }
  }

  #expireAt(atMs: number): void {
    if (atMs > 0 && atMs < this.#expiresMs) this.#expiresMs = atMs;
  }

  #hashed(shares: readonly Share[]): Picker {
    const { policy } = this.#spec;
    if (policy.kind === "ring hash") {
      return ringHash(shares, policy.minSize, policy.maxSize, keyBy(policy.hostnames));
    }
    return policy.kind === "maglev" ? maglev(shares, policy.tableSize, keyBy(policy.hostnames)) : NOBODY;
  }
}

function includes(tried: readonly UpstreamHost[], host: Host): boolean {
  return tried.includes(host);
}

function keyBy(hostnames: boolean): (host: Host) => string {
  return hostnames ? (host) => host.hostname || host.endpoint.id : (host) => host.endpoint.id;
}

function flatShares(hosts: readonly Host[], whole: number): Share[] {
  const total = hosts.reduce((total, { weight }) => total + weight, 0);
  return hosts.map((host) => ({ host, weight: whole * host.weight / total }));
}

function localityShares(
  localities: readonly LocalityHosts[],
  select: (of: LocalityHosts) => readonly Host[],
): Share[] {
  const total = localities.reduce((total, { weight }) => total + weight, 0);
  return localities.flatMap((locality) => flatShares(select(locality), locality.weight / total))
    .filter(({ weight }) => weight > 0);
}
