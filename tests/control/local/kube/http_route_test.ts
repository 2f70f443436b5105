import assert from "node:assert/strict";
import { test } from "node:test";
import type { HeaderModifier, RouteFilters, RouteRule } from "../../../../src/control/local/kube/objects.ts";
import { accept, withoutPaths } from "./support.ts";

function route(rule: string): string {
  return `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: r, namespace: shop }
spec:
  parentRefs: [{ group: "", kind: Service, name: web, port: 80 }]
  rules:
    - ${rule}
`;
}

function readRule(rule: string): RouteRule {
  return accept(route(rule)).objects.routes[0]!.rules[0]!;
}

const NO_FILTERS: RouteFilters = {
  requestHeaders: undefined,
  responseHeaders: undefined,
  redirect: undefined,
  rewrite: undefined,
  mirrors: [],
  cors: undefined,
};

test("kube HTTPRoute: parents, defaults and places", () => {
  const { objects } = accept(`apiVersion: gateway.networking.k8s.io/v1beta1
kind: HTTPRoute
metadata: { name: r, namespace: shop }
spec:
  parentRefs:
    - { group: core, kind: Service, name: web }
    - { group: "", kind: Service, name: api, namespace: shop, port: 8080 }
  rules:
    - backendRefs: [{ name: web, port: 80 }]
`);
  const at = ["documents", 0, "spec"];
  assert.deepEqual(objects.routes, [{
    kind: "HTTPRoute",
    name: "r",
    namespace: "shop",
    labels: {},
    annotations: {},
    path: ["documents", 0],
    parents: [
      { namespace: "shop", name: "web", port: undefined, path: [...at, "parentRefs", 0] },
      { namespace: "shop", name: "api", port: 8080, path: [...at, "parentRefs", 1] },
    ],
    rules: [{
      name: undefined,
      matches: [{
        path: { type: "PathPrefix", value: "/" },
        method: undefined,
        headers: [],
        queryParams: [],
        where: [...at, "rules", 0],
      }],
      filters: NO_FILTERS,
      backends: [{
        ref: { namespace: "shop", name: "web", port: 80, path: [...at, "rules", 0, "backendRefs", 0] },
        weight: 1,
        requestHeaders: undefined,
        responseHeaders: undefined,
      }],
      requestTimeoutMs: undefined,
      backendRequestTimeoutMs: undefined,
      retry: undefined,
      path: [...at, "rules", 0],
    }],
  }]);
});

test("kube HTTPRoute: matches", () => {
  const { matches, name } = readRule(`name: rule-1
      matches:
        - path: { type: Exact, value: /exact }
          method: GET
          headers: [{ name: X-Version, value: v2 }, { type: RegularExpression, name: user-agent, value: "curl/.*" }]
          queryParams: [{ name: q, value: "1" }, { type: RegularExpression, name: Q, value: "[a-z]+" }]
        - path: { type: RegularExpression, value: "/re/[0-9]+/.*" }
        - path: { value: /a/%20b/ }
        - path: {}
        - {}`);
  const nothing = { method: undefined, headers: [], queryParams: [] };
  assert.equal(name, "rule-1");
  assert.deepEqual(
    withoutPaths(matches.slice(0, 1)),
    withoutPaths([{
      method: "GET",
      headers: [
        { type: "Exact", name: "X-Version", value: "v2" },
        { type: "RegularExpression", name: "user-agent", value: "curl/.*" },
      ],
      queryParams: [
        { type: "Exact", name: "q", value: "1" },
        { type: "RegularExpression", name: "Q", value: "[a-z]+" },
      ],
      path: { type: "Exact", value: "/exact" },
    }]),
  );
  assert.deepEqual(matches.slice(1).map(({ where: _, ...match }) => match), [
    { ...nothing, path: { type: "RegularExpression", value: "/re/[0-9]+/.*" } },
    { ...nothing, path: { type: "PathPrefix", value: "/a/%20b/" } },
    { ...nothing, path: { type: "PathPrefix", value: "/" } },
    { ...nothing, path: { type: "PathPrefix", value: "/" } },
  ]);
});

test("kube HTTPRoute: weighted backends, in other namespaces too, with headers of their own", () => {
  const { backends } = readRule(`backendRefs:
        - { name: a, port: 80, weight: 0 }
        - { group: "", kind: Service, name: b, namespace: other, port: 8080, weight: 1000000 }
        - name: c
          port: 80
          filters:
            - { type: RequestHeaderModifier, requestHeaderModifier: { set: [{ name: x-canary, value: "yes" }] } }
            - { type: ResponseHeaderModifier, responseHeaderModifier: { remove: [server] } }`);
  assert.deepEqual(backends.map(({ ref, weight }) => [ref.namespace, ref.name, ref.port, weight]), [
    ["shop", "a", 80, 0],
    ["other", "b", 8080, 1_000_000],
    ["shop", "c", 80, 1],
  ]);
  const { requestHeaders, responseHeaders } = backends[2]!;
  const set: HeaderModifier = { set: [{ name: "x-canary", value: "yes" }], add: [], remove: [] };
  assert.deepEqual([requestHeaders, responseHeaders], [set, { set: [], add: [], remove: ["server"] }]);
});

