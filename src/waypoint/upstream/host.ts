/**
 * One endpoint, alive in this worker. It outlives updates that name the same id: its connections, its counts and what is known of its faults
 * stay. Only when it is reached in another way are its connections drained.
 */
import type { EndpointReach, EndpointSpec } from "../spec/mod.ts";
import type { Cluster, UpstreamHost } from "./upstream.ts";

/** What a host holds connections by. */
export interface HostPool {
  /** Takes nothing new; ends when what is under way is over. */
  drain(): void;
  close(reason: string): void;
}

export class Host implements UpstreamHost {
  endpoint: EndpointSpec;
  shown: string;
  readonly cluster: Cluster;
  /** Before resolution, for hashing by name and for logs; "" unknown. */
  readonly hostname: string;
  priority = 0;
  /** Since when it gets requests: slow start counts from here. */
  readonly addedAtMs: number;
  /** The next one for the same endpoint has taken its place, or it is gone. */
  removed = false;

  // ---- counts, as `clusters` of the admin port shows them
  rqActive = 0;
  rqTotal = 0;
  rqSuccess = 0;
  rqError = 0;
  rqTimeout = 0;
  cxActive = 0;
  cxTotal = 0;
  cxConnectFail = 0;

  // ---- faults (outliers.ts)
  isEjected = false;
  ejectedAtMs = 0;
  /** How many times in a row, which makes the next ejection longer. */
  ejections = 0;
  consecutive5xx = 0;
  consecutiveGatewayFailures = 0;
  consecutiveLocalFailures = 0;

  /** By protocol and what tells connections to it apart. */
  readonly pools = new Map<string, HostPool>();
  /** Places on a hash ring, as far as they were needed (balancing/ring_hash.ts). */
  ringHashes: number[] = [];
  lastUsedMs: number;

  constructor(cluster: Cluster, endpoint: EndpointSpec, nowMs: number, hostname = "") {
    this.cluster = cluster;
    this.endpoint = endpoint;
    this.shown = shownAs(endpoint);
    this.addedAtMs = nowMs;
    this.lastUsedMs = nowMs;
    this.hostname = hostname;
  }

  /** At least 1: Envoy knows no other, and a host that never comes up would be none. */
  get weight(): number {
    return Math.max(1, this.endpoint.weight);
  }

  /** New facts of the same endpoint. */
  update(endpoint: EndpointSpec): void {
    const before = this.endpoint;
    this.endpoint = endpoint;
    this.shown = shownAs(endpoint);
    if (before.tag !== endpoint.tag || !isSameReach(before.reach, endpoint.reach)) this.drainPools();
  }

  /** New facts that connections which exist are not affected by: a name has another address now. */
  move(endpoint: EndpointSpec): void {
    this.endpoint = endpoint;
    this.shown = shownAs(endpoint);
  }

  drainPools(): void {
    const pools = [...this.pools.values()];
    this.pools.clear();
    for (const pool of pools) pool.drain();
  }

  closePools(reason: string): void {
    const pools = [...this.pools.values()];
    this.pools.clear();
    for (const pool of pools) pool.close(reason);
  }
}

function shownAs({ id, reach }: EndpointSpec): string {
  switch (reach.kind) {
    case "direct":
      return `${reach.host.includes(":") ? `[${reach.host}]` : reach.host}:${reach.port}`;
    case "hbone":
      return `envoy://connect_originate/${id}`;
    case "gateway":
      return `envoy://inner_connect_originate/${id}`;
  }
}

function isSameReach(a: EndpointReach, b: EndpointReach): boolean {
  if (a.kind === "hbone") return b.kind === "hbone" && a.target === b.target && a.via === b.via;
  if (a.kind === "gateway") return b.kind === "gateway" && a.gateway === b.gateway && a.target === b.target;
  return b.kind === "direct" && a.host === b.host && a.port === b.port && a.others.length === b.others.length &&
    a.others.every(({ host, port }, i) => host === b.others[i].host && port === b.others[i].port);
}
