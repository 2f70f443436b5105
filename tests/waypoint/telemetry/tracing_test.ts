import assert from "node:assert/strict";
import { test } from "node:test";
import type { ClusterName, CustomTagSpec, TracingSpec } from "../../../src/waypoint/spec/mod.ts";
import type { SpanRecord } from "../../../src/waypoint/telemetry/messages.ts";
import { formatTraceparent, parseTraceparent, readB3 } from "../../../src/waypoint/telemetry/trace_context.ts";
import { parseFormat } from "../../../src/waypoint/config/format.ts";
import { type Caught, caught, pass, simpleChain, TRACING } from "./support.ts";

const COLLECTOR = "outbound|4317||otel.telemetry.svc.cluster.local" as ClusterName;
const OTEL: TracingSpec["provider"] = { kind: "otlp grpc", cluster: COLLECTOR, serviceName: "", headers: [] };
const ZIPKIN = {
  kind: "zipkin",
  cluster: COLLECTOR,
  path: "/api/v2/spans",
  host: "zipkin",
  traceId128: true,
  sharedSpanContext: false,
  w3c: false,
} as const satisfies TracingSpec["provider"];
const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT = "00f067aa0ba902b7";

const traced = (provider: TracingSpec["provider"], spec: Partial<TracingSpec> = {}) =>
  simpleChain({ tracing: { ...TRACING, provider, ...spec } });

function spans(all: Caught): SpanRecord[] {
  all.timing.advance(1001);
  return all.messages.flatMap((message) => message.kind === "spans" ? message.spans : []);
}

/** The headers that the endpoint got. */
function seenBy(all: Caught, spec: ReturnType<typeof traced>, headers: readonly string[]): Map<string, string> {
  const found = new Map<string, string>();
  pass(all, spec, {
    headers,
    seen(list) {
      for (let i = 0; i < list.length; i += 2) found.set(list[i], list[i + 1]);
    },
  });
  return found;
}

test("tracing: a span of the request, with Envoy's tags, named by the route's operation", () => {
  const all = caught();
  pass(all, traced(OTEL), { headers: ["user-agent", "curl/8", "x-request-id", "0badcafe-1"] });
  const [span] = spans(all);
  assert.equal(span.name, "b.demo:80/*");
  assert.equal(span.durationMs, 12);
  assert.equal(span.parentId, "");
  assert.equal(span.localAddress, "10.96.0.20:80");
  const { tags } = span;
  assert.equal(tags["component"], "proxy");
  assert.equal(tags["node_id"], "waypoint~10.0.0.1~wp.demo~demo.svc.cluster.local");
  assert.equal(tags["http.method"], "POST");
  assert.equal(tags["http.url"], "http://b.demo/a?b=c");
  assert.equal(tags["http.status_code"], "200");
  assert.equal(tags["http.protocol"], "HTTP/1.1");
  assert.equal(tags["guid:x-request-id"], "0badcafe-1");
  assert.equal(tags["peer.address"], "10.0.1.5");
  assert.equal(tags["user_agent"], "curl/8");
  assert.equal(tags["response_flags"], "-");
  assert.equal(tags["upstream_cluster"], "b");
  assert.equal(tags["request_size"], "5");
  assert.equal(tags["response_size"], "6");
  assert.equal(tags["error"], undefined);
});

test("tracing: a server's failure marks the span, a client's does not", () => {
  const all = caught();
  pass(all, traced(OTEL), { status: 503 });
  pass(all, traced(OTEL), { status: 404 });
  assert.deepEqual(spans(all).map(({ failed, tags }) => [failed, tags["error"]]), [[true, "true"], [false, undefined]]);
});

test("tracing: OpenTelemetry goes on with the client's trace, and the endpoint gets this span as parent", () => {
  const all = caught();
  const seen = seenBy(all, traced(OTEL), ["traceparent", `00-${TRACE}-${PARENT}-01`, "tracestate", "a=b"]);
  const [span] = spans(all);
  assert.deepEqual([span.traceId, span.parentId, span.traceState], [TRACE, PARENT, "a=b"]);
  assert.equal(seen.get("traceparent"), `00-${TRACE}-${span.spanId}-01`);
  assert.notEqual(span.spanId, PARENT);
});

