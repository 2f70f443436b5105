/**
 * The record of one connection from its acceptance to its end: its metrics, its access-log line, and how the admin endpoint shows
 * it. Bytes are counted by the relay; `flush` carries them over, so the data path pays nothing for metrics.
 */
import {
  formatSocketAddress,
  type PeerLabels,
  type PeerNames,
  type ServiceLabels,
  type SocketAddress,
} from "../mesh/mod.ts";
import { ACCESS_TARGET, type AccessConnection, type AccessLog } from "../telemetry/access_log.ts";
import type { Log } from "../telemetry/log.ts";
import type { Registry } from "../telemetry/registry.ts";
import type { ConnectionMetrics, ResponseFlags, TrafficKey, TrafficMetrics } from "../telemetry/traffic_metrics.ts";
import type { ConnectionView } from "./messages.ts";

/** What a connection's ends are called, known when it is set up. */
export interface ConnectionEnds {
  readonly direction: "inbound" | "outbound";
  /** The pod of this node. */
  readonly pod: string;
  readonly peer: SocketAddress;
  readonly source: { readonly labels: PeerLabels; readonly names: PeerNames };
  readonly destination: { readonly labels: PeerLabels; readonly names: PeerNames };
  readonly service: ServiceLabels | undefined;
  /** The next hop (outbound), the pod's own address and port (inbound). */
  readonly actual: SocketAddress;
  /** Where the application takes it, if that is another address than `actual`. */
  readonly application?: SocketAddress;
  /** The tunnel's authority, if there is a tunnel. */
  readonly hboneAddress: string | undefined;
  readonly original: string | undefined;
  readonly mutualTls: boolean;
  /** Its tunnel lies inside another one, to a gateway. */
  readonly nested: boolean;
}

/** Bytes as a relay counts them, by who sent them. */
export interface ByteCounts {
  /** Client to server. */
  fromClient(): number;
  /** Server to client. */
  fromServer(): number;
}

/**
 * What a relay's end means: an application's own end or reset is none of the mesh's failures; all that broke off in between is counted
 * as CONNECT (reference ztunnel 9.3).
 */
export function outcomeOf(
  end: { readonly kind: "complete" } | { readonly kind: "reset"; readonly detail: string; readonly revoked?: boolean },
): { readonly flags: ResponseFlags; readonly error: string | undefined } {
  return end.kind === "complete" || end.detail === ""
    ? { flags: "-", error: undefined }
    : { flags: end.revoked === true ? "CERT_REVOKED" : "CONNECT", error: end.detail };
}

/** What all records of a worker share. */
export interface RecordKeeper {
  readonly registry: Registry;
  readonly traffic: TrafficMetrics;
  readonly access: AccessLog;
  /** Asked before a line is put together. */
  readonly log: Pick<Log, "enabledFor">;
  readonly records: Set<ConnectionRecord>;
  readonly nowMs: () => number;
}

export class ConnectionRecord {
  readonly ends: ConnectionEnds;
  readonly #keeper: RecordKeeper;
  readonly #key: TrafficKey;
  readonly #metrics: ConnectionMetrics;
  readonly #startMs: number;
  #counts: ByteCounts | undefined;
  #fromClient = 0;
  #fromServer = 0;
  #ended = false;

  /** Counts the connection as opened. */
  constructor(keeper: RecordKeeper, ends: ConnectionEnds, startMs: number) {
    this.#keeper = keeper;
    this.ends = ends;
    this.#startMs = startMs;
    const reporter = ends.direction === "outbound" ? "source" : "destination";
    this.#key = {
      reporter,
      source: ends.source.labels,
      destination: ends.destination.labels,
      service: ends.service,
      mutualTls: ends.mutualTls,
    };
    this.#metrics = keeper.traffic.open(this.#key);
    keeper.traffic.socketsOpen(reporter, 1);
    keeper.records.add(this);
    if (keeper.log.enabledFor("debug", ACCESS_TARGET)) keeper.access.opened(this.#line());
  }

  /** The relay that counts from now on. */
  follow(counts: ByteCounts): void {
    this.#counts = counts;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Adds what the relay counted since the last time. */
  flush(): void {
    const counts = this.#counts;
    if (counts === undefined) return;
    const fromClient = counts.fromClient();
    const fromServer = counts.fromServer();
    if (fromClient !== this.#fromClient) {
      this.#keeper.registry.add(this.#metrics.receivedSlot, fromClient - this.#fromClient);
      this.#fromClient = fromClient;
    }
    if (fromServer !== this.#fromServer) {
      this.#keeper.registry.add(this.#metrics.sentSlot, fromServer - this.#fromServer);
      this.#fromServer = fromServer;
    }
  }

  /** The end, once; `error` undefined for a connection that ended well. */
  end(flags: ResponseFlags, error: string | undefined): void {
    if (this.#ended) return;
    this.#ended = true;
    this.flush();
    this.#keeper.records.delete(this);
    this.#metrics.close(flags);
    if (error !== undefined) this.#keeper.traffic.failed(this.#key, flags);
    const outbound = this.ends.direction === "outbound";
    this.#keeper.traffic.socketsOpen(this.#key.reporter, -1);
    if (!this.#keeper.log.enabledFor(error === undefined ? "info" : "error", ACCESS_TARGET)) return;
    this.#keeper.access.complete(this.#line(), {
      bytesSent: outbound ? this.#fromClient : this.#fromServer,
      bytesReceived: outbound ? this.#fromServer : this.#fromClient,
      durationMs: this.#keeper.nowMs() - this.#startMs,
      error,
    });
  }

  view(): ConnectionView {
    const { ends } = this;
    return {
      pod: ends.pod,
      direction: ends.direction,
      src: formatSocketAddress(ends.peer),
      originalDst: ends.original,
      actualDst: formatSocketAddress(ends.application ?? ends.actual),
      protocol: ends.nested ? "DOUBLEHBONE" : ends.hboneAddress === undefined ? "TCP" : "HBONE",
    };
  }

  #line(): AccessConnection {
    const { ends } = this;
    return {
      sourceAddress: formatSocketAddress(ends.peer),
      source: ends.source.names,
      destinationAddress: formatSocketAddress(ends.actual),
      hboneAddress: ends.hboneAddress,
      service: ends.service?.hostname,
      destination: ends.destination.names,
      direction: ends.direction,
    };
  }
}
