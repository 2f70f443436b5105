/**
 * Metrics of the DNS proxy (workers; the main thread's registry merges them).
 *
 *   createDnsMetrics(registry): DnsMetrics
 *     request(query)                       a client asked
 *     upstreamRequest(query)               it was forwarded
 *     upstreamFailure(query)               the upstream failed or did not answer
 *     upstreamAnswered(query, durationMs)  how long the upstream took
 *   DnsQuery: { type: "A" | "AAAA" | …, protocol: "udp" | "tcp", source }
 *   `source` is what labels.ts calls a workload (PeerLabels): keep one object per workload, its text is cached.
 */
import { escapeLabelValue, type LabelSet } from "./metric_family.ts";
import type { Family, Registry, Slot } from "./registry.ts";
import type { TrafficPeer } from "./traffic_metrics.ts";

/** The workload that asked. */
export type DnsSource = Pick<TrafficPeer, "canonicalService" | "canonicalRevision" | "owner">;

export interface DnsQuery {
  /** As DNS writes it: `A`, `AAAA`, `SRV`. What is not in use reads `unknown`. */
  readonly type: string;
  readonly protocol: "udp" | "tcp";
  readonly source: DnsSource;
}

export interface DnsMetrics {
  request(query: DnsQuery): void;
  upstreamRequest(query: DnsQuery): void;
  upstreamFailure(query: DnsQuery): void;
  upstreamAnswered(query: DnsQuery, durationMs: number): void;
}

/** Types that clients really ask for; a client may send any number, and each would be a series for ever. */
const KNOWN_TYPES = new Set([
  "A",
  "AAAA",
  "ANY",
  "CAA",
  "CNAME",
  "DNSKEY",
  "DS",
  "HTTPS",
  "MX",
  "NAPTR",
  "NS",
  "PTR",
  "SOA",
  "SRV",
  "SVCB",
  "TLSA",
  "TXT",
]);

const DURATION_SECONDS = [0.0005, 0.001, 0.01, 0.1, 1, 5];

export function createDnsMetrics(registry: Registry): DnsMetrics {
  const counter = (name: string, help: string) => registry.register({ name, help, type: "counter", unstable: true });
  const requests = counter("istio_dns_requests", "DNS requests that came from workloads");
  const upstreamRequests = counter("istio_dns_upstream_requests", "DNS requests that were forwarded upstream");
  const upstreamFailures = counter("istio_dns_upstream_failures", "Forwarded DNS requests that failed");
  const durations = registry.register({
    name: "istio_dns_upstream_request_duration_seconds",
    help: "Time until the upstream answered a forwarded DNS request",
    type: "histogram",
    unstable: true,
    buckets: DURATION_SECONDS,
  });
  const labelSets = new WeakMap<DnsSource, Map<string, LabelSet>>();

  function labelsOf({ type, protocol, source }: DnsQuery): LabelSet {
    const key = KNOWN_TYPES.has(type) ? type : "unknown";
    let sets = labelSets.get(source);
    if (sets === undefined) labelSets.set(source, sets = new Map());
    let labels = sets.get(protocol + key);
    if (labels === undefined) {
      const text = `request_query_type="${key}",request_protocol="${protocol}",` +
        `source_canonical_service="${orUnknown(source.canonicalService)}",` +
        `source_canonical_revision="${orUnknown(source.canonicalRevision)}"`;
      sets.set(protocol + key, labels = { text, owners: source.owner === undefined ? [] : [source.owner] });
    }
    return labels;
  }

  function count(family: Family, query: DnsQuery): void {
    const slot: Slot = registry.acquire(family, labelsOf(query));
    registry.add(slot, 1);
    registry.release(slot);
  }

  return {
    request: (query) => count(requests, query),
    upstreamRequest: (query) => count(upstreamRequests, query),
    upstreamFailure: (query) => count(upstreamFailures, query),
    upstreamAnswered(query, durationMs) {
      const slot = registry.acquire(durations, labelsOf(query));
      registry.observe(durations, slot, durationMs / 1000);
      registry.release(slot);
    },
  };
}

function orUnknown(value: string | undefined): string {
  return value === undefined || value === "" ? "unknown" : escapeLabelValue(value);
}
