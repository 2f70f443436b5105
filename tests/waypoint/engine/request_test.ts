import assert from "node:assert/strict";
import { test } from "node:test";
import type { RetrySpec } from "../../../src/waypoint/spec/mod.ts";
import type { UpstreamFailure } from "../../../src/waypoint/upstream/upstream.ts";
import { chain, forwardTo, NO_CHANGE, route, TestEngine } from "../support/test_engine.ts";

const RETRY: RetrySpec = {
  retries: 2,
  on: ["connect-failure", "refused-stream", "unavailable", "cancelled", "retriable-status-codes"],
  statuses: [],
  retriableHeaders: [],
  perTryTimeoutMs: 0,
  perTryIdleMs: 0,
  baseBackoffMs: 25,
  maxBackoffMs: 250,
  avoidPreviousHosts: true,
  hostAttempts: 5,
  priorityUpdateFrequency: 0,
};
const REFUSED: UpstreamFailure = {
  flag: "UF",
  reason: "remote connection failure",
  detail: "10.0.3.1:15008: connection refused",
  safeToRetry: true,
};

const simple = (spec: Parameters<typeof forwardTo>[1] = {}) => chain([route({ action: forwardTo("b", spec) })]);

for (const downstream of ["1.1", "2"] as const) {
  for (const upstream of ["1.1", "2"] as const) {
    test(`request ${downstream} to ${upstream}: goes up and its answer comes back, with Envoy's marks`, () => {
      const engine = new TestEngine(simple(), { downstream, upstream });
      const answer = engine.request({ method: "POST", path: "/a/../b?c=d", headers: ["x-a", "1"] }, "hello");
      const [seen] = engine.seen;
      const { head } = seen.exchange;
      assert.equal(head.path, "/b?c=d");
      assert.equal(head.authority, "b.demo");
      assert.equal(seen.body, "hello");
      assert.ok(head.headers.join().includes("x-request-id,00000000-0000-4000-8000-000000000000"));
      assert.ok(head.headers.join().includes("x-forwarded-proto,http"));
      engine.answer(seen, 201, "world", ["x-b", "2", "server", "app"]);
      assert.equal(answer.status, 201);
      assert.equal(answer.body, "world");
      assert.equal(answer.ended, true);
      assert.equal(answer.header("server"), "istio-envoy");
      assert.equal(answer.header("x-b"), "2");
      assert.equal(answer.header("x-envoy-upstream-service-time"), "0");
      const [context] = engine.finished;
      assert.equal(context.facts.status, 201);
      assert.equal(context.details, "via_upstream");
      assert.equal(context.exchange.bytes.received, 5);
      assert.equal(context.exchange.bytes.sent, 5);
      assert.equal(context.facts.host?.shown, "10.0.3.1:8080");
    });

    test(`request ${downstream} to ${upstream}: trailers both ways, as gRPC sends them`, () => {
      const engine = new TestEngine(simple(), { downstream, upstream });
      const answer = engine.request({
        method: "POST",
        path: "/s/m",
        headers: ["content-type", "application/grpc", "te", "trailers"],
        contentLength: -1,
      });
      answer.exchange?.data(new Uint8Array([1, 2]), 0, 2, false);
      answer.exchange?.trailers(["x-t", "1"]);
      engine.run();
      const [seen] = engine.seen;
      assert.deepEqual(seen.trailers, ["x-t", "1"]);
      seen.exchange.respond({ status: 200, headers: ["content-type", "application/grpc"] }, false);
      seen.exchange.data(new Uint8Array([7]), 0, 1, false);
      seen.exchange.trailers(["grpc-status", "5"]);
      engine.run();
      assert.deepEqual(answer.trailers_, ["grpc-status", "5"]);
      assert.equal(engine.finished[0].facts.grpcStatus, "5");
    });

    test(`request ${downstream} to ${upstream}: a websocket passes, bytes both ways`, () => {
      const engine = new TestEngine(simple(), { downstream, upstream });
      const answer = engine.request({ upgrade: "websocket", contentLength: -1, headers: ["sec-websocket-key", "k"] });
      const [seen] = engine.seen;
      assert.equal(seen.exchange.head.upgrade, "websocket");
      seen.exchange.respond({ status: 101, headers: ["sec-websocket-accept", "a"] }, false);
      engine.run();
      assert.equal(answer.status, 101);
      answer.exchange?.data(new TextEncoder().encode("ping"), 0, 4, false);
      engine.run();
      assert.equal(seen.body, "ping");
      seen.exchange.data(new TextEncoder().encode("pong"), 0, 4, false);
      engine.run();
      assert.equal(answer.body, "pong");
    });
  }
}

