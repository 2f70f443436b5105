/** What a worker counts under Envoy's names (waypoint.md 6.2), as its report carries it. Sums of all workers are made on the main thread. */
import type { RequestContext } from "../engine/request_context.ts";
import type { RbacCounters } from "../filters/rbac.ts";
import type { ClusterCounters } from "../upstream/counters.ts";
import type { UpstreamCluster } from "../upstream/cluster.ts";

/** Cloneable; absent counters are zero. */
export interface WorkerCounts {
  /** By stat prefix. */
  readonly http: Readonly<Record<string, Readonly<Record<string, number>>>>;
  readonly tcp: Readonly<Record<string, Readonly<Record<string, number>>>>;
  readonly rbac: Readonly<Record<string, number>>;
  readonly clusters: readonly ClusterCounts[];
  /** Lines and records that nobody took. */
  readonly dropped: Readonly<Record<string, number>>;
}

export interface ClusterCounts {
  readonly name: string;
  readonly counters: Readonly<Record<string, number>>;
  readonly hosts: readonly HostCounts[];
}

export interface HostCounts {
  /** As the endpoint's id. */
  readonly id: string;
  readonly isEjected: boolean;
  readonly counters: Readonly<Record<string, number>>;
}

export class HttpCounts {
  downstream_rq_total = 0;
  downstream_rq_completed = 0;
  downstream_rq_1xx = 0;
  downstream_rq_2xx = 0;
  downstream_rq_3xx = 0;
  downstream_rq_4xx = 0;
  downstream_rq_5xx = 0;
  downstream_rq_http1_total = 0;
  downstream_rq_http2_total = 0;
  downstream_rq_rx_reset = 0;
  downstream_rq_timeout = 0;
  no_route = 0;
  no_cluster = 0;

  finished({ head, flags, facts: { status } }: RequestContext): void {
    this.downstream_rq_total++;
    if (head.version === "2") this.downstream_rq_http2_total++;
    else this.downstream_rq_http1_total++;
    this.#answered(status);
    if (flags.size === 0) return;
    if (flags.has("DC")) this.downstream_rq_rx_reset++;
    if (flags.has("UT")) this.downstream_rq_timeout++;
    if (flags.has("NR")) this.no_route++;
    if (flags.has("NC")) this.no_cluster++;
  }

  /** A message that was no request, of a client that speaks HTTP/1. */
  refused(status: number): void {
    this.downstream_rq_total++;
    this.downstream_rq_http1_total++;
    this.#answered(status);
  }

  #answered(status: number): void {
    if (status < 100 || status >= 600) return;
    this.downstream_rq_completed++;
    if (status < 200) this.downstream_rq_1xx++;
    else if (status < 300) this.downstream_rq_2xx++;
    else if (status < 400) this.downstream_rq_3xx++;
    else if (status < 500) this.downstream_rq_4xx++;
    else this.downstream_rq_5xx++;
  }
}

export class TcpCounts {
  downstream_cx_total = 0;
  downstream_cx_no_route = 0;
  downstream_cx_rx_bytes_total = 0;
  downstream_cx_tx_bytes_total = 0;
}

export class RbacCounts implements RbacCounters {
  readonly counts = { allowed: 0, denied: 0, shadow_allowed: 0, shadow_denied: 0 };

  allowed(): void {
    this.counts.allowed++;
  }
  denied(): void {
    this.counts.denied++;
  }
  shadowAllowed(): void {
    this.counts.shadow_allowed++;
  }
  shadowDenied(): void {
    this.counts.shadow_denied++;
  }
}

/** A slice of so many takes 0.2 ms to make and to clone; between slices the reactor serves. */
const SLICE_CLUSTERS = 50;

/** Clusters that nothing was asked of are told by their members alone. In slices, each made when it is asked for. */
export function* clusterCounts(clusters: readonly UpstreamCluster[]): Generator<readonly ClusterCounts[]> {
  for (let start = 0; start < clusters.length; start += SLICE_CLUSTERS) {
    yield countSlice(clusters.slice(start, start + SLICE_CLUSTERS));
  }
}

function countSlice(clusters: readonly UpstreamCluster[]): ClusterCounts[] {
  const all: ClusterCounts[] = [];
  for (const cluster of clusters) {
    const counters = nonZero(cluster.counters);
    const hosts: HostCounts[] = [];
    if (cluster.counters.upstream_cx_total > 0 || cluster.counters.upstream_rq_total > 0) {
      for (const host of cluster.allHosts()) {
        hosts.push({
          id: host.endpoint.id,
          isEjected: host.isEjected,
          counters: {
            cx_active: host.cxActive,
            cx_connect_fail: host.cxConnectFail,
            cx_total: host.cxTotal,
            rq_active: host.rqActive,
            rq_error: host.rqError,
            rq_success: host.rqSuccess,
            rq_timeout: host.rqTimeout,
            rq_total: host.rqTotal,
          },
        });
      }
    }
    all.push({ name: cluster.name, counters, hosts });
  }
  return all;
}

function nonZero(counters: ClusterCounters): Record<string, number> {
  const found: Record<string, number> = {};
  for (const [name, value] of Object.entries(counters)) if (value !== 0) found[name] = value as number;
  return found;
}
