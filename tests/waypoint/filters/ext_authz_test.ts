import type { MessageInitShape } from "@bufbuild/protobuf";
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import type { CheckResponseSchema } from "../../../src/gen/envoy/service/auth/v3/external_auth_pb.ts";
import type { HttpFilter } from "../../../src/waypoint/engine/request_context.ts";
import { createExtAuthzFilter } from "../../../src/waypoint/filters/ext_authz.ts";
import { createRbacFilter } from "../../../src/waypoint/filters/rbac.ts";
import type { ExtAuthzSpec, RbacSpec } from "../../../src/waypoint/spec/mod.ts";
import { chain, forwardTo, route, type Seen } from "../support/test_engine.ts";
import {
  answerWith,
  arrived,
  asked,
  authorized,
  checks,
  GRPC,
  lateDeps,
  overHttp,
  reply,
  replyBytes,
} from "./ext_authz_support.ts";

type Reply = MessageInitShape<typeof CheckResponseSchema>;
const ALLOW: Reply = { status: { code: 0 } };
const DENY: Reply = { status: { code: 7 } };
const header = (key: string, value: string, more: object = {}) => ({ header: { key, value }, ...more });

/** One request through a service that answers so. */
function ask(
  spec: ExtAuthzSpec,
  service: (seen: Seen) => void,
  head: Parameters<ReturnType<typeof authorized>["engine"]["request"]>[0] = {},
  body?: string,
) {
  const { engine, events } = authorized(spec, { service });
  const answer = engine.request(head, body);
  const [check] = checks(engine);
  const endpoint = arrived(engine);
  const [context] = engine.finished;
  return { engine, events, answer, check, endpoint, context };
}

const denied = (status: number, more: object = {}): Reply => ({
  status: { code: 7 },
  httpResponse: { case: "deniedResponse", value: { status: { code: status }, ...more } },
});

test("ext_authz: the service is told who calls what, and 200 goes on", () => {
  const { check, answer, endpoint, events } = ask(GRPC, (seen) => reply(seen, ALLOW), {
    method: "PUT",
    path: "/a?b=c",
    headers: ["x-one", "1", "x-one", "2", "x-envoy-auth-partial-body", "false"],
  });
  const { head } = check.exchange;
  assert.deepEqual([head.method, head.path, head.authority], [
    "POST",
    "/envoy.service.auth.v3.Authorization/Check",
    "authz.demo",
  ]);
  assert.ok(head.headers.join().includes("grpc-timeout,1000m"));
  const { source, destination, request } = asked(check).attributes ?? {};
  assert.equal(source?.principal, "spiffe://cluster.local/ns/a/sa/client");
  assert.equal(source?.address?.address.case === "socketAddress" && source.address.address.value.address, "10.0.1.5");
  assert.equal(destination?.principal, "spiffe://cluster.local/ns/demo/sa/waypoint");
  const http = request?.http;
  assert.deepEqual([http?.method, http?.path, http?.host, http?.protocol, http?.size], [
    "PUT",
    "/a?b=c",
    "b.demo",
    "HTTP/1.1",
    0n,
  ]);
  assert.equal(http?.headers["x-one"], "1,2");
  assert.equal(http?.headers[":path"], "/a?b=c");
  assert.equal(http?.headers["x-envoy-auth-partial-body"], undefined);
  assert.equal(answer.status, 200);
  assert.equal(endpoint?.exchange.head.path, "/a?b=c");
  assert.deepEqual(events, ["ok"]);
});

test("ext_authz: a list of headers is all that the service is told", () => {
  const service = { ...GRPC.service, allowedHeaders: [{ kind: "prefix", text: "x-a", ignoreCase: true }] } as const;
  const { check } = ask({ ...GRPC, service } as ExtAuthzSpec, (seen) => reply(seen, ALLOW), {
    headers: ["x-a", "1", "cookie", "secret"],
  });
  assert.deepEqual(asked(check).attributes?.request?.http?.headers, { "x-a": "1" });
});

