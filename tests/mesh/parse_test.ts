import fc from "fast-check";
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parse as parseYaml } from "yaml";
import { type MeshResources, parseMesh } from "../../src/mesh/mod.ts";
import { gateway, pod, policy, service } from "./builders.ts";
import { resources as randomResources } from "./random_mesh.ts";

function read(value: unknown): MeshResources {
  const result = parseMesh(value);
  assert.ok(result.ok, result.ok ? "" : JSON.stringify(result.errors));
  return result.resources;
}

/** `path: message` of each error. */
function errors(value: unknown): string[] {
  const result = parseMesh(value);
  return result.ok ? [] : result.errors.map(({ path, message }) => `${path.join(".")}: ${message}`);
}

test("parse: reads a local file as a person writes it", () => {
  const { workloads, services, policies } = read(parseYaml(`
workloads:
- name: web-1
  namespace: default
  workloadIps: [10.0.0.2, "2001:DB8::2"]
  protocol: HBONE
  node: node-1
  waypoint: {destination: default/waypoint.default.svc}
  applicationTunnel: {protocol: PROXY, port: 15088}
  authorizationPolicies: [default/allow-web]
  services:
    default/web.default.svc: {80: 8080, 81: 0}
services:
- name: web
  namespace: default
  hostname: web.default.svc
  vips: [10.1.0.1, "n2/::1"]
  cidrVips: [{cidr: 10.2.3.4/16}]
  ports: {80: 0}
  waypoint:
  weightedWaypoints: [{destination: {destination: 10.0.0.9, hboneMtlsPort: 15009}, weight: 3}]
  loadBalancer: {mode: Failover, routingPreferences: [Network, Region]}
policies:
- name: allow-web
  namespace: default
  scope: WorkloadSelector
  action: Allow
  rules:
  - - - principals: [{Exact: td/ns/a/sa/b}, {Presence: []}]
        notSourceIps: [10.0.0.7/8]
        destinationPorts: [80]
`));
  assert.deepEqual(workloads, [pod("web-1", ["10.0.0.2", "2001:db8::2"], {
    serviceAccount: "default",
    workloadName: "",
    canonicalName: "",
    node: "node-1",
    waypoint: gateway("default/waypoint.default.svc"),
    applicationTunnel: { protocol: "PROXY", port: 15088 },
    authorizationPolicies: ["default/allow-web"] as never,
    services: { "default/web.default.svc": { 80: 8080, 81: 0 } } as never,
  })]);
  assert.deepEqual(services, [service("web", ["10.1.0.1", "n2/::1"], {
    cidrVips: [{ network: "", cidr: "10.2.0.0/16" }],
    ports: { 80: 0 },
    weightedWaypoints: [{ destination: gateway("/10.0.0.9", 15009), weight: 3 }],
    loadBalancer: { mode: "Failover", routingPreferences: ["Network", "Region"], healthPolicy: "OnlyHealthy" },
  })]);
  assert.deepEqual(policies[0].rules, [[[{
    principals: [{ Exact: "td/ns/a/sa/b" }, { Presence: [] }],
    notSourceIps: ["10.0.0.0/8"],
    destinationPorts: [80],
  }]]]);
  assert.equal(policies[0].dryRun, false);
});

test("parse: fills in the protobuf's defaults", () => {
  const [workload] = read({ workloads: [{ name: "w", namespace: "n", clusterId: "c1" }] }).workloads;
  assert.deepEqual(
    [workload.uid, workload.trustDomain, workload.serviceAccount, workload.clusterId, workload.capacity],
    ["c1//Pod/n/w", "cluster.local", "default", "c1", 1],
  );
  assert.deepEqual([workload.protocol, workload.networkMode, workload.status], ["TCP", "Standard", "Healthy"]);
  assert.deepEqual(read({}), { workloads: [], services: [], policies: [] });
});

test("parse: every mesh reads back from JSON as it was", () => {
  fc.assert(fc.property(randomResources, (resources) => {
    // Cloned, because fast-check's records have no prototype.
    assert.deepEqual(read(JSON.parse(JSON.stringify(resources))), structuredClone(resources));
  }));
  const strict = policy({
    name: "p",
    namespace: "n",
    scope: "Global",
    action: "Deny",
    rules: [
      [[{ notPrincipals: [{ Presence: [] }], serviceAccounts: [{ namespace: "a", serviceAccount: "b" }] }]],
      [[]],
      [],
    ],
  });
  assert.deepEqual(read(JSON.parse(JSON.stringify({ policies: [strict] }))).policies, [strict]);
});

