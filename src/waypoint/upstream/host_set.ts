/**
 * The hosts of a cluster by priority and locality. An update keeps those whose id it names; the others leave: they take nothing new and their
 * connections end when they are done.
 */
import type { EndpointSpec } from "../spec/mod.ts";
import type { BalancerHosts } from "./balancing/balancer.ts";
import { isDegraded, isWell, type LocalityHosts, type PriorityHosts } from "./balancing/priorities.ts";
import type { ClusterCounters } from "./counters.ts";
import { Host } from "./host.ts";
import type { Cluster } from "./upstream.ts";

/** Endpoints as a discovery found them. */
export interface FoundEndpoint extends EndpointSpec {
  /** The name that was resolved; "" none. */
  readonly hostname?: string;
}

export interface FoundLocality {
  readonly priority: number;
  readonly weight: number;
  readonly endpoints: readonly FoundEndpoint[];
}

export interface FoundEndpoints {
  readonly localities: readonly FoundLocality[];
  readonly overprovisioning: number;
  /** Connections to a former address of a host stay. */
  readonly movesFreely?: boolean;
}

const NOTHING: FoundEndpoints = { localities: [], overprovisioning: 140 };

export class HostSet {
  readonly #cluster: Cluster;
  readonly #counters: ClusterCounters;
  readonly #hosts = new Map<string, Host>();
  #localities: readonly { readonly priority: number; readonly weight: number; readonly hosts: readonly Host[] }[] = [];
  #found: FoundEndpoints = NOTHING;

  constructor(cluster: Cluster, counters: ClusterCounters) {
    this.#cluster = cluster;
    this.#counters = counters;
  }

  all(): Iterable<Host> {
    return this.#hosts.values();
  }

  count(): number {
    return this.#hosts.size;
  }

  /** `gone` is told of each host that leaves. */
  update(found: FoundEndpoints, nowMs: number, gone: (host: Host) => void): void {
    const seen = new Set<string>();
    this.#found = found;
    this.#localities = found.localities.map(({ priority, weight, endpoints }) => {
      const hosts: Host[] = [];
      for (const endpoint of endpoints) {
        // The same endpoint may come twice, as for a ServiceEntry with two addresses: once is enough.
        if (seen.has(endpoint.id)) continue;
        seen.add(endpoint.id);
        const host = this.#host(endpoint, nowMs, found.movesFreely === true, gone);
        host.priority = priority;
        hosts.push(host);
      }
      return { priority, weight, hosts };
    });
    for (const [id, host] of [...this.#hosts]) {
      if (!seen.has(id)) this.#remove(host, gone);
    }
    this.#counters.membership_change++;
  }

  #host(endpoint: FoundEndpoint, nowMs: number, movesFreely: boolean, gone: (host: Host) => void): Host {
    const known = this.#hosts.get(endpoint.id);
    if (known !== undefined && known.hostname === (endpoint.hostname ?? "")) {
      if (movesFreely) known.move(endpoint);
      else known.update(endpoint);
      return known;
    }
    if (known !== undefined) this.#remove(known, gone);
    const host = new Host(this.#cluster, endpoint, nowMs, endpoint.hostname);
    this.#hosts.set(endpoint.id, host);
    return host;
  }

  #remove(host: Host, gone: (host: Host) => void): void {
    this.#hosts.delete(host.endpoint.id);
    gone(host);
    host.removed = true;
    host.drainPools();
  }

  /** As a balancer needs them, by their health now. */
  arrange(): BalancerHosts {
    const levels = new Map<number, LocalityHosts[]>();
    for (const { priority, weight, hosts } of this.#localities) {
      const level = levels.get(priority) ?? [];
      levels.set(priority, level);
      level.push({ all: hosts, healthy: hosts.filter(isWell), degraded: hosts.filter(isDegraded), weight });
    }
    const priorities: PriorityHosts[] = [];
    for (let priority = 0; priority <= Math.max(0, ...levels.keys()); priority++) {
      const localities = levels.get(priority) ?? [];
      priorities.push({
        all: localities.flatMap(({ all }) => all),
        healthy: localities.flatMap(({ healthy }) => healthy),
        degraded: localities.flatMap(({ degraded }) => degraded),
        localities,
      });
    }
    const counters = this.#counters;
    counters.membership_total = this.#hosts.size;
    counters.membership_healthy = priorities.reduce((sum, { healthy }) => sum + healthy.length, 0);
    counters.membership_degraded = priorities.reduce((sum, { degraded }) => sum + degraded.length, 0);
    return { priorities, overprovisioning: this.#found.overprovisioning };
  }
}