test("ext_authz: refusals become the client's answer", () => {
  const cases: readonly [string, Reply, number, string, string | undefined][] = [
    ["without words", DENY, 403, "", undefined],
    ["with a status and a body", denied(401, { body: "né", headers: [header("x-why", "no")] }), 401, "n\xc3\xa9", "no"],
    ["a redirect", denied(302, { headers: [header("X-Why", "a"), header("x-why", "b")] }), 302, "", "b"],
    ["a status that ends nothing", denied(100), 403, "", undefined],
    ["a status that is none", denied(999), 403, "", undefined],
    ["a refusal that forgot its status", { ...denied(401), status: undefined }, 401, "", undefined],
    ["a body that this status cannot have", denied(204, { body: "x" }), 204, "", undefined],
    [
      "framing",
      denied(403, { body: "abc", headers: [header("content-length", "1"), header("transfer-encoding", "chunked")] }),
      403,
      "abc",
      undefined,
    ],
  ];
  for (const [name, message, status, body, why] of cases) {
    const { answer, endpoint, context, events } = ask(GRPC, (seen) => reply(seen, message));
    assert.deepEqual([answer.status, answer.body, answer.header("x-why")], [status, body, why], name);
    assert.ok(answer.ended && answer.cut === undefined, name);
    assert.equal(endpoint, undefined, name);
    assert.equal(context.details, "ext_authz_denied", name);
    assert.ok(context.flags.has("UAEX"), name);
    assert.deepEqual(events, ["denied"], name);
  }
});

test("ext_authz: a gRPC client is refused in trailers alone", () => {
  const { engine } = authorized(GRPC, {
    downstream: "2",
    service: (seen) => reply(seen, denied(401, { body: "log in" })),
  });
  const answer = engine.request({ method: "POST", version: "2", headers: ["content-type", "application/grpc"] });
  assert.deepEqual([answer.status, answer.header("grpc-status"), answer.header("grpc-message")], [200, "16", "log in"]);
});

test("ext_authz: whoever did not decide has not allowed", () => {
  const frame = (bytes: number[]) => (seen: Seen) => {
    seen.exchange.respond({ status: 200, headers: ["content-type", "application/grpc"] }, false);
    seen.exchange.data(new Uint8Array(bytes), 0, bytes.length, false);
    seen.exchange.trailers(["grpc-status", "0"]);
  };
  const failures: readonly [string, (seen: Seen) => void][] = [
    ["a status of gRPC", (seen) => replyBytes(seen, new Uint8Array(), ["grpc-status", "14"])],
    ["no status of gRPC", (seen) => replyBytes(seen, new Uint8Array(), ["x", "y"])],
    ["trailers alone", (seen) => seen.exchange.respond({ status: 200, headers: ["grpc-status", "0"] }, true)],
    [
      "another protocol",
      (seen) => seen.exchange.respond({ status: 200, headers: ["content-type", "text/html"] }, true),
    ],
    ["HTTP's error", (seen) => seen.exchange.respond({ status: 503, headers: [] }, true)],
    ["no message", frame([])],
    ["half a prefix", frame([0, 0, 0])],
    ["a compressed message", frame([1, 0, 0, 0, 0])],
    ["two messages", frame([0, 0, 0, 0, 0, 0, 0, 0, 0, 0])],
    ["a message that is cut off", frame([0, 0, 0, 0, 9, 1])],
    ["no message of protobuf", (seen) => replyBytes(seen, new Uint8Array([0xff]))],
    ["a reset", (seen) => seen.exchange.reset({ kind: "cancelled", refused: false, detail: "" })],
    ["more than anybody answers", (seen) => replyBytes(seen, new Uint8Array(2 << 20))],
  ];
  for (const [name, service] of failures) {
    const { answer, endpoint, context, events } = ask({ ...GRPC, statusOnError: 503 }, service);
    assert.equal(answer.status, 503, name);
    assert.equal(endpoint, undefined, name);
    assert.equal(context.details, "ext_authz_error", name);
    assert.ok(context.flags.has("UAEX"), name);
    assert.deepEqual(events, ["error"], name);
    const open = ask({ ...GRPC, failureAllows: true }, service);
    assert.equal(open.answer.status, 200, name);
    assert.deepEqual(open.events, ["error", "failure_mode_allowed"], name);
  }
});

test("ext_authz: a service that is silent, unknown or out of reach", () => {
  const silent = ask(GRPC, () => {});
  silent.engine.advance(999);
  assert.equal(silent.answer.status, undefined);
  silent.engine.advance(2);
  assert.equal(silent.answer.status, 403);
  assert.ok(silent.check.cut !== undefined, "the check is given up");
  const unknown = { ...GRPC, service: { ...GRPC.service, cluster: "missing" as never } };
  assert.equal(ask(unknown, () => {}).context.details, "ext_authz_error");
  const { engine } = authorized(GRPC, { service: (seen) => reply(seen, ALLOW) });
  const failure = { flag: "UF", reason: "remote connection failure", detail: "refused", safeToRetry: true } as const;
  engine.failures.push(failure, failure);
  assert.equal(engine.request({}).status, 403);
  engine.failures.push(failure);
  assert.equal(engine.request({}).status, 200, "one endpoint that is gone is not the service");
});

