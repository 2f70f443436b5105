import assert from "node:assert/strict";
import { test } from "node:test";
import type { RouteRule } from "../../../../src/control/local/kube/objects.ts";
import { accept, expectRefused } from "./support.ts";

function route(rule: string): string {
  return `apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: { name: r, namespace: shop }
spec:
  parentRefs: [{ group: "", kind: Service, name: echo, port: 7070 }]
  rules:
    - ${rule}
`;
}

function readRule(rule: string): RouteRule {
  return accept(route(rule)).objects.routes[0]!.rules[0]!;
}

/** As istiod writes them; alternatives of an expression stay on their side of the slash. */
const METHODS: readonly (readonly [method: string, type: string, value: string])[] = [
  ["{ service: echo.Echo, method: Say }", "Exact", "/echo.Echo/Say"],
  ["{ type: Exact, service: echo.Echo }", "PathPrefix", "/echo.Echo/"],
  ["{ method: Say }", "RegularExpression", "/[^/]+/Say"],
  [`{ type: RegularExpression, service: "foo\\\\..*", method: "Get.*" }`, "RegularExpression", "/foo\\..*/Get.*"],
  [`{ type: RegularExpression, service: "foo.*" }`, "RegularExpression", "/foo.*/.+"],
  [`{ type: RegularExpression, method: "Get.*" }`, "RegularExpression", "/[^/]+/Get.*"],
  [`{ type: RegularExpression, service: "a|b", method: "c|d" }`, "RegularExpression", "/(?:a|b)/(?:c|d)"],
];

for (const [method, type, value] of METHODS) {
  test(`kube GRPCRoute: the method ${method} is a path`, () => {
    const { matches } = readRule(`matches: [{ method: ${method} }]`);
    assert.deepEqual(matches[0]!.path, { type, value });
  });
}

test("kube GRPCRoute: headers, filters and backends", () => {
  const { name, matches, filters, backends } = readRule(`name: say
      matches: [{ headers: [{ name: x-env, value: test }] }]
      filters:
        - { type: RequestHeaderModifier, requestHeaderModifier: { add: [{ name: x-grpc, value: "1" }] } }
        - { type: ResponseHeaderModifier, responseHeaderModifier: { remove: [x] } }
        - { type: RequestMirror, requestMirror: { backendRef: { name: c, port: 9000 } } }
      backendRefs: [{ name: echo, port: 7070, weight: 3 }, { name: c, port: 9000 }]`);
  assert.equal(name, "say");
  assert.deepEqual(matches[0]!.path, { type: "PathPrefix", value: "/" });
  assert.deepEqual(matches[0]!.headers, [{ type: "Exact", name: "x-env", value: "test" }]);
  assert.deepEqual(filters.requestHeaders?.add, [{ name: "x-grpc", value: "1" }]);
  assert.deepEqual(filters.responseHeaders?.remove, ["x"]);
  assert.equal(filters.mirrors[0]!.backend.name, "c");
  assert.deepEqual(backends.map(({ ref, weight }) => [ref.name, ref.port, weight]), [["echo", 7070, 3], [
    "c",
    9000,
    1,
  ]]);
});

test("kube GRPCRoute: a rule without matches matches every call", () => {
  assert.deepEqual(readRule("{}").matches.map(({ path, method }) => [path, method]), [
    [{ type: "PathPrefix", value: "/" }, undefined],
  ]);
});

/** In flow style on line 7, which begins in column 7. */
const REFUSED: readonly (readonly [name: string, rule: string, ...problems: string[]])[] = [
  [
    "what an HTTPRoute has",
    "{ timeouts: {}, matches: [{ path: {}, queryParams: [] }] }",
    `7:9: unknown key "timeouts"; known are name, matches, filters, backendRefs`,
    `7:35: unknown key "path"; known are method, headers`,
    `7:45: unknown key "queryParams"; known are method, headers`,
  ],
  [
    "a filter that an HTTPRoute has",
    "{ filters: [{ type: URLRewrite, urlRewrite: {} }] }",
    "7:21: GRPCRoute filters of the type URLRewrite are not supported by ambit local; supported are " +
    "RequestHeaderModifier, ResponseHeaderModifier, RequestMirror",
  ],
  ["a method of nothing", "{ matches: [{ method: {} }] }", "7:21: a method match needs service or method or both"],
  [
    "names that are none",
    "{ matches: [{ method: { service: a/b, method: '*' } }] }",
    `7:31: "a/b" is no name of a gRPC service`,
    `7:45: "*" is no name of a gRPC method`,
  ],
  [
    "an expression that is none",
    "{ matches: [{ method: { type: RegularExpression, service: '(' } }] }",
    `7:56: "(" is no regular expression of RE2, which has no look-around and no back-references: ` +
    "error parsing regexp: missing closing ): `(`",
  ],
  [
    "an expression that swallows what follows",
    "{ matches: [{ method: { type: RegularExpression, service: '\\Qa|b' } }] }",
    `7:21: "/(?:\\\\Qa|b)/.+" is no regular expression of RE2, which has no look-around and no back-references: ` +
    "error parsing regexp: missing closing ): `/(?:\\Qa|b)/.+`",
  ],
];

for (const [name, rule, ...problems] of REFUSED) {
  test(`kube GRPCRoute: refuses ${name}`, () => expectRefused([name, route(rule), ...problems]));
}