test("request: no route, no cluster, no endpoint, a route that is refused", () => {
  const cases: readonly [TestEngine, number, string, string, string][] = [
    [new TestEngine(chain([])), 404, "", "NR", "route_not_found"],
    [new TestEngine(chain([route({ action: forwardTo("missing") })])), 503, "", "NC", "cluster_not_found"],
    [
      new TestEngine(chain([route({ action: forwardTo("missing", { unknownClusterStatus: 500 }) })])),
      500,
      "",
      "NC",
      "cluster_not_found",
    ],
    [new TestEngine(chain([route({ action: forwardTo("b", { clusters: [] }) })])), 503, "", "NC", "cluster_not_found"],
    [
      new TestEngine(chain([route({ action: forwardTo("b"), refusal: "x is not supported" })])),
      503,
      "",
      "NC",
      "route_refused{x is not supported}",
    ],
  ];
  for (const [engine, status, body, flag, details] of cases) {
    const answer = engine.request({});
    assert.equal(answer.status, status, details);
    assert.equal(answer.body, body);
    assert.deepEqual([...engine.finished[0].flags], [flag]);
    assert.equal(engine.finished[0].details, details);
  }
  const empty = new TestEngine(simple());
  empty.failures.push({ flag: "UH", reason: "no healthy upstream", detail: "", safeToRetry: true });
  const answer = empty.request({});
  assert.equal(answer.status, 503);
  assert.equal(answer.body, "no healthy upstream");
  assert.deepEqual([...empty.finished[0].flags], ["UH"]);
});

test("request: a gRPC client is told in trailers alone", () => {
  const engine = new TestEngine(chain([]), { downstream: "2" });
  const answer = engine.request({ method: "POST", headers: ["content-type", "application/grpc+proto"] }, "x");
  assert.equal(answer.status, 200);
  assert.equal(answer.header("grpc-status"), "12");
  assert.equal(answer.body, "");
});

test("request: direct answers and redirects", () => {
  const engine = new TestEngine(chain([
    route({
      path: { kind: "exact", path: "/teapot", ignoreCase: false },
      action: { kind: "direct", status: 418, body: "short and stout" },
    }),
    route({
      path: { kind: "separated", path: "/old", ignoreCase: false },
      action: {
        kind: "redirect",
        scheme: "https",
        host: "www.example.com",
        port: 8443,
        path: undefined,
        prefixRewrite: "/new",
        regexRewrite: undefined,
        stripQuery: false,
        code: 308,
      },
    }),
  ]));
  const teapot = engine.request({ path: "/teapot" });
  assert.deepEqual([teapot.status, teapot.body, teapot.header("content-type")], [418, "short and stout", "text/plain"]);
  const moved = engine.request({ path: "/old/x?y=z" });
  assert.deepEqual([moved.status, moved.header("location")], [308, "https://www.example.com:8443/new/x?y=z"]);
});

test("request: a failed connection is tried again elsewhere, then told with its reason", () => {
  const engine = new TestEngine(simple({ retry: RETRY }));
  engine.failures.push(REFUSED);
  const answer = engine.request({});
  assert.equal(answer.status, undefined, "waits before it tries again");
  engine.advance(25);
  assert.equal(engine.seen.length, 1);
  assert.equal(engine.picks[1].tried[0].shown, "10.0.3.1:8080");
  assert.equal(engine.picks[1].avoidTried, true);
  engine.answer(engine.seen[0], 200, "ok");
  assert.equal(answer.body, "ok");
  assert.equal(engine.finished[0].facts.attempts, 2);

  const failing = new TestEngine(simple({ retry: RETRY }));
  failing.failures.push(REFUSED, REFUSED, REFUSED);
  const failed = failing.request({});
  failing.advance(25);
  failing.advance(75);
  assert.equal(failed.status, 503);
  assert.equal(
    failed.body,
    "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: remote connection failure, transport failure reason: 10.0.3.1:15008: connection refused",
  );
  assert.deepEqual([...failing.finished[0].flags].sort(), ["UF", "URX"]);
});

test("request: a body is sent again with the next try, a long one is tried once", () => {
  const engine = new TestEngine(simple({ retry: { ...RETRY, on: ["5xx"] } }));
  const answer = engine.request({ method: "PUT" }, "body");
  engine.answer(engine.seen[0], 503, "no");
  engine.advance(25);
  assert.equal(engine.seen[1].body, "body");
  engine.answer(engine.seen[1], 200, "yes");
  assert.deepEqual([answer.status, answer.body], [200, "yes"]);

  const long = new TestEngine(
    chain([route({ action: forwardTo("b", { retry: { ...RETRY, on: ["5xx"] } }) })], { maxBufferedBytes: 10 }),
  );
  const once = long.request({ method: "PUT", contentLength: -1 });
  for (let i = 0; i < 3; i++) {
    once.exchange?.data(new Uint8Array(8), 0, 8, i === 2);
    long.run();
  }
  long.answer(long.seen[0], 503, "no");
  assert.equal(once.status, 503);
  assert.equal(long.seen.length, 1);
});

