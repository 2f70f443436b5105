/** Telemetry of one HTTP chain: what is made of each of its requests. */
import { Timer } from "../../net/reactor.ts";
import { isGrpc } from "../engine/local_answer.ts";
import type { HttpFilter, RequestContext } from "../engine/request_context.ts";
import type { FormatFacts } from "../format/facts.ts";
import type { Timing } from "../http/timing.ts";
import type { HttpChainSpec } from "../spec/mod.ts";
import type { AccessLogger } from "./access_logger.ts";
import type { HttpStats, Streamed } from "./istio_stats.ts";
import { requestFormatFacts } from "./request_facts.ts";
import { type Trace, Tracing, type TracingDeps } from "./tracing.ts";
import type { HttpCounts } from "./worker_counts.ts";

export interface HttpTelemetryParts {
  readonly timing: Timing;
  readonly logger: AccessLogger | undefined;
  readonly stats: HttpStats | undefined;
  readonly counts: HttpCounts;
  readonly tracing: TracingDeps;
  readonly traces: WeakMap<RequestContext, Trace>;
}

export class HttpTelemetry {
  readonly #parts: HttpTelemetryParts;
  readonly #tracing: Tracing | undefined;
  /** gRPC calls under way: a stream may last for days, and its messages count meanwhile. */
  readonly #calls = new Map<RequestContext, Streamed>();
  readonly #timer: Timer;
  readonly #reportMs: number;
  readonly filter: HttpFilter | undefined;

  constructor(spec: HttpChainSpec, parts: HttpTelemetryParts) {
    this.#parts = parts;
    this.#tracing = Tracing.create(spec.tracing, parts.tracing);
    this.#reportMs = spec.stats?.tcpReportingMs ?? 0;
    this.#timer = new Timer({ expired: () => this.#reportCalls() });
    const countsMessages = parts.stats !== undefined && spec.policies.some(({ kind }) => kind === "grpc_stats");
    if (this.#tracing !== undefined || countsMessages) {
      this.filter = {
        name: "telemetry",
        request: (context) => {
          const trace = this.#tracing?.begin(context);
          if (trace !== undefined) this.#parts.traces.set(context, trace);
          if (countsMessages) this.#watch(context);
          return "pass";
        },
      };
    }
  }

  /** A chain that asks for nothing costs a few additions; one with metrics alone makes no facts. */
  finished(context: RequestContext): void {
    const { counts, stats, logger, traces, timing } = this.#parts;
    counts.finished(context);
    let facts: FormatFacts | undefined;
    if (stats !== undefined) {
      if (stats.needsFacts) facts = requestFormatFacts(context, timing.nowMs);
      if (this.#calls.size === 0) stats.finished(context, facts, timing.nowMs, undefined);
      else {
        stats.finished(context, facts, timing.nowMs, this.#calls.get(context));
        this.#calls.delete(context);
      }
    }
    if (logger !== undefined) logger(facts ??= requestFormatFacts(context, timing.nowMs));
    if (this.#tracing === undefined) return;
    const trace = traces.get(context);
    if (trace?.sampled !== true) return;
    this.#tracing.end(context, trace, facts ?? requestFormatFacts(context, timing.nowMs));
  }

  /** What was no request has no peers to be counted for; it is in the log. */
  refused(status: number, facts: FormatFacts): void {
    this.#parts.counts.refused(status);
    this.#parts.logger?.(facts);
  }

  #watch(context: RequestContext): void {
    if (this.#reportMs <= 0) return;
    if (!isGrpc(context.head)) return;
    this.#calls.set(context, { requests: 0, responses: 0 });
    if (this.#calls.size === 1) this.#parts.timing.setTimer(this.#timer, this.#reportMs);
  }

  #reportCalls(): void {
    const { stats, timing } = this.#parts;
    for (const [context, streamed] of this.#calls) {
      stats?.streaming(context, requestFormatFacts(context, timing.nowMs), timing.nowMs, streamed);
    }
    if (this.#calls.size > 0) timing.setTimer(this.#timer, this.#reportMs);
  }
}
