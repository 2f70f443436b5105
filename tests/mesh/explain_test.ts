import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { explainConnection, type Question } from "../../src/mesh/explain.ts";
import type { Explanation } from "../../src/mesh/explanation.ts";
import { findClient, findTarget } from "../../src/mesh/find_client.ts";
import {
  type Authorization,
  authorize,
  compilePolicies,
  createPolicy,
  MeshStore,
  policyKey,
  resolveOutbound,
  type Service,
  type SpiffeId,
  type Workload,
} from "../../src/mesh/mod.ts";
import { client, endpointOf, gateway, pod, service } from "./builders.ts";
import { clientWorkload, destination, resources } from "./random_mesh.ts";

function explain(
  to: string,
  mesh: {
    readonly workloads: readonly Workload[];
    readonly services?: readonly Service[];
    readonly policies?: readonly Authorization[];
  },
  from: Workload = client,
  changes: Partial<Question> = {},
): Explanation {
  const store = MeshStore.fromResources({ services: [], policies: [], ...mesh });
  const colon = to.lastIndexOf(":");
  return explainConnection(store, {
    client: from,
    clientIp: from.workloadIps[0],
    target: { ip: to.slice(0, colon), port: Number(to.slice(colon + 1)) },
    network: from.network,
    nodeName: "node-1",
    ipv6Enabled: true,
    illegalPorts: [15001, 15006, 15008],
    ...changes,
  });
}

const web = pod("web", ["10.0.0.2"], { node: "node-1" });
const deny = (fields: Partial<Authorization> = {}) =>
  createPolicy({
    name: "deny",
    namespace: "default",
    scope: "Namespace",
    action: "Deny",
    rules: [[[{ principals: [{ Exact: "cluster.local/ns/default/sa/client" }] }], [{ destinationPorts: [80] }]]],
    ...fields,
  });
const allow = (fields: Partial<Authorization> = {}) =>
  createPolicy({
    name: "allow",
    namespace: "default",
    scope: "Namespace",
    action: "Allow",
    rules: [[[{ namespaces: [{ Exact: "shop" }] }]]],
    ...fields,
  });

test("explain: a pod is reached directly, as the identity it must prove, and no policy applies", () => {
  const found = explain("10.0.0.2:80", { workloads: [client, web] });
  assert.equal(found.outcome, "allowed");
  assert.equal(found.summary, "no policy applies");
  assert.deepEqual(
    found.routes.map(({ kind, protocol, nextHop, authority, expectedIdentities }) => ({
      kind,
      protocol,
      nextHop,
      authority,
      expectedIdentities,
    })),
    [{
      kind: "direct",
      protocol: "HBONE",
      nextHop: "10.0.0.2:15008",
      authority: "10.0.0.2:80",
      expectedIdentities: ["spiffe://cluster.local/ns/default/sa/web" as SpiffeId],
    }],
  );
  const [end] = found.destinations;
  assert.deepEqual([end.local, end.enforced, end.seenAs], [true, true, {
    ip: "10.0.0.1",
    identity: "spiffe://cluster.local/ns/default/sa/client",
  }]);
  assert.deepEqual(found.notes, []);
});

test("explain: a DENY policy is named with its rule", () => {
  const found = explain("10.0.0.2:80", { workloads: [client, web], policies: [deny()] });
  assert.equal(found.outcome, "denied");
  assert.equal(found.summary, "default/web: explicitly denied by: default/deny");
  assert.deepEqual([found.destinations[0].policies[0].matches, found.destinations[0].policies[0].rule], [true, 1]);
  assert.equal(explain("10.0.0.2:81", { workloads: [client, web], policies: [deny()] }).outcome, "allowed");
});

test("explain: ALLOW policies that do not match say what the connection has instead", () => {
  const found = explain("10.0.0.2:80", { workloads: [client, web], policies: [allow()] });
  assert.equal(found.outcome, "denied");
  assert.match(found.summary, /allow policies exist, but none allowed/);
  const [clause] = found.destinations[0].policies[0].rules[0].clauses;
  assert.deepEqual(clause.alternatives, [{
    matches: false,
    failed: ['namespaces "shop": the connection has namespace "default"'],
  }]);
});

test("explain: a policy that the workload names and nobody knows refuses", () => {
  const guarded = pod("web", ["10.0.0.2"], { authorizationPolicies: [policyKey("default", "late")] });
  const found = explain("10.0.0.2:80", { workloads: [client, guarded] });
  assert.equal(found.outcome, "denied");
  assert.deepEqual(found.destinations[0].missing, ["default/late"]);
});