test("tracing: a client that is not sampled is not sampled here, and its decision goes on", () => {
  const all = caught();
  const seen = seenBy(all, traced(OTEL), ["traceparent", `00-${TRACE}-${PARENT}-00`]);
  assert.match(seen.get("traceparent")!, new RegExp(`^00-${TRACE}-[0-9a-f]{16}-00$`));
  assert.deepEqual(spans(all), []);
});

test("tracing: without a provider what the client sent goes on untouched", () => {
  const all = caught();
  const spec = traced(undefined);
  assert.equal(all.telemetry.filter(spec), undefined);
  const seen = seenBy(all, spec, ["traceparent", `00-${TRACE}-${PARENT}-00`, "b3", "0"]);
  assert.deepEqual([seen.get("traceparent"), seen.get("b3")], [`00-${TRACE}-${PARENT}-00`, "0"]);
});

test("tracing: Zipkin reads B3 in both forms and writes the headers of it", () => {
  for (
    const headers of [
      ["b3", `${TRACE}-${PARENT}-1`],
      ["x-b3-traceid", TRACE, "x-b3-spanid", PARENT, "x-b3-sampled", "1"],
      ["x-b3-traceid", TRACE, "x-b3-spanid", PARENT, "x-b3-flags", "1"],
    ]
  ) {
    const all = caught();
    const seen = seenBy(all, traced(ZIPKIN), headers);
    const [span] = spans(all);
    assert.deepEqual([span.traceId, span.parentId, span.shared], [TRACE, PARENT, false]);
    assert.equal(seen.get("x-b3-traceid"), TRACE);
    assert.equal(seen.get("x-b3-spanid"), span.spanId);
    assert.equal(seen.get("x-b3-parentspanid"), PARENT);
    assert.equal(seen.get("x-b3-sampled"), "1");
    assert.equal(seen.has("b3"), false);
    assert.equal(seen.has("traceparent"), false);
  }
});

test("tracing: Zipkin with W3C propagation reads and writes both", () => {
  const all = caught();
  const seen = seenBy(all, traced({ ...ZIPKIN, w3c: true }), ["traceparent", `00-${TRACE}-${PARENT}-01`]);
  const [span] = spans(all);
  assert.deepEqual([span.traceId, span.parentId], [TRACE, PARENT]);
  assert.equal(seen.get("traceparent"), `00-${TRACE}-${span.spanId}-01`);
  assert.equal(seen.get("x-b3-traceid"), TRACE);
});

test("tracing: Zipkin's shared spans have the client's id", () => {
  const all = caught();
  const seen = seenBy(all, traced({ ...ZIPKIN, sharedSpanContext: true }), ["b3", `${TRACE}-${PARENT}-1`]);
  const [span] = spans(all);
  assert.deepEqual([span.spanId, span.parentId, span.shared], [PARENT, "", true]);
  assert.equal(seen.get("x-b3-spanid"), PARENT);
});

test("tracing: Zipkin's ids of 64 bits where 128 are not asked for", () => {
  const all = caught();
  pass(all, traced({ ...ZIPKIN, traceId128: false }));
  assert.equal(spans(all)[0].traceId.length, 16);
});

test("tracing: a decision alone (b3: 0) begins no trace of its own, and is kept", () => {
  const all = caught();
  const seen = seenBy(all, traced(ZIPKIN), ["b3", "0"]);
  assert.equal(seen.get("x-b3-sampled"), "0");
  assert.deepEqual(spans(all), []);
});

test("tracing: sampling by request id: every proxy on the way comes to the same", () => {
  const all = caught();
  const spec = traced(OTEL, { randomSampling: 25 });
  // 0x000009c3 is 2,499 of 10,000, 0x000009c4 is 2,500.
  pass(all, spec, { headers: ["x-request-id", "000009c3-0000-4000-8000-000000000000"] });
  pass(all, spec, { headers: ["x-request-id", "000009c4-0000-4000-8000-000000000000"] });
  assert.deepEqual(spans(all).map(({ tags }) => tags["guid:x-request-id"].slice(0, 8)), ["000009c3"]);
});