test("ext_authz: a client that leaves takes its check along", () => {
  const { engine } = authorized(GRPC, { downstream: "2", service: () => {} });
  const answer = engine.request({ version: "2" });
  answer.exchange?.reset({ kind: "cancelled", refused: false, detail: "" });
  engine.run();
  assert.ok(checks(engine)[0].cut !== undefined);
  engine.advance(5000);
  assert.equal(arrived(engine), undefined);
});

test("ext_authz: what the service says of headers and the query is done", () => {
  const { endpoint, answer, context } = ask(
    GRPC,
    (seen) =>
      reply(seen, {
        status: { code: 0 },
        httpResponse: {
          case: "okResponse",
          value: {
            headers: [
              header("X-User", "alice"),
              header("x-list", "2", { append: true }),
              header("x-kept", "new", { appendAction: 1 }),
              header("x-absent", "new", { appendAction: 3 }),
              header("content-length", "99"),
            ],
            headersToRemove: ["Authorization", ":path", "host", "content-length"],
            responseHeadersToAdd: [header("x-seen", "1"), header("x-endpoint", "over", { appendAction: 2 })],
            queryParametersToSet: [{ key: "a", value: "1 2&3" }, { key: "n=", value: "#" }],
            queryParametersToRemove: ["z"],
          },
        },
        dynamicMetadata: { who: { name: "alice" } },
      }),
    {
      method: "POST",
      path: "/p?a=0&z=1&keep=%20&z",
      headers: ["authorization", "x", "x-user", "root", "x-list", "1", "x-kept", "old"],
    },
    "body",
  );
  const { head } = endpoint?.exchange ?? assert.fail("nothing arrived");
  const value = (name: string) => head.headers.filter((_, i) => i % 2 === 1 && head.headers[i - 1] === name);
  assert.equal(head.path, "/p?keep=%20&a=1%202%263&n%3D=%23");
  assert.deepEqual(
    [value("x-user"), value("x-list"), value("x-kept"), value("x-absent"), value("authorization")],
    [["alice"], ["1", "2"], ["old"], [], []],
  );
  assert.deepEqual([value("content-length"), endpoint?.body], [["4"], "body"]);
  assert.deepEqual([answer.header("x-seen"), answer.header("x-endpoint")], ["1", "over"]);
  assert.equal(JSON.stringify(context.metadata.get("envoy.filters.http.ext_authz")), '{"who":{"name":"alice"}}');
});

test("ext_authz: an answer that would break a message is no permission", () => {
  const bad: readonly object[] = [
    { headers: [header("x", "a\r\nx-admin: 1")] },
    { headers: [header("x y", "1")] },
    { headers: [header("", "1")] },
    { headers: [header(":path", "/admin")] },
    { headers: [header("Host", "evil")] },
    { headers: [header("x", "a".repeat(70_000))] },
    { headers: Array.from({ length: 300 }, (_, i) => header(`x-${i}`, "1")) },
    { responseHeadersToAdd: [header("x", "\n")] },
    { queryParametersToRemove: Array.from({ length: 300 }, String) },
  ];
  for (const value of bad) {
    const message = { status: { code: 0 }, httpResponse: { case: "okResponse", value } } as Reply;
    const { answer, endpoint, context, events } = ask({ ...GRPC, failureAllows: true }, (seen) => reply(seen, message));
    const name = JSON.stringify(value).slice(0, 80);
    assert.deepEqual([answer.status, endpoint, context.details], [500, undefined, "ext_authz_invalid"], name);
    assert.deepEqual(events, ["invalid"], name);
  }
});

test("ext_authz: its headers choose the route only where it may", () => {
  const byUser = route({
    action: forwardTo("alices"),
    headers: [{
      name: "x-user",
      value: { kind: "exact", text: "alice", ignoreCase: false },
      invert: false,
      missingIsEmpty: false,
    }],
  });
  const service = (seen: Seen) =>
    reply(seen, {
      status: { code: 0 },
      httpResponse: { case: "okResponse", value: { headers: [header("x-user", "alice")] } },
    });
  const spec = chain([byUser, route({ action: forwardTo("b") })]);
  for (const [clearRouteCache, cluster] of [[true, "alices"], [false, "b"]] as const) {
    const { engine } = authorized({ ...GRPC, clearRouteCache }, { chain: spec, service });
    assert.equal(engine.request({}).header("x-endpoint"), cluster);
  }
});