test("explain: dry-run policies change nothing, and it says what they would", () => {
  const found = explain("10.0.0.2:80", { workloads: [client, web], policies: [deny({ dryRun: true })] });
  assert.equal(found.outcome, "allowed");
  assert.equal(found.destinations[0].policies[0].dryRun, true);
  assert.deepEqual(found.destinations[0].ifDryRunEnforced, {
    allowed: false,
    reason: "explicitly denied by: default/deny",
  });
  const none = explain("10.0.0.2:80", { workloads: [client, web], policies: [deny()] });
  assert.equal(none.destinations[0].ifDryRunEnforced, undefined);
});

test("explain: what the destination's node decides is said to be so", () => {
  const far = pod("web", ["10.0.0.2"], { node: "node-2" });
  const found = explain("10.0.0.2:80", { workloads: [client, far] });
  assert.equal(found.destinations[0].local, false);
  assert.match(found.notes.join(), /policies are asked by the destination's ztunnel/);
});

test("explain: every endpoint of a service is looked at, and a mixed answer says so", () => {
  const endpoints = ["10.0.0.2", "10.0.0.3", "10.0.0.4"].map((ip, i) => pod(`web-${i}`, [ip], endpointOf("shop")));
  const only = deny({ scope: "WorkloadSelector", rules: [[]] });
  const guarded = { ...endpoints[1], authorizationPolicies: [policyKey("default", "deny")] };
  const found = explain("10.1.0.1:80", {
    workloads: [client, endpoints[0], guarded, endpoints[2]],
    services: [service("shop", ["10.1.0.1"])],
    policies: [only],
  });
  assert.equal(found.outcome, "depends");
  assert.match(found.summary, /^1 of 3 possible ends refuse it: default\/web-1: explicitly denied by/);
  assert.deepEqual(found.destinations.map((end) => end.address).sort(), [
    "10.0.0.2:8080",
    "10.0.0.3:8080",
    "10.0.0.4:8080",
  ]);
  assert.equal(found.to.service, "default/shop.default.svc");
});

test("explain: a large service is looked at in part, and it says so", () => {
  const workloads = Array.from({ length: 200 }, (_, i) => pod(`web-${i}`, [`10.0.1.${i}`], endpointOf("shop")));
  const found = explain("10.1.0.1:80", {
    workloads: [client, ...workloads],
    services: [service("shop", ["10.1.0.1"])],
  });
  assert.equal(found.destinations.length, 32);
  assert.match(found.notes.join(), /32 of the service's 200 endpoints were looked at/);
});

test("explain: behind a waypoint the pods see the waypoint", () => {
  const waypoint = pod("waypoint", ["10.0.0.9"], { ...endpointOf("waypoint") });
  const guarded = allow({ rules: [[[{ principals: [{ Exact: "cluster.local/ns/default/sa/waypoint" }] }]]] });
  const found = explain("10.1.0.1:80", {
    workloads: [client, waypoint, pod("web", ["10.0.0.2"], endpointOf("shop"))],
    services: [service("shop", ["10.1.0.1"], { waypoint: gateway("/10.0.0.9") })],
    policies: [guarded],
  });
  assert.equal(found.outcome, "allowed");
  assert.deepEqual([found.routes[0].kind, found.routes[0].nextHop, found.routes[0].authority], [
    "waypoint",
    "10.0.0.9:15008",
    "10.1.0.1:80",
  ]);
  assert.deepEqual(found.destinations.map(({ workload, seenAs }) => [workload, seenAs]), [[
    "default/web",
    { ip: "10.0.0.9", identity: "spiffe://cluster.local/ns/default/sa/waypoint" },
  ]]);
  assert.match(found.notes.join(), /the waypoint .* chooses the endpoint and has policies and routes of its own/);
});

test("explain: an unknown waypoint refuses, and it says what to try", () => {
  const found = explain("10.1.0.1:80", {
    workloads: [client],
    services: [service("shop", ["10.1.0.1"], { waypoint: gateway("/10.0.0.9") })],
  });
  assert.equal(found.outcome, "denied");
  assert.match(found.routes[0].refusal?.message ?? "", /unknown waypoint/);
  assert.match(found.routes[0].refusal?.hint ?? "", /traffic never goes around a waypoint/);
});

test("explain: what is not in the mesh enforces nothing and is told nothing", () => {
  const outside = pod("db", ["10.0.0.5"], { protocol: "TCP" });
  const plain = explain("10.0.0.5:80", { workloads: [client, outside], policies: [deny()] });
  assert.deepEqual([plain.outcome, plain.routes[0].kind, plain.destinations[0].enforced], ["allowed", "plain", false]);
  const passed = explain("1.1.1.1:443", { workloads: [client] });
  assert.deepEqual([passed.outcome, passed.routes[0].kind, passed.destinations], ["allowed", "passthrough", []]);
  assert.match(passed.notes.join(), /not known to the mesh/);
});

test("explain: a client outside of the mesh has no identity, and no ztunnel", () => {
  const stranger = pod("stranger", ["10.0.0.7"], { protocol: "TCP" });
  const strict = deny({ rules: [[[{ notPrincipals: [{ Presence: [] }] }]]] });
  const found = explain("10.0.0.2:80", { workloads: [stranger, web], policies: [strict] }, stranger);
  assert.equal(found.outcome, "denied");
  assert.equal(found.from.inMesh, false);
  assert.equal(found.destinations[0].seenAs.identity, undefined);
});

test("explain: the proxy's own ports are refused", () => {
  const found = explain("10.0.0.2:15008", { workloads: [client, web] });
  assert.equal(found.outcome, "denied");
  assert.match(found.summary, /recursive call/);
});

test("explain: never says anything else than what decides about real connections", () => {
  fc.assert(
    fc.property(
      resources,
      clientWorkload,
      destination,
      fc.double({ min: 0, max: 0.999, noNaN: true }),
      (mesh, from, target, random) => {
        fc.pre(from.protocol === "HBONE");
        const store = MeshStore.fromResources(mesh);
        const clientIp = from.workloadIps[0] ?? "10.9.9.9";
        const request = { network: "", target, client: { workload: from, ip: clientIp }, ipv6Enabled: true };
        const real = resolveOutbound(store, request, () => random);
        const found = explainConnection(store, {
          client: from,
          clientIp,
          target,
          network: "",
          nodeName: undefined,
          ipv6Enabled: true,
          illegalPorts: [],
        });
        if (real.kind === "refused") {
          assert.ok(found.routes.some((route) => route.refusal?.message === real.message));
          return;
        }
        if (real.kind !== "hbone" || real.via !== "direct" || real.workload.nativeTunnel) return;
        assert.ok(found.routes.some((route) => route.authority === real.authority));
        const end = found.destinations.find((end) => end.uid === real.workload.uid && end.enforced);
        if (end === undefined) return;
        const { policies, missing } = store.policiesFor(real.workload);
        const colon = end.address.lastIndexOf(":");
        const verdict = authorize(compilePolicies(policies, missing), {
          sourceIp: clientIp,
          sourceIdentity: found.from.identity,
          destinationIp: real.tunnelTo.ip,
          destinationPort: Number(end.address.slice(colon + 1)),
        });
        assert.equal(end.allowed, verdict.allowed);
      },
    ),
  );
});

test("find_client: a service account before a pod, an address, and what there is instead", () => {
  const a = pod("a-1", ["10.0.0.1"], { serviceAccount: "shop", node: "node-2" });
  const b = pod("shop", ["10.0.0.2"], { serviceAccount: "other", node: "node-1" });
  const store = MeshStore.fromResources({ workloads: [a, b], services: [service("shop", ["10.1.0.1"])], policies: [] });
  const find = (text: string) => {
    const found = findClient(store, [a, b], "", "node-1", text);
    return "problem" in found ? found.problem : found.workload.name;
  };
  assert.equal(find("default/shop"), "a-1");
  assert.equal(find("default/a-1"), "a-1");
  assert.equal(find("10.0.0.2"), "shop");
  assert.match(find("10.0.0.3"), /no workload has the address 10\.0\.0\.3/);
  assert.match(find("default/nobody"), /there are the service accounts other, shop/);
  assert.match(find("nowhere/x"), /nothing is known of the namespace nowhere/);
  for (const bad of ["", "shop", "/", "a/", "a/b/c"]) assert.match(find(bad), /^from must be/, bad);
  const target = (text: string) => {
    const found = findTarget(store, a, "", text);
    return "problem" in found ? found.problem : `${found.ip} ${found.port}`;
  };
  assert.equal(target("10.9.9.9:80"), "10.9.9.9 80");
  assert.equal(target("[2001:db8::1]:80"), "2001:db8::1 80");
  assert.equal(target("shop.default.svc:80"), "10.1.0.1 80");
  assert.match(target("nothing.svc:80"), /no service that default can see/);
  assert.match(target("10.0.0.1"), /^to must be/);
});