test("tracing: 0 % samples nothing, and overall sampling is a limit on top", () => {
  const all = caught();
  pass(all, traced(OTEL, { randomSampling: 0 }));
  pass(all, traced(OTEL, { overallSampling: 40 }));
  assert.deepEqual(spans(all), []);
  pass(all, traced(OTEL, { overallSampling: 60 }));
  assert.equal(spans(all).length, 1);
});

test("tracing: a client that asks for a trace is sampled by its own percentage", () => {
  const all = caught();
  const spec = traced(OTEL, { randomSampling: 0, clientSampling: 60 });
  pass(all, spec, { headers: ["x-client-trace-id", "1"] });
  assert.equal(spans(all).length, 1);
});

test("tracing: custom tags, and one without a value is not there", () => {
  const all = caught();
  const tags: CustomTagSpec[] = [
    { tag: "fixed", from: { kind: "literal", value: "x" } },
    { tag: "color", from: { kind: "environment", name: "COLOR", fallback: "red" } },
    { tag: "shape", from: { kind: "environment", name: "NO_SUCH_VARIABLE_HERE", fallback: "round" } },
    { tag: "tenant", from: { kind: "header", name: "x-tenant", fallback: "none" } },
    { tag: "missing", from: { kind: "header", name: "x-missing", fallback: "" } },
    { tag: "from", from: { kind: "format", format: parseFormat("%DOWNSTREAM_PEER_URI_SAN%") } },
    {
      tag: "verdict",
      from: { kind: "metadata", of: "request", namespace: "n", path: ["a", "b"], fallback: "" },
    },
  ];
  pass(all, traced(OTEL, { tags, maxPathTagLength: 3 }), {
    headers: ["x-tenant", "acme"],
    before: ({ metadata }) => void metadata.set("n", { a: { b: 7 } }),
  });
  const [{ tags: written }] = spans(all);
  assert.equal(written["fixed"], "x");
  assert.equal(written["color"], "blue");
  assert.equal(written["shape"], "round");
  assert.equal(written["tenant"], "acme");
  assert.equal("missing" in written, false);
  assert.equal(written["from"], "spiffe://cluster.local/ns/a/sa/client");
  assert.equal(written["verdict"], "7");
  assert.equal(written["http.url"], "http://b.demo/a?");
});

test("tracing: a gRPC call has its status", () => {
  const all = caught();
  pass(all, traced(OTEL), { before: ({ facts }) => void (facts.grpcStatus = "14") });
  const [{ tags }] = spans(all);
  assert.deepEqual([tags["grpc.status_code"], tags["grpc.path"]], ["14", "/a?b=c"]);
});

test("trace context: what is no traceparent is passed over", () => {
  for (
    const text of [
      undefined,
      "",
      "x",
      `00-${TRACE}-${PARENT}`,
      `ff-${TRACE}-${PARENT}-01`,
      `00-${"0".repeat(32)}-${PARENT}-01`,
      `00-${TRACE}-${"0".repeat(16)}-01`,
      `00-${TRACE}-${PARENT}-01-more`,
      `00-${TRACE.toUpperCase()}-${PARENT}-01`,
    ]
  ) assert.equal(parseTraceparent(text), undefined, String(text));
  // A later version may say more.
  const context = { traceId: TRACE, spanId: PARENT, sampled: true };
  assert.deepEqual(parseTraceparent(`01-${TRACE}-${PARENT}-03-more`), context);
  assert.deepEqual(parseTraceparent(formatTraceparent(context)), context);
});

test("trace context: B3 that cannot be read is none", () => {
  for (const single of ["", "x", `${TRACE}-x-1`, `${"0".repeat(32)}-${PARENT}-1`, `${TRACE.slice(1)}-${PARENT}`]) {
    assert.equal(readB3(["b3", single]), undefined, single);
  }
  assert.deepEqual(readB3(["b3", "d"]), { traceId: "", spanId: "", sampled: true });
  assert.deepEqual(readB3(["b3", `${TRACE}-${PARENT}`]), { traceId: TRACE, spanId: PARENT, sampled: undefined });
});