const shadow = (policy: string, prefix = "/ext"): RbacSpec => ({
  rules: undefined,
  shadow: {
    action: "deny",
    policies: [{
      name: policy,
      principals: { kind: "any" },
      permissions: {
        kind: "path",
        match: { kind: "text", match: { kind: "prefix", text: prefix, ignoreCase: false } },
      },
    }],
  },
  shadowPrefix: "istio_ext_authz_",
});
const NO_COUNTERS = { allowed() {}, denied() {}, shadowAllowed() {}, shadowDenied() {} };

test("ext_authz: only what the provider's policy picks out is asked about", () => {
  const spec: ExtAuthzSpec = {
    ...GRPC,
    onlyIfPolicy: { metadataKey: "istio_ext_authz_shadow_effective_policy_id", prefix: "istio-ext-authz-p1" },
  };
  const cases: readonly [readonly HttpFilter[], string, number][] = [
    [[createRbacFilter(shadow("istio-ext-authz-p1-ns[a]-policy[b]-rule[0]"), NO_COUNTERS)], "/ext/1", 403],
    [[createRbacFilter(shadow("istio-ext-authz-p1-ns[a]-policy[b]-rule[0]"), NO_COUNTERS)], "/other", 200],
    [[createRbacFilter(shadow("istio-ext-authz-p2-ns[a]-policy[b]-rule[0]"), NO_COUNTERS)], "/ext/1", 200],
    [[], "/ext/1", 200],
  ];
  for (const [before, path, status] of cases) {
    const { engine } = authorized(spec, { before, service: (seen) => reply(seen, DENY) });
    assert.equal(engine.request({ path }).status, status, path);
    assert.equal(checks(engine).length, status === 403 ? 1 : 0);
  }
});

const buffered = (maxBytes: number, allowPartial: boolean, asBytes = false): ExtAuthzSpec => ({
  ...GRPC,
  body: { maxBytes, allowPartial, asBytes },
});

test("ext_authz: bodies are shown as far as the provider asked for, and go on whole", () => {
  const cases: readonly [ExtAuthzSpec, string, number, string | undefined, string | undefined, bigint | undefined][] = [
    [buffered(10, false), "0123456789", 200, "0123456789", "false", 10n],
    [buffered(10, true), "0123456789", 200, "0123456789", "false", 10n],
    [buffered(4, true), "0123456789", 200, "0123", "true", 10n],
    [buffered(4, false), "0123456789", 413, undefined, undefined, undefined],
    [GRPC, "0123456789", 200, "", undefined, 10n],
  ];
  for (const [spec, body, status, shown, partial, size] of cases) {
    const { engine } = authorized(spec, { service: (seen) => reply(seen, ALLOW) });
    const answer = engine.request({ method: "POST" }, body);
    const [check] = checks(engine);
    const http = check && asked(check).attributes?.request?.http;
    assert.deepEqual([http?.body, http?.headers["x-envoy-auth-partial-body"], http?.size], [shown, partial, size]);
    assert.equal(answer.status, status);
    assert.equal(arrived(engine)?.body, status === 200 ? body : undefined);
  }
});

test("ext_authz: a raw body, one of unknown length, one that comes slowly", () => {
  const raw = authorized(buffered(100, false, true), { service: () => {} });
  raw.engine.request({ method: "POST" }, "\xff\x00");
  const http = asked(checks(raw.engine)[0]).attributes?.request?.http;
  assert.deepEqual([http?.body, [...http?.rawBody ?? []]], ["", [255, 0]]);

  const slow = authorized(buffered(6, false), { service: (seen) => reply(seen, ALLOW) });
  const answer = slow.engine.request({ method: "POST", contentLength: -1 });
  const send = (text: string, ended: boolean) => {
    answer.exchange?.data(Buffer.from(text), 0, text.length, ended);
    slow.engine.run();
  };
  send("abc", false);
  send("def", false);
  assert.equal(checks(slow.engine).length, 0, "it may be longer");
  send("", true);
  assert.equal(answer.status, 200);
  assert.equal(arrived(slow.engine)?.body, "abcdef");

  const long = authorized(buffered(6, false), { service: (seen) => reply(seen, ALLOW) });
  const refused = long.engine.request({ method: "POST", contentLength: -1 });
  refused.exchange?.data(Buffer.from("abcdefg"), 0, 7, false);
  long.engine.run();
  assert.deepEqual([refused.status, checks(long.engine).length], [413, 0]);
  assert.equal(long.engine.finished[0].details, "request_payload_too_large");
});

test("ext_authz: a client that waits to go on is told to, before its body is judged", () => {
  const { engine } = authorized(buffered(10, false), { service: (seen) => reply(seen, ALLOW) });
  const answer = engine.request({ method: "POST", contentLength: -1, headers: ["expect", "100-continue"] });
  assert.deepEqual(answer.interim, [100]);
  answer.exchange?.data(Buffer.from("abc"), 0, 3, true);
  engine.run();
  assert.equal(answer.status, 200);
  assert.ok(!arrived(engine)?.exchange.head.headers.includes("expect"));
});