test("kube HTTPRoute: headers, mirrors and CORS", () => {
  const { filters } = readRule(`filters:
        - type: RequestHeaderModifier
          requestHeaderModifier:
            set: [{ name: x-set, value: s }]
            add: [{ name: x-add, value: "a%b, \\"c\\"" }]
            remove: [x-remove]
        - { type: ResponseHeaderModifier, responseHeaderModifier: {} }
        - { type: RequestMirror, requestMirror: { backendRef: { name: a, port: 80 } } }
        - { type: RequestMirror, requestMirror: { backendRef: { name: b, namespace: o, port: 80 }, percent: 50 } }
        - type: RequestMirror
          requestMirror: { backendRef: { name: c, port: 80 }, fraction: { numerator: 1, denominator: 1000 } }
        - { type: RequestMirror, requestMirror: { backendRef: { name: d, port: 80 }, fraction: { numerator: 5 } } }
        - type: CORS
          cors:
            allowOrigins: ["https://example.com", "https://*.example.org", "http://*:8080"]
            allowMethods: [GET, POST]
            allowHeaders: [x-a, x-b]
            exposeHeaders: ["*"]
            allowCredentials: true
            maxAge: 600`);
  assert.deepEqual(filters.requestHeaders, {
    set: [{ name: "x-set", value: "s" }],
    add: [{ name: "x-add", value: 'a%b, "c"' }],
    remove: ["x-remove"],
  });
  assert.deepEqual(filters.responseHeaders, { set: [], add: [], remove: [] });
  assert.deepEqual(filters.mirrors.map(({ backend, percent }) => [backend.namespace, backend.name, percent]), [
    ["shop", "a", 100],
    ["o", "b", 50],
    ["shop", "c", 0.1],
    ["shop", "d", 5],
  ]);
  assert.deepEqual(filters.cors, {
    allowOrigins: ["https://example.com", "https://*.example.org", "http://*:8080"],
    allowMethods: ["GET", "POST"],
    allowHeaders: ["x-a", "x-b"],
    exposeHeaders: ["*"],
    allowCredentials: true,
    maxAgeSeconds: 600,
  });
});

test("kube HTTPRoute: CORS with its defaults", () => {
  const { filters } = readRule(`filters: [{ type: CORS, cors: { allowOrigins: ["*"] } }]`);
  assert.deepEqual(filters.cors, {
    allowOrigins: ["*"],
    allowMethods: [],
    allowHeaders: [],
    exposeHeaders: [],
    allowCredentials: false,
    maxAgeSeconds: 5,
  });
});

test("kube HTTPRoute: redirects", () => {
  const redirect = (content: string) =>
    readRule(`{ filters: [{ type: RequestRedirect, requestRedirect: ${content} }] }`).filters.redirect;
  const nothing = { scheme: undefined, hostname: undefined, port: undefined, statusCode: 302, path: undefined };
  assert.deepEqual(redirect("{}"), nothing);
  for (const code of [301, 302, 303, 307, 308]) {
    assert.deepEqual(redirect(`{ statusCode: ${code} }`), { ...nothing, statusCode: code });
  }
  assert.deepEqual(
    redirect(
      "{ scheme: https, hostname: www.example.com, port: 8443, path: { type: ReplaceFullPath, replaceFullPath: /x } }",
    ),
    {
      scheme: "https",
      hostname: "www.example.com",
      port: 8443,
      statusCode: 302,
      path: { type: "ReplaceFullPath", value: "/x" },
    },
  );
});

test("kube HTTPRoute: rewrites", () => {
  const rewrite = (content: string, matches = "[{ path: { value: /a } }]") =>
    readRule(`{ matches: ${matches}, filters: [{ type: URLRewrite, urlRewrite: ${content} }] }`).filters.rewrite;
  assert.deepEqual(rewrite("{ hostname: other.example.com }"), { hostname: "other.example.com", path: undefined });
  for (const value of ["/", "/new/", '""']) {
    assert.deepEqual(rewrite(`{ path: { type: ReplacePrefixMatch, replacePrefixMatch: ${value} } }`), {
      hostname: undefined,
      path: { type: "ReplacePrefixMatch", value: value.replaceAll('"', "") },
    });
  }
  const anything = rewrite("{ path: { type: ReplacePrefixMatch, replacePrefixMatch: /new } }", "[]");
  assert.deepEqual(anything?.path, { type: "ReplacePrefixMatch", value: "/new" });
});

test("kube HTTPRoute: timeouts and retries", () => {
  const { requestTimeoutMs, backendRequestTimeoutMs, retry } = readRule(
    `{ timeouts: { request: 1m30s, backendRequest: 1s500ms }, retry: { codes: [500, 503], attempts: 3, backoff: 100ms } }`,
  );
  assert.deepEqual([requestTimeoutMs, backendRequestTimeoutMs], [90_000, 1500]);
  assert.deepEqual(retry, { codes: [500, 503], attempts: 3, backoffMs: 100 });
  const off = readRule("{ timeouts: { request: 0s, backendRequest: 10s }, retry: {} }");
  assert.deepEqual([off.requestTimeoutMs, off.backendRequestTimeoutMs], [0, 10_000]);
  assert.deepEqual(off.retry, { codes: [], attempts: undefined, backoffMs: undefined });
});

test("kube HTTPRoute: a rule without backends is one", () => {
  assert.deepEqual(readRule("{}").backends, []);
  assert.deepEqual(readRule("{ matches: [], backendRefs: [] }").matches.length, 1);
});