test("parse: reports all errors, not only the first", () => {
  assert.deepEqual(
    errors({ workloads: [{ name: 1, namespace: "n", capacity: -1, protocl: "HBONE" }], services: {}, extra: 1 }),
    [
      `extra: unknown field "extra": remove it or correct its name`,
      `workloads.0.protocl: unknown field "protocl": did you mean "protocol"? remove it or correct its name`,
      `workloads.0.name: expected text, got 1: put it in quotes`,
      `workloads.0.capacity: expected a whole number from 0 to 4294967295, got -1`,
      `services: expected a list, got an object: write it as a list`,
    ],
  );
});

const workload = (fields: object) => ({ workloads: [{ name: "w", namespace: "n", ...fields }] });
const svc = (fields: object) => ({ services: [{ name: "s", namespace: "n", hostname: "h", ...fields }] });
const rule = (match: unknown) => ({
  policies: [{ name: "p", namespace: "n", scope: "Global", action: "Deny", rules: [[[match]]] }],
});
const MATCH = "policies.0.rules.0.0.0";

describe("parse: each error says what, where, and what to do", () => {
  const table: readonly (readonly [unknown, string, RegExp])[] = [
    [null, "", /expected fields, got nothing/],
    ["text", "", /expected fields, got "text"/],
    [{ workloads: [1] }, "workloads.0", /expected fields, got 1/],
    [{ workloads: [{ namespace: "n" }] }, "workloads.0.name", /"name" is missing: add it/],
    [{ workloads: [{ name: null, namespace: "n" }] }, "workloads.0.name", /missing/],
    [workload({ name: "" }), "workloads.0.name", /fill it in/],
    [workload({ uid: "" }), "workloads.0.uid", /fill it in/],
    [
      workload({ workloadIps: ["10.0.0.256"] }),
      "workloads.0.workloadIps.0",
      /"10.0.0.256" is not an IP address: write it/,
    ],
    [workload({ workloadIps: "10.0.0.2" }), "workloads.0.workloadIps", /expected a list/],
    [
      workload({ protocol: "hbone" }),
      "workloads.0.protocol",
      /one of "HBONE", "TCP", got "hbone": did you mean "HBONE"\?/,
    ],
    [workload({ networkMode: "Host" }), "workloads.0.networkMode", /"Standard", "HostNetwork"/],
    [workload({ nativeTunnel: "yes" }), "workloads.0.nativeTunnel", /true or false/],
    [workload({ waypoint: { destination: "x" } }), "workloads.0.waypoint.destination", /"namespace\/hostname"/],
    [workload({ waypoint: {} }), "workloads.0.waypoint.destination", /missing/],
    [
      workload({ waypoint: { destination: "/1.2.3.4", hboneMtlsPort: 0 } }),
      "workloads.0.waypoint.hboneMtlsPort",
      /1 to 65535/,
    ],
    [
      workload({ applicationTunnel: { protocol: "HTTP" } }),
      "workloads.0.applicationTunnel.protocol",
      /"PROXY", "NONE"/,
    ],
    [workload({ authorizationPolicies: ["p"] }), "workloads.0.authorizationPolicies.0", /"namespace\/name"/],
    [workload({ authorizationPolicies: null }), "workloads.0.authorizationPolicies", /has no value/],
    [workload({ services: { s: {} } }), "workloads.0.services.s", /"namespace\/hostname"/],
    [workload({ services: { "n/h": { x: 1 } } }), "workloads.0.services.n/h.x", /a port is a whole number/],
    [workload({ services: { "n/h": { 80: 70000 } } }), "workloads.0.services.n/h.80", /0 to 65535, got 70000/],
    [workload({ services: { "n/h": { 80: 1.5 } } }), "workloads.0.services.n/h.80", /got 1.5/],
    [svc({ vips: ["n/x"] }), "services.0.vips.0", /is not a network address/],
    [svc({ cidrVips: [{ cidr: "10.0.0.0/33" }] }), "services.0.cidrVips.0.cidr", /is not an address range/],
    [svc({ ports: { 0: 1 } }), "services.0.ports.0", /from 1 to 65535/],
    [svc({ endpoints: {} }), "services.0.endpoints", /endpoints come from the workloads/],
    [svc({ loadBalancer: { mode: "Random" } }), "services.0.loadBalancer.mode", /"Strict"/],
    [
      svc({ loadBalancer: { routingPreferences: ["Planet"] } }),
      "services.0.loadBalancer.routingPreferences.0",
      /"Region"/,
    ],
    [svc({ visibility: "public" }), "services.0.visibility", /did you mean "Public"/],
    [{ policies: [{ name: "p", namespace: "n", action: "Deny" }] }, "policies.0.scope", /missing/],
    [{ policies: [{ name: "p", namespace: "n", scope: "Global" }] }, "policies.0.action", /missing/],
    [
      { policies: [{ name: "p", namespace: "n", scope: "Global", action: "Deny", rules: null }] },
      "policies.0.rules",
      /no value/,
    ],
    [
      { policies: [{ name: "p", namespace: "n", scope: "Global", action: "Deny", rules: [{}] }] },
      "policies.0.rules.0",
      /list/,
    ],
    [
      { policies: [{ name: "p", namespace: "n", scope: "Global", action: "Deny", dryRun: null }] },
      "policies.0.dryRun",
      /no value/,
    ],
  ];
  for (const [value, path, message] of table) {
    test(`parse: ${path || "the whole"} ${message.source}`, () => {
      const found = errors(value);
      assert.equal(found.length, 1, found.join("\n"));
      assert.ok(found[0].startsWith(`${path}: `), found[0]);
      assert.match(found[0].slice(path.length), message);
    });
  }
});

