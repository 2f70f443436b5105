/** Telemetry of one HTTP chain: what is made of each of its requests. */
import { Timer } from "../../net/reactor.ts";
import type { HttpFilter, RequestContext } from "../engine/request_context.ts";
import type { FormatFacts } from "../format/facts.ts";
import { first } from "../http/fields.ts";
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

  finished(context: RequestContext): void {
    const { counts, stats, logger, traces, timing } = this.#parts;
    counts.finished(context);
    const trace = this.#tracing === undefined ? undefined : traces.get(context);
    let made: FormatFacts | undefined;
    const facts = () => made ??= requestFormatFacts(context, timing.nowMs);
    if (stats !== undefined) {
      stats.finished(context, facts, timing.nowMs, this.#calls.get(context));
      this.#calls.delete(context);
    }
    if (logger !== undefined) logger(facts());
    if (trace !== undefined && trace.sampled) this.#tracing?.end(context, trace, facts());
  }

  #watch(context: RequestContext): void {
    if (this.#reportMs <= 0) return;
    if (first(context.head.headers, "content-type")?.startsWith("application/grpc") !== true) return;
    this.#calls.set(context, { requests: 0, responses: 0 });
    if (this.#calls.size === 1) this.#parts.timing.setTimer(this.#timer, this.#reportMs);
  }

  #reportCalls(): void {
    const { stats, timing } = this.#parts;
    for (const [context, streamed] of this.#calls) {
      stats?.streaming(context, () => requestFormatFacts(context, timing.nowMs), timing.nowMs, streamed);
    }
    if (this.#calls.size > 0) timing.setTimer(this.#timer, this.#reportMs);
  }
}
