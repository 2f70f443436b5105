/**
 * Istio's TCP metrics: `istio_tcp_*` with the standard label set, in Istio's order. Slots are
 * resolved when a connection is set up; bytes are then counted by `Registry.add` alone.
 */
import { escapeLabelValue, labelSet, NO_LABELS } from "./metric_family.ts";
import type { LabelSet } from "./metric_family.ts";
import type { Family, Registry, Slot } from "./registry.ts";

export type Reporter = "source" | "destination";

/** Why a connection ended, for `response_flags`. */
export type ResponseFlags =
  | "-"
  | "DENY"
  | "CONNECT"
  | "TLS_FAILURE"
  | "H2_HANDSHAKE_FAILURE"
  | "NETWORK_POLICY"
  | "IDENTITY_ERROR"
  | "CERT_REVOKED";

/**
 * One end of a connection as metrics name it. Keep one object per workload, which nobody changes: what it renders to is
 * cached with it, and so it is with a service. Undefined reads `unknown`.
 */
export interface TrafficPeer {
  readonly workload: string | undefined;
  readonly canonicalService: string | undefined;
  readonly canonicalRevision: string | undefined;
  readonly namespace: string | undefined;
  /** The SPIFFE id, only if the connection proved it by mTLS. */
  readonly principal: string | undefined;
  readonly app: string | undefined;
  readonly version: string | undefined;
  readonly cluster: string | undefined;
  readonly region: string | undefined;
  readonly zone: string | undefined;
  /** What `TrafficMetrics.evict` will be called with when the last pod of this workload is gone. */
  readonly owner: string | undefined;
}

export interface TrafficService {
  readonly hostname: string | undefined;
  readonly namespace: string | undefined;
  readonly name: string | undefined;
}

export interface TrafficKey {
  readonly reporter: Reporter;
  readonly source: TrafficPeer;
  readonly destination: TrafficPeer;
  readonly service: TrafficService | undefined;
  readonly mutualTls: boolean;
}

/** The counters of one open connection. */
export interface ConnectionMetrics {
  /** Bytes from client to server. */
  readonly receivedSlot: Slot;
  /** Bytes from server to client. */
  readonly sentSlot: Slot;
  /** Counts the end and gives the slots back; once. */
  close(flags: ResponseFlags): void;
}

export interface TrafficMetrics {
  /** Counts an opened connection. */
  open(key: TrafficKey): ConnectionMetrics;
  /** Counts a connection that was never opened. */
  failed(key: TrafficKey, flags: ResponseFlags): void;
  /** Adds to the open sockets of this side. */
  socketsOpen(reporter: Reporter, change: number): void;
  /** The owner's workload is gone: its series are removed once their last values were exported. */
  evict(owner: string): void;
}

/**
 * Series above which further label sets are counted together as `unknown`: labels can come from
 * a peer's baggage, and each series costs about 1 KB.
 */
export const MAX_TRAFFIC_SERIES = 100_000;

const UNKNOWN_PEER: TrafficPeer = Object.freeze({
  workload: undefined,
  canonicalService: undefined,
  canonicalRevision: undefined,
  namespace: undefined,
  principal: undefined,
  app: undefined,
  version: undefined,
  cluster: undefined,
  region: undefined,
  zone: undefined,
  owner: undefined,
});