describe("parse: a matcher that cannot be read is an error, never left out", () => {
  const table: readonly (readonly [unknown, string, RegExp])[] = [
    [null, "", /expected fields/],
    [{ principal: [] }, ".principal", /did you mean "principals"/],
    [{ principals: null }, ".principals", /has no value/],
    [{ principals: "a" }, ".principals", /expected a list/],
    [{ principals: ["a"] }, ".principals.0", /expected a string match, got "a": write one of/],
    [{ principals: [null] }, ".principals.0", /expected a string match, got nothing/],
    [{ principals: [{}] }, ".principals.0", /exactly one form, this has 0/],
    [{ principals: [{ Exact: "a", Prefix: "b" }] }, ".principals.0", /exactly one form, this has 2/],
    [{ principals: [{ exact: "a" }] }, ".principals.0.exact", /unknown string match "exact"/],
    [{ principals: [{ Exact: 1 }] }, ".principals.0.Exact", /expected text/],
    [{ principals: [{ Presence: null }] }, ".principals.0.Presence", /empty list/],
    [{ principals: [{ Presence: ["x"] }] }, ".principals.0.Presence", /empty list/],
    [{ notNamespaces: [{ Suffix: {} }] }, ".notNamespaces.0.Suffix", /expected text/],
    [{ sourceIps: ["10.0.0.0/x"] }, ".sourceIps.0", /is not an address range/],
    [{ notDestinationIps: ["::ffff:0:0/90"] }, ".notDestinationIps.0", /is not an address range/],
    [{ destinationPorts: ["80"] }, ".destinationPorts.0", /whole number/],
    [{ notDestinationPorts: [65616] }, ".notDestinationPorts.0", /1 to 65535/],
    [{ serviceAccounts: ["a/b"] }, ".serviceAccounts.0", /expected fields/],
    [{ serviceAccounts: [{ namespace: "a", serviceAccount: "" }] }, ".serviceAccounts.0.serviceAccount", /fill it in/],
  ];
  for (const [match, path, message] of table) {
    test(`parse: match ${JSON.stringify(match)}`, () => {
      const found = errors(rule(match));
      assert.equal(found.length, 1, found.join("\n"));
      assert.ok(found[0].startsWith(`${MATCH}${path}: `), found[0]);
      assert.match(found[0], message);
    });
  }
});

test("parse: the same resource twice is an error at the second", () => {
  const twice = { name: "x", namespace: "n" };
  assert.deepEqual(errors({ workloads: [twice, twice] }), [
    `workloads.1: same uid as workloads[0] ("Kubernetes//Pod/n/x"): each may appear only once`,
  ]);
  assert.match(
    errors({ services: [1, 2].map(() => ({ ...twice, hostname: "h" })) })[0],
    /^services.1: same namespace and/,
  );
  assert.match(
    errors({ policies: [1, 2].map(() => ({ ...twice, scope: "Global", action: "Deny" })) })[0],
    /^policies.1: same namespace and name/,
  );
});

test("parse: names of prototypes are ordinary unknown fields", () => {
  const found = errors(JSON.parse(`{"__proto__": {"workloads": []}, "constructor": 1}`));
  assert.deepEqual(found.map((error) => error.split(":")[0]), ["__proto__", "constructor"]);
  assert.equal(errors(workload({ services: JSON.parse(`{"__proto__": {}}`) })).length, 1);
});
