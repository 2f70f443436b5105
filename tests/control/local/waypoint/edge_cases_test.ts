/** Cases in which a small difference would widen a policy, or send a request elsewhere. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { checkAttachments } from "../../../../src/control/local/waypoint/mod.ts";
import { MESH, problemsOf, takeIn, world } from "./support.ts";

const B80 = "inbound-vip|80|http|b.demo.svc.cluster.local";
const route = (rules: string): string =>
  `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: r, namespace: demo }
spec: { parentRefs: [{ group: "", kind: Service, name: b }], rules: ${rules} }
`;
const routesOf = (rules: string, chain = B80) => takeIn(route(rules)).http(chain).routes.hosts[0]!.routes;

test("local policies: an issuer without a subject is nobody, as in Istio, not every subject of the issuer", () => {
  const { policies } = takeIn(`apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: p, namespace: demo }
spec:
  targetRefs: [{ group: "", kind: Service, name: b }]
  rules: [{ from: [{ source: { requestPrincipals: [issuer.example.com] } }] }]
`).http(B80);
  const rbac = policies.find((policy) => policy.kind === "rbac");
  assert.ok(rbac?.kind === "rbac");
  assert.match(JSON.stringify(rbac.rbac.rules), /"sub"\],"value":\{"kind":"text","match":\{"kind":"exact","text":""/);
});

test("local routes: a slash at the end of a prefix does not make it longer", () => {
  const routes = routesOf(
    `[{ matches: [{ path: { value: /foo/ } }], backendRefs: [{ name: a, port: 80 }] },
      { matches: [{ path: { value: /foo }, headers: [{ name: x, value: y }] }], backendRefs: [{ name: c, port: 80 }] }]`,
  );
  assert.deepEqual(routes.map(({ headers }) => headers.length), [1, 0]);
});

test("local routes: a redirect to another host stays on the port that was called, unless it names a scheme", () => {
  const rules = `[{ filters: [{ type: RequestRedirect, requestRedirect: { hostname: x.example } }] },
    { matches: [{ path: { value: /s } }], filters: [{ type: RequestRedirect, requestRedirect: { scheme: https } }] }]`;
  const ports = (chain: string) =>
    routesOf(rules, chain).map(({ action }) => action.kind === "redirect" && action.port);
  assert.deepEqual(ports(B80), [undefined, undefined]);
  assert.deepEqual(ports("inbound-vip|9000|http|b.demo.svc.cluster.local"), [undefined, 9000]);
});

test("local routes: to set the header Host is to call for another host", () => {
  const set =
    "filters: [{ type: RequestHeaderModifier, requestHeaderModifier: { set: [{ name: Host, value: o.example }] } }]";
  const [first] = routesOf(`[{ ${set}, backendRefs: [{ name: c, port: 80, ${set} }] }]`);
  assert.ok(first?.action.kind === "forward");
  assert.equal(first.action.hostRewrite, "o.example");
  assert.equal(first.action.clusters[0]!.hostRewrite, "o.example");
  assert.deepEqual(first.change.requestAdd, []);
});

test("local routes: what gets no request must be there all the same", () => {
  const problems = problemsOf(
    route(`[{ backendRefs: [{ name: nobody, port: 80, weight: 0 }, { name: c, port: 80 }] }]`),
  );
  assert.deepEqual(problems, ["spec.rules.0.backendRefs.0: there is no service nobody in the namespace demo"]);
});

test("local routes: a redirect mirrors nothing, and says so", () => {
  const [problem, ...others] = problemsOf(route(
    `[{ filters: [{ type: RequestRedirect, requestRedirect: { hostname: x.example } },
        { type: RequestMirror, requestMirror: { backendRef: { name: c, port: 80 } } }] }]`,
  ));
  assert.match(problem ?? "", /^spec\.rules\.0\.filters\.1\.requestMirror\.backendRef: .*mirrors nothing/);
  assert.deepEqual(others, []);
});

test("local waypoint: pods of every trust domain of the file may come, and refused tunnels are logged", () => {
  const [first, ...rest] = MESH.workloads;
  const { updates } = takeIn("", { ...MESH, workloads: [{ ...first!, trustDomain: "other" }, ...rest] });
  const terminate = updates.find(({ terminate }) => terminate)?.terminate;
  assert.deepEqual(terminate?.peerNames.map((name) => name.kind === "prefix" && name.text), [
    "spiffe://cluster.local/",
    "spiffe://other/",
  ]);
  assert.equal(terminate?.accessLogs.length, 2);
});

test("local waypoint: on a port where the server speaks first nothing is waited for, and a route for it is refused", () => {
  const ports = { 3306: 3306, 80: 8080 };
  const mesh = {
    ...MESH,
    services: MESH.services.map((service) => service.name === "b" ? { ...service, ports } : service),
  };
  const { chain, updates, rejections } = takeIn("", mesh);
  assert.deepEqual(rejections, []);
  assert.equal(chain("inbound-vip|3306|tcp|b.demo.svc.cluster.local").kind, "tcp");
  const names = updates.flatMap(({ chains = [] }) => chains).map(({ name }) => name as string);
  assert.ok(!names.includes("inbound-vip|3306|http|b.demo.svc.cluster.local"));
  const text = route("[{ backendRefs: [{ name: b, port: 80 }] }]").replace("name: b }", "name: b, port: 3306 }");
  const made = world(text, mesh);
  assert.deepEqual(checkAttachments(made.kube, made.mesh, [made]).map(({ message }) => message), [
    "no requests are read on port 3306, where servers speak first as a rule",
  ]);
});