/** @param full a label set was counted as `unknown` because there are too many. */
export function createTrafficMetrics(
  registry: Registry,
  maxSeries = MAX_TRAFFIC_SERIES,
  full: () => void = () => {},
): TrafficMetrics {
  const opened = registry.register({
    name: "istio_tcp_connections_opened",
    help: "The total number of TCP connections opened",
    type: "counter",
  });
  const closed = registry.register({
    name: "istio_tcp_connections_closed",
    help: "The total number of TCP connections closed",
    type: "counter",
  });
  const received = registry.register({
    name: "istio_tcp_received_bytes",
    help: "The size of total bytes received during request in case of a TCP connection",
    type: "counter",
  });
  const sent = registry.register({
    name: "istio_tcp_sent_bytes",
    help: "The size of total bytes sent during response in case of a TCP connection",
    type: "counter",
  });
  const failures = registry.register({
    name: "istio_tcp_connections_failed",
    help: "The total number of TCP connections that failed to establish",
    type: "counter",
    unstable: true,
  });
  const sockets = registry.register({
    name: "istio_tcp_sockets_open",
    help: "The current number of open TCP sockets",
    type: "gauge",
    unstable: true,
  });
  const overflow = registry.register({
    name: "ambit_traffic_label_sets_overflowed",
    help: `Connections counted as unknown because there are ${maxSeries} series already`,
    type: "counter",
    unstable: true,
  });
  const socketSlots: Record<Reporter, Slot | undefined> = { source: undefined, destination: undefined };

  /** The label set of a key, or the one of nobody when the registry is full. */
  function labelsFor(family: Family, key: TrafficKey, flags: ResponseFlags): LabelSet {
    const labels = trafficLabels(key, flags);
    if (registry.seriesCount < maxSeries || family.series.has(labels.text)) return labels;
    count(overflow, NO_LABELS);
    full();
    return trafficLabels({ ...key, source: UNKNOWN_PEER, destination: UNKNOWN_PEER, service: undefined }, flags);
  }

  function count(family: Family, labels: LabelSet): Slot {
    const slot = registry.acquire(family, labels);
    registry.add(slot, 1);
    registry.release(slot);
    return slot;
  }

  class OpenConnection implements ConnectionMetrics {
    readonly receivedSlot: Slot;
    readonly sentSlot: Slot;
    readonly #key: TrafficKey;
    readonly #labels: LabelSet;
    #open = true;

    constructor(key: TrafficKey, labels: LabelSet) {
      this.#key = key;
      this.#labels = labels;
      this.receivedSlot = registry.acquire(received, labels);
      this.sentSlot = registry.acquire(sent, labels);
    }

    close(flags: ResponseFlags): void {
      if (!this.#open) return;
      this.#open = false;
      const slot = count(closed, flags === "-" ? this.#labels : labelsFor(closed, this.#key, flags));
      // The workload may have gone before its last connection: then this series goes too.
      if (registry.isEvicted(this.receivedSlot)) registry.evictSlot(slot);
      registry.release(this.receivedSlot);
      registry.release(this.sentSlot);
    }
  }

  return {
    open(key) {
      const labels = labelsFor(opened, key, "-");
      count(opened, labels);
      return new OpenConnection(key, labels);
    },
    failed: (key, flags) => count(failures, labelsFor(failures, key, flags)),
    socketsOpen(reporter, change) {
      const slot = socketSlots[reporter] ??= registry.acquire(sockets, labelSet({ reporter }));
      registry.add(slot, change);
    },
    evict: (owner) => registry.evict(owner),
  };
}

const sourceTexts = new WeakMap<TrafficPeer, string>();
const destinationTexts = new WeakMap<TrafficPeer, string>();

/** What was rendered for a pair of ends: connections between the same two share it. */
interface RenderedLabels {
  readonly reporter: Reporter;
  readonly service: TrafficService | undefined;
  readonly mutualTls: boolean;
  readonly flags: ResponseFlags;
  readonly labels: LabelSet;
}

/** Services and flags of one pair; who has more is rendered anew each time. */
const MAX_RENDERED = 16;
const rendered = new WeakMap<TrafficPeer, WeakMap<TrafficPeer, RenderedLabels[]>>();

function trafficLabels(key: TrafficKey, flags: ResponseFlags): LabelSet {
  let destinations = rendered.get(key.source);
  if (destinations === undefined) rendered.set(key.source, destinations = new WeakMap());
  let known = destinations.get(key.destination);
  if (known === undefined) destinations.set(key.destination, known = []);
  const { reporter, service, mutualTls } = key;
  for (let i = 0; i < known.length; i++) {
    const entry = known[i];
    if (
      entry.service === service && entry.reporter === reporter && entry.mutualTls === mutualTls && entry.flags === flags
    ) return entry.labels;
  }
  const labels = renderTrafficLabels(key, flags);
  if (known.length < MAX_RENDERED) known.push({ reporter, service, mutualTls, flags, labels });
  return labels;
}

function renderTrafficLabels(key: TrafficKey, flags: ResponseFlags): LabelSet {
  const { source, destination, service } = key;
  let sourceText = sourceTexts.get(source);
  if (sourceText === undefined) sourceTexts.set(source, sourceText = peerText("source", source));
  let destinationText = destinationTexts.get(destination);
  if (destinationText === undefined) {
    destinationTexts.set(destination, destinationText = peerText("destination", destination));
  }
  let text = 'reporter="' + key.reporter + '",' + sourceText +
    ',destination_service="' + orUnknown(service?.hostname) +
    '",destination_service_namespace="' + orUnknown(service?.namespace) +
    '",destination_service_name="' + orUnknown(service?.name) +
    '",' + destinationText + ',request_protocol="tcp",response_flags="' + flags +
    '",connection_security_policy="' + (key.mutualTls ? "mutual_tls" : "unknown") + '"';
  if (hasLocality(source) || hasLocality(destination)) {
    text += ',source_region="' + orUnknown(source.region) + '",source_zone="' + orUnknown(source.zone) +
      '",destination_region="' + orUnknown(destination.region) +
      '",destination_zone="' + orUnknown(destination.zone) + '"';
  }
  const owners = [source.owner, destination.owner].filter((owner) => owner !== undefined);
  return { text, owners };
}

/** One side of the traffic labels, as both sides of every metric with them begin. */
export function peerText(side: "source" | "destination", peer: TrafficPeer): string {
  return `${side}_workload="${orUnknown(peer.workload)}",` +
    `${side}_canonical_service="${orUnknown(peer.canonicalService)}",` +
    `${side}_canonical_revision="${orUnknown(peer.canonicalRevision)}",` +
    `${side}_workload_namespace="${orUnknown(peer.namespace)}",` +
    `${side}_principal="${orUnknown(peer.principal)}",` +
    `${side}_app="${orUnknown(peer.app)}",` +
    `${side}_version="${orUnknown(peer.version)}",` +
    `${side}_cluster="${orUnknown(peer.cluster)}"`;
}

/** An empty value reads `unknown` too, as in Istio. */
function orUnknown(value: string | undefined): string {
  return value === undefined || value === "" ? "unknown" : escapeLabelValue(value);
}

function hasLocality(peer: TrafficPeer): boolean {
  return (peer.region ?? "") !== "" || (peer.zone ?? "") !== "";
}