test("request: retries stop at the cluster's limit and at the route's count", () => {
  const engine = new TestEngine(simple({ retry: { ...RETRY, on: ["5xx"] } }));
  engine.retriesLeft = 0;
  const answer = engine.request({});
  engine.answer(engine.seen[0], 500, "no");
  assert.equal(answer.status, 500);
  assert.deepEqual([...engine.finished[0].flags], ["UO"]);

  const counted = new TestEngine(simple({ retry: { ...RETRY, retries: 1, on: ["5xx"] } }));
  const last = counted.request({});
  counted.answer(counted.seen[0], 500, "one");
  counted.advance(25);
  counted.answer(counted.seen[1], 502, "two");
  assert.deepEqual([last.status, last.body], [502, "two"]);
  assert.deepEqual([...counted.finished[0].flags], ["URX"]);
});

test("request: timeouts of the route and of a try", () => {
  const engine = new TestEngine(simple({ timeoutMs: 1000 }));
  const answer = engine.request({});
  assert.ok(engine.seen[0].exchange.head.headers.join().includes("x-envoy-expected-rq-timeout-ms,1000"));
  engine.advance(1001);
  assert.deepEqual([answer.status, answer.body], [504, "upstream request timeout"]);
  assert.deepEqual([...engine.finished[0].flags], ["UT"]);
  assert.ok(engine.seen[0].cut !== undefined, "the endpoint is told");

  const tries = new TestEngine(simple({ timeoutMs: 10_000, retry: { ...RETRY, on: ["5xx"], perTryTimeoutMs: 500 } }));
  const second = tries.request({});
  tries.advance(501);
  tries.advance(25);
  tries.answer(tries.seen[1], 200, "late");
  assert.deepEqual([second.status, second.body], [200, "late"]);
});

test("request: a gRPC client's own timeout counts, as far as the route lets it", () => {
  const engine = new TestEngine(simple({ maxGrpcTimeoutMs: 300 }), { downstream: "2" });
  const answer = engine.request(
    { method: "POST", headers: ["content-type", "application/grpc", "grpc-timeout", "1S"] },
    "x",
  );
  engine.advance(301);
  assert.equal(answer.header("grpc-status"), "14");
});

test("request: an endpoint that resets before its answer is 503, after it the client is cut", () => {
  const engine = new TestEngine(simple());
  const answer = engine.request({});
  engine.seen[0].exchange.reset({ kind: "cancelled", refused: false, detail: "" });
  engine.run();
  assert.equal(answer.status, 503);
  assert.match(answer.body, /reset reason: connection termination/);
  assert.deepEqual([...engine.finished[0].flags], ["UC"]);

  const later = new TestEngine(simple());
  const half = later.request({});
  later.seen[0].exchange.respond({ status: 200, headers: [] }, false);
  later.seen[0].exchange.data(new TextEncoder().encode("half"), 0, 4, false);
  later.run();
  later.seen[0].exchange.reset({ kind: "cancelled", refused: false, detail: "" });
  later.run();
  assert.equal(half.body, "half");
  assert.equal(half.ended, false);
  assert.ok(half.cut !== undefined);
});

test("request: weights choose, and a cluster's own changes apply to it alone", () => {
  const weighted = forwardTo("a", {
    clusters: [
      { cluster: "a" as never, weight: 90, change: NO_CHANGE, hostRewrite: undefined },
      {
        cluster: "b" as never,
        weight: 10,
        change: {
          ...NO_CHANGE,
          requestAdd: [{ name: "x-to", value: [{ text: "b" }], action: "append", keepEmpty: false }],
        },
        hostRewrite: "b.host",
      },
      { cluster: "never" as never, weight: 0, change: NO_CHANGE, hostRewrite: undefined },
    ],
  });
  const engine = new TestEngine(chain([route({ action: weighted })]));
  engine.chances = [0.89, 0.5, 0.91];
  engine.request({});
  engine.answer(engine.seen[0], 200, "a");
  engine.chances = [0.91];
  engine.request({});
  assert.deepEqual(engine.seen.map(({ cluster }) => cluster), ["a", "b"]);
  assert.equal(engine.seen[1].exchange.head.authority, "b.host");
  assert.ok(engine.seen[1].exchange.head.headers.join().includes("x-to,b"));
});

