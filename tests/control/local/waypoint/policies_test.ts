/** Policies of a mesh file, compared with what a real istiod made of the same objects. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import type { HttpChainSpec, TcpChainSpec } from "../../../../src/waypoint/spec/mod.ts";
import { replay } from "../../../waypoint/config/fixtures.ts";
import { problemsOf, takeIn } from "./support.ts";

const OBJECTS = readFileSync(new URL("policies.yaml", import.meta.url), "utf8");
const B80 = "inbound-vip|80|http|b.demo.svc.cluster.local";
const B9000 = "inbound-vip|9000|tcp|b.demo.svc.cluster.local";

type Filters = HttpChainSpec["policies"];

/** Without those of the action CUSTOM, which a mesh file cannot hold. */
const ofIstiod = (filters: Filters) =>
  filters.filter((filter) =>
    !(filter.kind as string).includes("authz") && !JSON.stringify(filter).includes("istio-ext-authz")
  );
const named = (filters: Filters, kind: string) => filters.filter((filter) => filter.kind === kind);

test("local policies: AUDIT, DENY with its dry run and ALLOW are what istiod makes of them", () => {
  const { rejections, http } = takeIn(OBJECTS);
  assert.deepEqual(rejections, []);
  const real = replay("authz").chain(B80);
  assert.ok(real.kind === "http");
  const made = http(B80).policies;
  const expected = ofIstiod(real.policies);
  assert.deepEqual(made.map(({ kind }) => kind), expected.map(({ kind }) => kind));
  for (const [index, filter] of made.entries()) assert.deepEqual(sorted(filter), sorted(expected[index]), filter.kind);
});

test("local policies: of bytes only what can be asked of them, and never more allowed", () => {
  const made = takeIn(OBJECTS).chain(B9000) as TcpChainSpec;
  const real = replay("authz").chain(B9000) as TcpChainSpec;
  const expected = real.rbac.filter((rbac) => !JSON.stringify(rbac).includes("istio-ext-authz"));
  assert.deepEqual(sorted(made.rbac), sorted(expected));
});

test("local policies: those of the Gateway are for what is called by its own address, too", () => {
  for (const name of ["direct-http", "direct-tcp"]) {
    const text = JSON.stringify(takeIn(OBJECTS).chain(name));
    assert.ok(text.includes("gw-deny-all-from"), name);
    assert.ok(!text.includes("b-deny"), name);
  }
});

const policy = (spec: string) =>
  `apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: p, namespace: demo }\nspec: ${spec}\n`;
const TARGET = "targetRefs: [{ group: '', kind: Service, name: b }]";

test("local policies: an ALLOW without rules, or of requests alone on bytes, lets nothing through", () => {
  const nothing = JSON.stringify(takeIn(policy(`{ ${TARGET} }`)).http(B80).policies);
  const onlyRequests = takeIn(policy(`{ ${TARGET}, rules: [{ to: [{ operation: { methods: [GET] } }] }] }`));
  const bytes = JSON.stringify((onlyRequests.chain(B9000) as TcpChainSpec).rbac);
  for (const text of [nothing, bytes]) assert.ok(text.includes("ns[demo]-policy[p]-rule[0]"), text);
  assert.ok(!bytes.includes("GET"));
});

test("local tokens: keys of a service of the mesh are asked for there, others must stand in the file", () => {
  const authentication = (uri: string) =>
    `apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: { name: t, namespace: demo }
spec: { ${TARGET}, jwtRules: [{ issuer: me, jwksUri: "${uri}" }] }
`;
  const { http, cluster, rejections } = takeIn(authentication("http://a.demo.svc.cluster.local/keys"));
  assert.deepEqual(rejections, []);
  assert.ok(JSON.stringify(named(http(B80).policies, "jwt")).includes("outbound|80||a.demo.svc.cluster.local"));
  assert.equal(cluster("outbound|80||a.demo.svc.cluster.local").discovery.kind, "eds");
  for (const uri of ["https://a.demo.svc.cluster.local/keys", "http://keys.example.com/keys"]) {
    const [problem, ...rest] = problemsOf(authentication(uri));
    assert.match(problem!, /^spec\.jwtRules\.0\.jwksUri: .*give the keys in jwks$/);
    assert.deepEqual(rest, []);
  }
});

test("local policies: a target that is not there, or passes no waypoint, is told at its place", () => {
  const problems = (ref: string) => problemsOf(policy(`{ targetRefs: [${ref}], rules: [{}] }`));
  assert.deepEqual(problems("{ group: gateway.networking.k8s.io, kind: Gateway, name: other }"), [
    "spec.targetRefs.0: there is no Gateway other in the namespace demo",
  ]);
  assert.deepEqual(problems("{ group: '', kind: Service, name: other }"), [
    "spec.targetRefs.0: there is no service other in the namespace demo",
  ]);
  assert.match(problems("{ group: '', kind: Service, name: a }")[0]!, /passes no waypoint/);
});

/** istiod's policies come in no order. */
function sorted(value: unknown): unknown {
  return JSON.parse(
    JSON.stringify(
      value,
      (key, part) => key === "policies" ? [...part].sort((a, b) => a.name < b.name ? -1 : 1) : part,
    ),
  );
}
