/** Telemetry of one TCP chain. A connection may last for days: what it has moved is reported meanwhile. */
import { Timer } from "../../net/reactor.ts";
import type { Timing } from "../http/timing.ts";
import type { TcpChainSpec } from "../spec/mod.ts";
import type { TcpFacts } from "../worker/hooks.ts";
import type { AccessLogger } from "./access_logger.ts";
import type { TcpStats } from "./istio_stats.ts";
import { tcpFormatFacts } from "./tcp_facts.ts";
import type { TcpCounts } from "./worker_counts.ts";

export interface TcpTelemetryParts {
  readonly timing: Timing;
  readonly logger: AccessLogger | undefined;
  readonly stats: TcpStats | undefined;
  readonly counts: TcpCounts;
}

/** What metrics have of a connection so far. */
interface Reported {
  opened: boolean;
  sent: number;
  received: number;
}

export class TcpTelemetry {
  readonly #parts: TcpTelemetryParts;
  readonly #open = new Map<TcpFacts, Reported>();
  readonly #timer = new Timer({ expired: () => this.#reportOpen() });
  readonly #reportMs: number;

  constructor(spec: TcpChainSpec, parts: TcpTelemetryParts) {
    this.#parts = parts;
    this.#reportMs = spec.stats?.tcpReportingMs ?? 0;
  }

  opened(facts: TcpFacts): void {
    this.#parts.counts.downstream_cx_total++;
    if (this.#parts.stats === undefined) return;
    this.#open.set(facts, { opened: false, sent: 0, received: 0 });
    if (this.#open.size === 1 && this.#reportMs > 0) this.#parts.timing.setTimer(this.#timer, this.#reportMs);
  }

  finished(facts: TcpFacts): void {
    const { counts, logger, timing } = this.#parts;
    if (facts.flags === "NC" || facts.flags === "NR") counts.downstream_cx_no_route++;
    counts.downstream_cx_rx_bytes_total += facts.bytesReceived;
    counts.downstream_cx_tx_bytes_total += facts.bytesSent;
    this.#report(facts, this.#open.get(facts) ?? { opened: false, sent: 0, received: 0 }, true);
    this.#open.delete(facts);
    logger?.(tcpFormatFacts(facts, timing.nowMs));
  }

  #reportOpen(): void {
    for (const [facts, reported] of this.#open) {
      // Before there is an endpoint, nobody knows whom it is with.
      if (facts.host !== undefined) this.#report(facts, reported, false);
    }
    if (this.#open.size > 0) this.#parts.timing.setTimer(this.#timer, this.#reportMs);
  }

  #report(facts: TcpFacts, reported: Reported, closed: boolean): void {
    const { stats, timing } = this.#parts;
    if (stats === undefined) return;
    const { bytesSent, bytesReceived } = facts;
    stats.report(tcpFormatFacts(facts, timing.nowMs), facts.host, {
      opened: reported.opened ? 0 : 1,
      closed: closed ? 1 : 0,
      sentBytes: bytesSent - reported.sent,
      receivedBytes: bytesReceived - reported.received,
    }, timing.nowMs);
    reported.opened = true;
    reported.sent = bytesSent;
    reported.received = bytesReceived;
  }
}
