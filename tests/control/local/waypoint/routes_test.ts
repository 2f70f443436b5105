/** Routes of a mesh file, compared with what a real istiod made of the same objects, and what they refer to. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import type { HttpChainSpec, RouteSpec } from "../../../../src/waypoint/spec/mod.ts";
import { replay } from "../../../waypoint/config/fixtures.ts";
import { problemsOf, takeIn } from "./support.ts";

const OBJECTS = readFileSync(new URL("routes.yaml", import.meta.url), "utf8");
const REGEX = "/re/[0-9]+/.*";

/** What a span is called, and the object it comes from, are not compared: istiod names objects of its own making. */
function routesOf(chain: HttpChainSpec): Omit<RouteSpec, "operation" | "source">[] {
  assert.equal(chain.routes.hosts.length, 1);
  return chain.routes.hosts[0]!.routes.map(({ operation: _, source: __, ...route }) => route);
}

function fixture(name: string): HttpChainSpec {
  const chain = replay("routes").chain(name);
  return chain.kind === "http" ? chain : assert.fail(name);
}

test("local routes: an HTTPRoute with everything is what istiod makes of it", () => {
  const name = "inbound-vip|80|http|b.demo.svc.cluster.local";
  const { rejections, http, compiled } = takeIn(OBJECTS);
  assert.deepEqual(rejections, []);
  assert.deepEqual(compiled.problems, []);
  const made = routesOf(http(name));
  const expected = routesOf(fixture(name)).filter(({ name }) => name !== "demo.b.10").map((route) =>
    route.name === "demo.b.11" ? { ...route, name: "demo.b.10" } : route
  );
  // istiod leaves out what comes after a route that takes everything.
  const last = made.pop();
  assert.ok(JSON.stringify(last).includes(JSON.stringify(REGEX)));
  assert.equal(made.length, expected.length);
  for (const [index, route] of made.entries()) assert.deepEqual(route, expected[index], route.name);
  const [{ source }] = http(name).routes.hosts[0]!.routes as [RouteSpec];
  assert.equal(source, "/apis/gateway.networking.k8s.io/v1/namespaces/demo/http-route/b");
});

test("local routes: a GRPCRoute is what istiod makes of it", () => {
  const name = "inbound-vip|7070|http|grpc.demo.svc.cluster.local";
  assert.deepEqual(routesOf(takeIn(OBJECTS).http(name)), routesOf(fixture(name)));
});

test("local routes: services that routes lead to and that do not pass the waypoint have clusters of their own", () => {
  const taken = takeIn(OBJECTS);
  const plain = taken.endpoints("outbound|80||c.demo.svc.cluster.local");
  assert.ok(JSON.stringify(plain).includes("10.1.0.3"));
  const tunnelled = taken.cluster("outbound|80||a.demo.svc.cluster.local");
  assert.equal(tunnelled.discovery.kind, "eds");
  for (const key of ["limits", "balancing"] as const) {
    assert.deepEqual(tunnelled[key], replay("routes").cluster("outbound|80||a.demo.svc.cluster.local")[key]);
  }
});

const route = (rules: string, parent = "{ group: '', kind: Service, name: b, port: 80 }") => `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: r, namespace: demo }
spec:
  parentRefs: [${parent}]
  rules: [${rules}]
`;

test("local routes: routes of several objects are sorted together, equal ones as they stand in the file", () => {
  const text = ["{ matches: [{ path: { value: /a } }], name: one, backendRefs: [{ name: b, port: 80 }] }"]
    .concat("{ matches: [{ path: { value: /a }, method: GET }], name: two, backendRefs: [{ name: b, port: 80 }] }")
    .concat("{ matches: [{ path: { value: /a } }], name: three, backendRefs: [{ name: b, port: 80 }] }")
    .concat("{ matches: [{ path: { type: Exact, value: /a } }], name: four, backendRefs: [{ name: b, port: 80 }] }")
    .map((rule, i) => route(rule).replace("name: r,", `name: r${i},`)).join("---");
  const { http, chain } = takeIn(text);
  const names = (port: number) =>
    routesOf(http(`inbound-vip|${port}|http|b.demo.svc.cluster.local`)).map(({ name }) => name);
  assert.deepEqual(names(80), ["four", "two", "one", "three"]);
  assert.deepEqual(names(9000), ["default"], "a route for one port says nothing about another");
  assert.equal(chain("inbound-vip|80|tcp|b.demo.svc.cluster.local").kind, "tcp");
});

test("local routes: a gRPC match without a method takes what no other one does", () => {
  const rule = (name: string, matches: string) =>
    `{ name: ${name}, matches: [${matches}], backendRefs: [{ name: grpc, port: 7070 }] }`;
  const text = `apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: { name: g, namespace: demo }
spec:
  parentRefs: [{ group: "", kind: Service, name: grpc }]
  rules:
  - ${rule("rest", "{ headers: [{ name: x-a, value: b }] }")}
  - ${rule("regex", "{ method: { type: RegularExpression, service: 'a.*' } }")}
`;
  const made = routesOf(takeIn(text).http("inbound-vip|7070|http|grpc.demo.svc.cluster.local"));
  assert.deepEqual(made.map(({ name }) => name), ["regex", "rest"]);
});

test("local routes: without a backend that gets anything the answer is 500", () => {
  for (const rule of ["{ backendRefs: [] }", "{ backendRefs: [{ name: b, port: 80, weight: 0 }] }"]) {
    const [made] = routesOf(takeIn(route(rule)).http("inbound-vip|80|http|b.demo.svc.cluster.local"));
    assert.deepEqual([made!.action.kind, made!.action.kind === "direct" && made!.action.status], ["direct", 500]);
  }
});

test("local routes: a prefix is replaced without leaving two slashes or none", () => {
  const cases = [["/old", "/", "^/old(/?)(.*)"], ["/old/", "/new/", "/new"], ["/", "/new", "/new/"]] as const;
  for (const [path, replacement, expected] of cases) {
    const filter =
      `{ type: URLRewrite, urlRewrite: { path: { type: ReplacePrefixMatch, replacePrefixMatch: ${replacement} } } }`;
    const rule =
      `{ matches: [{ path: { value: ${path} } }], filters: [${filter}], backendRefs: [{ name: b, port: 80 }] }`;
    const [made] = routesOf(takeIn(route(rule)).http("inbound-vip|80|http|b.demo.svc.cluster.local"));
    assert.ok(JSON.stringify(made).includes(JSON.stringify(expected)), `${path}: ${JSON.stringify(made)}`);
  }
});

test("local routes: what is not there is told at its place", () => {
  assert.deepEqual(problemsOf(route("{ backendRefs: [{ name: nobody, port: 80 }, { name: c, port: 81 }] }")), [
    "spec.rules.0.backendRefs.0: there is no service nobody in the namespace demo",
    "spec.rules.0.backendRefs.1: the service demo/c has no port 81; its ports: 80, 9000",
  ]);
  const rule = "{ backendRefs: [{ name: b, port: 80 }] }";
  assert.deepEqual(problemsOf(route(rule, "{ group: '', kind: Service, name: b, port: 81 }")), [
    "spec.parentRefs.0: the service demo/b has no port 81; its ports: 80, 9000",
  ]);
  const [problem] = problemsOf(route(rule, "{ group: '', kind: Service, name: a }"));
  assert.match(problem!, /^spec\.parentRefs\.0: the service demo\/a passes no waypoint.*istio\.io\/use-waypoint/);
});