test("request: rewrites of path and host, with what they were", () => {
  const engine = new TestEngine(chain([route({
    path: { kind: "separated", path: "/rewrite", ignoreCase: false },
    action: forwardTo("b", {
      regexRewrite: { pattern: "^/rewrite(/?)(.*)", substitution: "/\\2" },
      hostRewrite: "other.example",
    }),
  })]));
  engine.request({ path: "/rewrite/a/b?c" });
  const { head } = engine.seen[0].exchange;
  assert.deepEqual([head.path, head.authority], ["/a/b?c", "other.example"]);
  assert.ok(head.headers.join().includes("x-envoy-original-path,/rewrite/a/b?c"));
});

test("request: header changes of route, host and table, values by format", () => {
  const change = {
    requestRemove: ["x-gone", "host"],
    requestAdd: [
      {
        name: "x-from",
        value: [{ command: "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", argument: "", maxLength: undefined }],
        action: "overwrite",
        keepEmpty: false,
      },
      { name: "x-add", value: [{ text: "a%b" }], action: "append", keepEmpty: false },
      { name: ":path", value: [{ text: "/evil" }], action: "overwrite", keepEmpty: false },
    ],
    responseRemove: ["x-secret"],
    responseAdd: [{ name: "x-r", value: [{ text: "1" }], action: "append", keepEmpty: false }],
  } as const;
  const engine = new TestEngine(chain([route({ change, action: forwardTo("b") })]));
  const answer = engine.request({ headers: ["x-gone", "1", "x-from", "spoofed", "x-add", "0"] });
  const { head } = engine.seen[0].exchange;
  const sent = head.headers.join();
  assert.ok(!sent.includes("x-gone") && !sent.includes("spoofed"), sent);
  assert.ok(sent.includes("x-from,10.0.1.5") && sent.includes("x-add,0") && sent.includes("x-add,a%b"), sent);
  assert.equal(head.path, "/");
  engine.answer(engine.seen[0], 200, "ok", ["x-secret", "1"]);
  assert.equal(answer.header("x-secret"), undefined);
  assert.equal(answer.header("x-r"), "1");
});

test("request: a mirror gets a copy, and its answer is nobody's", () => {
  const engine = new TestEngine(
    simple({ mirrors: [{ cluster: "m" as never, fraction: 1_000_000, appendShadowSuffix: true, traced: false }] }),
  );
  const answer = engine.request({ method: "POST" }, "body");
  const copy = engine.seen.find(({ cluster }) => cluster === "m");
  assert.equal(copy?.body, "body");
  assert.equal(copy?.exchange.head.authority, "b.demo-shadow");
  engine.answer(copy as never, 500, "ignored");
  engine.answer(engine.seen.find(({ cluster }) => cluster === "b") as never, 200, "real");
  assert.deepEqual([answer.status, answer.body], [200, "real"]);
});

test("request: a client's own controls do not reach the endpoint, nor a path that leaves the root", () => {
  const engine = new TestEngine(simple());
  engine.request({
    headers: [
      "x-envoy-retry-on",
      "5xx",
      "x-envoy-internal",
      "true",
      "x-forwarded-client-cert",
      "URI=spiffe://evil",
      "x-forwarded-for",
      "1.2.3.4",
    ],
  });
  const sent = engine.seen[0].exchange.head.headers.join();
  assert.ok(!/x-envoy-retry-on|x-envoy-internal|x-forwarded-client-cert/.test(sent), sent);
  assert.ok(sent.includes("x-forwarded-for,1.2.3.4"));
  const other = new TestEngine(simple());
  assert.equal(other.request({ path: "/a/../../etc" }).status, 400);
  assert.equal(other.seen.length, 0);
});

test("request: a client that goes away takes its try with it", () => {
  const engine = new TestEngine(simple(), { downstream: "2", upstream: "2" });
  const answer = engine.request({});
  answer.exchange?.reset({ kind: "cancelled", refused: false, detail: "" });
  engine.run();
  assert.deepEqual([...engine.finished[0].flags], ["DC"]);
  assert.ok(engine.seen[0].cut !== undefined);
});

test("request: a filter may wait, answer, or read the body first", () => {
  let resume: (() => void) | undefined;
  const engine = new TestEngine(simple(), {
    filters: [
      { name: "waits", request: (_context, go) => (resume = go, "waiting") },
      {
        name: "reads",
        request(context, go) {
          context.bufferBody(100, false, (body) => {
            if (new TextDecoder().decode(body) === "bad") context.answer({ status: 403, body: "no", details: "read" });
            else go();
          });
          return "waiting";
        },
      },
    ],
  });
  const good = engine.request({ method: "POST" }, "good");
  assert.equal(engine.seen.length, 0);
  resume?.();
  engine.run();
  assert.equal(engine.seen[0].body, "good");
  engine.answer(engine.seen[0], 200, "ok");
  assert.equal(good.status, 200);
  const bad = engine.request({ method: "POST" }, "bad");
  resume?.();
  engine.run();
  assert.deepEqual([bad.status, bad.body], [403, "no"]);
});