test("ext_authz: a WebSocket is asked about without waiting for bytes", () => {
  const { engine } = authorized(buffered(10, false), { service: (seen) => reply(seen, DENY) });
  const answer = engine.request({ upgrade: "websocket", headers: [], contentLength: -1 });
  assert.equal(answer.status, 403);
});

// ---- over HTTP

test("ext_authz: over HTTP the service gets the request's head, as far as it may be told", () => {
  const { check, answer, endpoint } = ask(overHttp(), (seen) => answerWith(seen, 200, []), {
    method: "DELETE",
    path: "/a?b=c",
    headers: ["x-token", "t", "authorization", "Bearer y", "cookie", "c", "x-added", "spoofed"],
  });
  const { head } = check.exchange;
  assert.deepEqual([head.method, head.path, head.authority], ["DELETE", "/check/a?b=c", "b.demo"]);
  assert.deepEqual(head.headers, [
    "x-token",
    "t",
    "authorization",
    "Bearer y",
    "x-added",
    "100%",
    "content-length",
    "0",
  ]);
  assert.deepEqual([answer.status, endpoint?.exchange.head.path], [200, "/a?b=c"]);
});

test("ext_authz: over HTTP, 200 allows with the headers that may pass", () => {
  const { answer, endpoint } = ask(
    overHttp(),
    (seen) =>
      answerWith(seen, 200, [
        "x-user",
        "alice",
        "x-group",
        "g2",
        "x-seen",
        "yes",
        "x-why",
        "no",
        "x-envoy-auth-headers-to-remove",
        "authorization, X-Old",
      ], "ignored"),
    { headers: ["x-user", "root", "x-group", "g1", "authorization", "a", "x-old", "o"] },
  );
  const sent = endpoint?.exchange.head.headers.join() ?? "";
  assert.ok(sent.includes("x-user,alice") && sent.includes("x-group,g1") && sent.includes("x-group,g2"), sent);
  assert.ok(!/root|authorization|x-old|x-seen|x-why|auth-headers/.test(sent), sent);
  assert.deepEqual([answer.status, answer.header("x-seen"), answer.header("x-why")], [200, "yes", undefined]);
});

test("ext_authz: over HTTP, any other status is the client's answer, and 5xx is none", () => {
  const service = (status: number, headers: string[] = [], body = "") => (seen: Seen) =>
    answerWith(seen, status, headers, body);
  const no = ask(overHttp(), service(401, ["x-why", "no", "x-secret", "s", "www-authenticate", "Basic"], "né"));
  assert.deepEqual(
    [no.answer.status, no.answer.body, no.answer.header("x-why"), no.answer.header("x-secret")],
    [401, "n\xc3\xa9", "no", undefined],
  );
  assert.equal(no.answer.header("www-authenticate"), "Basic");
  assert.equal(no.context.details, "ext_authz_denied");
  const all = ask(
    overHttp({ toClient: [] }),
    service(302, ["location", "/login", "set-cookie", "a", "set-cookie", "b"]),
  );
  assert.deepEqual([all.answer.status, all.answer.header("location")], [302, "/login"]);
  assert.equal(all.answer.head_?.headers.filter((part) => part === "set-cookie").length, 2);
  for (const status of [500, 503]) {
    assert.equal(ask(overHttp({}, { statusOnError: 418 }), service(status)).answer.status, 418);
    assert.equal(ask(overHttp({}, { failureAllows: true }), service(status)).answer.status, 200);
  }
  assert.equal(ask(overHttp(), service(201)).endpoint, undefined, "200 alone allows");
});

test("ext_authz: over HTTP the body goes along", () => {
  const { engine } = authorized(overHttp({}, { body: { maxBytes: 4, allowPartial: true, asBytes: false } }), {
    service: (seen) => answerWith(seen, 200, []),
  });
  const answer = engine.request({ method: "POST" }, "abcdef");
  const [check] = checks(engine);
  assert.equal(check.body, "abcd");
  assert.ok(check.exchange.head.headers.join().includes("x-envoy-auth-partial-body,true"));
  assert.deepEqual([answer.status, arrived(engine)?.body], [200, "abcdef"]);
});

test("ext_authz: a header of the check by format string refuses the chain", () => {
  const spec = overHttp({ addToCheck: [{ name: "x", value: "%REQ(x)%" }] });
  assert.throws(() => createExtAuthzFilter(spec, lateDeps().deps), /format string/);
});
