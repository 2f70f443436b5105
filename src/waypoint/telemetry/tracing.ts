/**
 * Spans of a chain's requests, waypoint.md 6.4: one server span each. The context is passed on whether or not the span is kept; without a provider
 * what the client sent goes on untouched.
 */
import type { RequestContext } from "../engine/request_context.ts";
import type { FormatEnvironment } from "../format/environment.ts";
import type { FormatFacts } from "../format/facts.ts";
import { first } from "../http/fields.ts";
import type { TracingSpec } from "../spec/mod.ts";
import type { SpanCollector, SpanRecord } from "./messages.ts";
import { customTags, standardTags, type TagWriter } from "./span_tags.ts";
import { parseTraceparent, readB3, type TraceContext, writeB3, writeTraceparent } from "./trace_context.ts";

export interface TracingDeps {
  readonly formats: FormatEnvironment;
  /** From 0 to below 1. */
  random(): number;
  /** So many random hexadecimal digits. */
  hex(digits: number): string;
  readonly nodeId: string;
  readonly spans: (to: SpanCollector, span: SpanRecord) => void;
}

/** The trace that a request is part of. */
export interface Trace {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentId: string;
  readonly sampled: boolean;
  readonly shared: boolean;
  readonly state: string;
}

export class Tracing {
  readonly #spec: TracingSpec;
  readonly #provider: SpanCollector;
  readonly #deps: TracingDeps;
  readonly #custom: readonly TagWriter[];

  /** Undefined: nothing is to be done for requests of the chain. */
  static create(spec: TracingSpec | undefined, deps: TracingDeps): Tracing | undefined {
    return spec?.provider === undefined ? undefined : new Tracing(spec, spec.provider, deps);
  }

  private constructor(spec: TracingSpec, provider: SpanCollector, deps: TracingDeps) {
    this.#spec = spec;
    this.#provider = provider;
    this.#deps = deps;
    this.#custom = customTags(spec.tags, deps.formats);
  }

  /** Before the filters: the trace of the request, written into the head that goes upstream. */
  begin(context: RequestContext): Trace {
    const { headers } = context.head;
    const provider = this.#provider;
    const zipkin = provider.kind === "zipkin" ? provider : undefined;
    const parent = zipkin === undefined
      ? parseTraceparent(first(headers, "traceparent"))
      : readB3(headers) ?? (zipkin.w3c ? parseTraceparent(first(headers, "traceparent")) : undefined);
    const sampled = parent?.sampled ?? this.#sample(headers);
    const trace = this.#trace(parent, sampled, zipkin);
    const own: TraceContext = { traceId: trace.traceId, spanId: trace.spanId, sampled };
    if (zipkin === undefined) writeTraceparent(headers, own);
    else {
      writeB3(headers, own, trace.parentId);
      if (zipkin.w3c) writeTraceparent(headers, own);
    }
    return trace;
  }

  #trace(
    parent: TraceContext | undefined,
    sampled: boolean,
    zipkin: Extract<SpanCollector, { readonly kind: "zipkin" }> | undefined,
  ): Trace {
    const { hex } = this.#deps;
    const isChild = parent !== undefined && parent.traceId !== "";
    const shared = isChild && zipkin?.sharedSpanContext === true;
    const spanId = shared ? parent.spanId : nonZero(hex, 16);
    return {
      traceId: isChild
        ? parent.traceId
        : zipkin === undefined || zipkin.traceId128
        ? nonZero(hex, 32)
        : nonZero(hex, 16),
      spanId,
      parentId: isChild && !shared ? parent.spanId : "",
      sampled,
      shared,
      state: "",
    };
  }

  /** As Envoy's connection manager decides where the client did not. */
  #sample(headers: readonly string[]): boolean {
    const { clientSampling, randomSampling, overallSampling } = this.#spec;
    const { random } = this.#deps;
    const wanted = first(headers, "x-client-trace-id") !== undefined
      ? random() * 100 < clientSampling
      : first(headers, "x-envoy-force-trace") !== undefined || this.#byRequestId(headers, randomSampling);
    return wanted && (overallSampling >= 100 || random() * 100 < overallSampling);
  }

  /** All proxies on a request's way come to the same: its id is the dice. */
  #byRequestId(headers: readonly string[], percent: number): boolean {
    const id = first(headers, "x-request-id");
    const digits = id === undefined ? null : /^[0-9a-fA-F]{8}/.exec(id);
    const drawn = digits === null ? this.#deps.random() * 10_000 : Number.parseInt(digits[0], 16) % 10_000;
    return drawn < percent * 100;
  }

  /** The request is over. */
  end(context: RequestContext, trace: Trace, facts: FormatFacts): void {
    if (!trace.sampled) return;
    const { connection, facts: { startedAtMs, endedAtMs = facts.nowMs, status } } = context;
    const tags: Record<string, string> = standardTags(context, facts, {
      nodeId: this.#deps.nodeId,
      maxPathLength: this.#spec.maxPathTagLength,
    });
    for (const write of this.#custom) write(context, facts, tags);
    const { ip, port } = connection.destination;
    this.#deps.spans(this.#provider, {
      traceId: trace.traceId,
      spanId: trace.spanId,
      parentId: trace.parentId,
      shared: trace.shared,
      traceState: first(context.head.headers, "tracestate") ?? "",
      name: context.route()?.operation || `${context.original.authority}`,
      startMs: facts.startedAtWallMs,
      durationMs: endedAtMs - startedAtMs,
      failed: status >= 500 || status === 0,
      tags,
      localAddress: ip.includes(":") ? `[${ip}]:${port}` : `${ip}:${port}`,
    });
  }
}

function nonZero(hex: (digits: number) => string, digits: number): string {
  const text = hex(digits);
  return /^0+$/.test(text) ? text.slice(0, -1) + "1" : text;
}
