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
import type { ConnectionMetrics, ResponseFlags, TrafficMetrics } from "../telemetry/traffic_metrics.ts";
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
  /** The tunnel's authority, if there is a tunnel. */
  readonly hboneAddress: string | undefined;
  readonly original: string | undefined;
  readonly mutualTls: boolean;
}

/** Bytes as a relay counts them, by who sent them. */
export interface ByteCounts {
  /** Client to server. */
  fromClient(): number;
  /** Server to client. */
  fromServer(): number;
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
    this.#metrics = keeper.traffic.open({
      reporter,
      source: ends.source.labels,
      destination: ends.destination.labels,
      service: ends.service,
      mutualTls: ends.mutualTls,
    });
    keeper.traffic.socketsOpen(reporter, 1);
    keeper.records.add(this);
    if (keeper.log.enabledFor("debug", ACCESS_TARGET)) keeper.access.opened(this.#line());
  }

  /** The relay that counts from now on. */
  follow(counts: ByteCounts): void {
    this.#counts = counts;
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
    const outbound = this.ends.direction === "outbound";
    this.#keeper.traffic.socketsOpen(outbound ? "source" : "destination", -1);
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
      actualDst: formatSocketAddress(ends.actual),
      protocol: ends.hboneAddress === undefined ? "TCP" : "HBONE",
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
