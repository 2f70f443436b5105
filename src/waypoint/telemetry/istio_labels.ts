/** The two sides of a request or connection as Istio's metrics name them. Made once per peer and endpoint, and kept while they live. */
import type { ConnectionInfo } from "../engine/connection_info.ts";
import { endpointIp, upstreamPeer, workloadOfText } from "../format/peer.ts";
import type { WorkloadSpec } from "../spec/mod.ts";
import type { UpstreamHost } from "../upstream/upstream.ts";
import { LABELS } from "./istio_families.ts";
import type { Labels } from "./istio_overrides.ts";
import { UNUSED_MS } from "./istio_series.ts";

const UNKNOWN = "unknown";
/** What an endpoint's address stands for may be told after the endpoint is. */
const REVIEW_MS = 5_000;
/** Of sides that are known; the labels of what is forgotten are made anew. */
const MAX_KEPT = 10_000;
/** Names that a client makes up (a Host header that no service has) must neither fill memory nor crowd out services. */
const MAX_NAMES = 200;
/** Keys of pairs stay exact integers. */
const MAX_ID = 2 ** 26;

/** One side's labels, with a number that stands for all of them. */
export interface Side {
  readonly id: number;
  readonly labels: Readonly<Record<string, string>>;
  readonly hasPrincipal: boolean;
}

const orUnknown = (text: string | undefined): string => text === undefined || text === "" ? UNKNOWN : text;

export class Sides {
  readonly #peers: (ip: string) => WorkloadSpec | undefined;
  readonly #sources = new Map<string, Side>();
  readonly #destinations = new Map<string, Side>();
  readonly #connections = new WeakMap<ConnectionInfo, Side>();
  readonly #hosts = new WeakMap<UpstreamHost, { readonly side: Side; readonly atMs: number; readonly of: object }>();
  readonly #full: () => void;
  readonly #names = new Set<string>();
  #namesSinceMs = 0;
  #next = 0;

  /** `full`: a name is "unknown" because there were too many. */
  constructor(peers: (ip: string) => WorkloadSpec | undefined, full: () => void) {
    this.#peers = peers;
    this.#full = full;
  }

  /** Names whose series are given up by now make room for others. */
  sweep(nowMs: number): void {
    if (nowMs - this.#namesSinceMs < UNUSED_MS) return;
    this.#namesSinceMs = nowMs;
    this.#names.clear();
  }

  source(connection: ConnectionInfo): Side {
    let side = this.#connections.get(connection);
    if (side !== undefined) return side;
    const { downstreamPeer: peer, peerPrincipal } = connection;
    const namespace = /^spiffe:\/\/[^/]+\/ns\/([^/]+)\//.exec(peerPrincipal)?.[1];
    side = this.#intern(this.#sources, {
      source_workload: orUnknown(peer?.workloadName),
      source_canonical_service: orUnknown(peer?.canonicalName),
      source_canonical_revision: peer?.canonicalRevision || "latest",
      source_workload_namespace: orUnknown(namespace ?? peer?.namespace),
      source_principal: orUnknown(peerPrincipal),
      source_app: orUnknown(peer?.canonicalName),
      source_version: orUnknown(peer?.canonicalRevision),
      source_cluster: orUnknown(peer?.clusterId),
    }, peerPrincipal !== "");
    this.#connections.set(connection, side);
    return side;
  }

  /** `fallback`: the Host header, where it counts; "" otherwise. */
  destination(host: UpstreamHost | undefined, fallback: string, nowMs: number): Side {
    if (host === undefined) return this.#describe(undefined, undefined, undefined, fallback);
    const { spec } = host.cluster;
    if (spec.service === undefined) {
      return this.#describe(upstreamPeer(host, this.#peers), host.endpoint.workload, undefined, fallback);
    }
    const kept = this.#hosts.get(host);
    if (kept !== undefined && nowMs - kept.atMs < REVIEW_MS && kept.of === host.endpoint) return kept.side;
    const side = this.#describe(this.#peers(endpointIp(host.endpoint)), host.endpoint.workload, spec.service, "");
    this.#hosts.set(host, { side, atMs: nowMs, of: host.endpoint });
    return side;
  }

  #describe(
    known: WorkloadSpec | undefined,
    text: string | undefined,
    service: { readonly host: string; readonly name: string; readonly namespace: string } | undefined,
    fallback: string,
  ): Side {
    const peer = known ?? (text === undefined ? undefined : workloadOfText(text));
    const host = service?.host || this.#admit(fallback);
    return this.#intern(this.#destinations, {
      destination_workload: orUnknown(peer?.workloadName),
      destination_workload_namespace: orUnknown(peer?.namespace),
      destination_principal: orUnknown(peer?.identity),
      destination_app: orUnknown(peer?.canonicalName),
      destination_version: orUnknown(peer?.canonicalRevision),
      destination_service: orUnknown(host),
      destination_canonical_service: orUnknown(peer?.canonicalName),
      destination_canonical_revision: orUnknown(peer?.canonicalRevision),
      destination_service_name: orUnknown(service?.name || host),
      destination_service_namespace: orUnknown(service?.namespace || peer?.namespace),
      destination_cluster: orUnknown(peer?.clusterId),
    }, (peer?.identity ?? "") !== "");
  }

  #admit(name: string): string {
    if (name === "" || this.#names.has(name)) return name;
    if (this.#names.size < MAX_NAMES) {
      this.#names.add(name);
      return name;
    }
    this.#full();
    return "";
  }

  #intern(sides: Map<string, Side>, labels: Readonly<Record<string, string>>, hasPrincipal: boolean): Side {
    const key = JSON.stringify(labels);
    let side = sides.get(key);
    if (side !== undefined) return side;
    if (sides.size >= MAX_KEPT) sides.clear();
    side = { id: this.#next = (this.#next + 1) % MAX_ID, labels, hasPrincipal };
    sides.set(key, side);
    return side;
  }
}

/** One number for two sides. */
export function pairKey(source: Side, destination: Side): number {
  return source.id * MAX_ID + destination.id;
}

/** All labels of one metric, in Istio's order; `own` are those of the outcome. */
export function labelsOf(source: Side, destination: Side, own: Readonly<Record<string, string>>): Labels {
  const all: Readonly<Record<string, string | undefined>> = {
    reporter: "waypoint",
    ...source.labels,
    ...destination.labels,
    ...own,
    connection_security_policy: source.hasPrincipal && destination.hasPrincipal ? "mutual_tls" : "none",
  };
  return LABELS.flatMap((name) => {
    const value = all[name];
    return value === undefined ? [] : [[name, value] as const];
  });
}

/** Those of all label sets that there is no room for. */
export function unknownLabels(labels: Labels): Labels {
  return labels.map(([name, value]) => [name, name === "reporter" || name === "request_protocol" ? value : "unknown"]);
}
