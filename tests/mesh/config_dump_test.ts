import assert from "node:assert/strict";
import { test } from "node:test";
import { createWorkload, MeshStore, type NetworkAddress, policyKey, workloadUid } from "../../src/mesh/mod.ts";
import { endpointOf, gateway, key, pod, policy, service } from "./builders.ts";

test("config_dump: a workload without anything special shows only what ztunnel always shows", () => {
  const store = MeshStore.fromResources({
    workloads: [createWorkload({ name: "web", namespace: "default", workloadIps: ["10.0.0.2"] })],
    services: [],
    policies: [],
  });
  assert.deepEqual(store.configDump().workloads, [{
    workloadIps: ["10.0.0.2"],
    protocol: "TCP",
    networkMode: "Standard",
    uid: "Kubernetes//Pod/default/web",
    name: "web",
    namespace: "default",
    trustDomain: "cluster.local",
    serviceAccount: "default",
    status: "Healthy",
    clusterId: "Kubernetes",
    capacity: 1,
  }]);
});

test("config_dump: a workload shows everything it has", () => {
  const workload = pod("web", ["10.0.0.2"], {
    uid: workloadUid("u"),
    waypoint: gateway("/10.0.0.9"),
    networkGateway: gateway("ns/gw", 15009),
    network: "n",
    workloadType: "pod",
    canonicalRevision: "v1",
    hostname: "h",
    node: "node-1",
    nativeTunnel: true,
    applicationTunnel: { protocol: "PROXY", port: undefined },
    authorizationPolicies: [policyKey("a", "b")],
    locality: { region: "r", zone: "z", subzone: "" },
    ...endpointOf("two", "one"),
  });
  const [shown] = MeshStore.fromResources({ workloads: [workload], services: [], policies: [] }).configDump().workloads;
  assert.deepEqual(JSON.parse(JSON.stringify(shown)), {
    workloadIps: ["10.0.0.2"],
    waypoint: { destination: "/10.0.0.9", hboneMtlsPort: 15008 },
    networkGateway: { destination: "ns/gw", hboneMtlsPort: 15009 },
    protocol: "HBONE",
    networkMode: "Standard",
    uid: "u",
    name: "web",
    namespace: "default",
    trustDomain: "cluster.local",
    serviceAccount: "web",
    network: "n",
    workloadName: "web",
    workloadType: "pod",
    canonicalName: "web",
    canonicalRevision: "v1",
    hostname: "h",
    node: "node-1",
    nativeTunnel: true,
    applicationTunnel: { protocol: "PROXY", port: null },
    authorizationPolicies: ["a/b"],
    status: "Healthy",
    clusterId: "Kubernetes",
    locality: { region: "r", zone: "z", subzone: "" },
    services: ["default/one.default.svc", "default/two.default.svc"],
    capacity: 1,
  });
});

test("config_dump: a service shows its endpoints by uid; policies leave out empty lists; all is sorted", () => {
  const store = MeshStore.fromResources({
    workloads: [
      pod("b", ["10.0.0.3"], { services: { [key("default/b.default.svc")]: { 80: 9090 } } }),
      pod("a", ["10.0.0.2"]),
    ],
    services: [service("b", ["n/10.1.0.1" as NetworkAddress]), service("a", [])],
    policies: [
      policy({ name: "z", namespace: "ns", scope: "Namespace", action: "Deny" }),
      policy({
        name: "a",
        namespace: "ns",
        scope: "Global",
        action: "Allow",
        rules: [[[{ namespaces: [{ Presence: [] }], principals: [] }]]],
      }),
    ],
  });
  const dump = store.configDump();
  assert.deepEqual(dump.workloads.map((workload) => workload.name), ["a", "b"]);
  assert.deepEqual(dump.services.map((shown) => shown.hostname), ["a.default.svc", "b.default.svc"]);
  assert.deepEqual(dump.services[1], {
    name: "b",
    namespace: "default",
    hostname: "b.default.svc",
    vips: ["n/10.1.0.1"],
    ports: { 80: 8080 },
    endpoints: {
      "Kubernetes//Pod/default/b": {
        workloadUid: "Kubernetes//Pod/default/b",
        port: { 80: 9090 },
        status: "Healthy",
      },
    },
    subjectAltNames: [],
    canonical: false,
    visibility: "Public",
  });
  assert.deepEqual(dump.policies, [
    {
      name: "a",
      namespace: "ns",
      scope: "Global",
      action: "Allow",
      rules: [[[{ namespaces: [{ Presence: [] }] }]]],
      dryRun: false,
    },
    { name: "z", namespace: "ns", scope: "Namespace", action: "Deny", rules: [], dryRun: false },
  ]);
});
