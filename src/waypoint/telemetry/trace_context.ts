/** Trace context on the wire: W3C `traceparent` (its Recommendation, section 3.2) and B3 in both of its forms. */
import { first, remove, set } from "../http/fields.ts";

export interface TraceContext {
  /** 32 or 16 hexadecimal digits, lower case. */
  readonly traceId: string;
  /** 16 digits. */
  readonly spanId: string;
  /** Undefined: the decision is left to whoever comes next. */
  readonly sampled: boolean | undefined;
}

const TRACEPARENT = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;
const TRACE_ID = /^(?:[0-9a-f]{16}|[0-9a-f]{32})$/;
const SPAN_ID = /^[0-9a-f]{16}$/;
const ZEROS = /^0+$/;

/** Undefined for what is none, which section 3.2.2 says to ignore. */
export function parseTraceparent(text: string | undefined): TraceContext | undefined {
  const found = text === undefined ? null : TRACEPARENT.exec(text);
  if (found === null) return undefined;
  const [, version, traceId, spanId, flags, rest] = found;
  if (version === "ff" || (version === "00" && rest !== undefined)) return undefined;
  if (ZEROS.test(traceId) || ZEROS.test(spanId)) return undefined;
  return { traceId, spanId, sampled: (Number.parseInt(flags, 16) & 1) === 1 };
}

export function formatTraceparent({ traceId, spanId, sampled }: TraceContext): string {
  return `00-${traceId.padStart(32, "0")}-${spanId}-${sampled === true ? "01" : "00"}`;
}

/** The single header first, as its specification says. A decision without ids is a context too: `traceId` is "" then. */
export function readB3(headers: readonly string[]): TraceContext | undefined {
  const single = first(headers, "b3");
  if (single !== undefined) {
    const parts = single.split("-");
    if (parts.length === 1) return decision(parts[0]);
    const [traceId, spanId, state] = parts;
    return withIds(traceId, spanId, state === undefined ? undefined : decision(state)?.sampled);
  }
  const sampled = first(headers, "x-b3-flags") === "1" ? true : decision(first(headers, "x-b3-sampled") ?? "")?.sampled;
  const context = withIds(first(headers, "x-b3-traceid") ?? "", first(headers, "x-b3-spanid") ?? "", sampled);
  return context ?? (sampled === undefined ? undefined : { traceId: "", spanId: "", sampled });
}

function withIds(traceId: string, spanId: string, sampled: boolean | undefined): TraceContext | undefined {
  const [trace, span] = [traceId.toLowerCase(), spanId.toLowerCase()];
  if (!TRACE_ID.test(trace) || !SPAN_ID.test(span) || ZEROS.test(trace) || ZEROS.test(span)) return undefined;
  return { traceId: trace, spanId: span, sampled };
}

function decision(text: string): TraceContext | undefined {
  switch (text.toLowerCase()) {
    case "1":
    case "d":
    case "true":
      return { traceId: "", spanId: "", sampled: true };
    case "0":
    case "false":
      return { traceId: "", spanId: "", sampled: false };
  }
  return undefined;
}

export function writeTraceparent(headers: string[], context: TraceContext): void {
  set(headers, "traceparent", formatTraceparent(context));
}

export function writeB3(headers: string[], { traceId, spanId, sampled }: TraceContext, parentId: string): void {
  remove(headers, "b3");
  remove(headers, "x-b3-flags");
  set(headers, "x-b3-traceid", traceId);
  set(headers, "x-b3-spanid", spanId);
  if (parentId === "") remove(headers, "x-b3-parentspanid");
  else set(headers, "x-b3-parentspanid", parentId);
  set(headers, "x-b3-sampled", sampled === true ? "1" : "0");
}
