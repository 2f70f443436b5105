import assert from "node:assert/strict";
import process from "node:process";
import { test } from "node:test";
import {
  keyOfService,
  MeshStore,
  policyKey,
  type Service,
  serviceKey,
  type Workload,
  workloadUid,
} from "../../src/mesh/mod.ts";
import { endpointOf, key, mesh, pod, policy, service } from "./builders.ts";

const uids = (store: MeshStore, of: Service) => store.endpointsOf(of).entries.map((entry) => entry.workload.name);

test("store: finds a workload by uid, address and hostname, and nothing after its removal", () => {
  const web = pod("web", ["10.0.0.2", "2001:db8::2"], { network: "n1", hostname: "web.example" });
  const store = mesh([web]);
  assert.equal(store.workloadByUid(web.uid), web);
  assert.equal(store.findWorkload("n1", "10.0.0.2"), web);
  assert.equal(store.findWorkload("n1", "2001:db8::2"), web);
  assert.equal(store.findWorkload("", "10.0.0.2"), undefined);
  assert.deepEqual(store.workloadsByHostname("web.example"), [web]);
  store.apply({ remove: { workloads: [web.uid] } });
  assert.equal(store.workloadByUid(web.uid), undefined);
  assert.equal(store.findWorkload("n1", "10.0.0.2"), undefined);
  assert.deepEqual(store.workloadsByHostname("web.example"), []);
});

test("store: a changed workload is not found at its old places any more", () => {
  const store = mesh([pod("web", ["10.0.0.2"], { hostname: "a", ...endpointOf("one") })], [
    service("one", ["10.1.0.1"]),
    service("two", ["10.1.0.2"]),
  ]);
  store.apply({ upsert: { workloads: [pod("web", ["10.0.0.3"], { hostname: "b", ...endpointOf("two") })] } });
  assert.equal(store.findWorkload("", "10.0.0.2"), undefined);
  assert.equal(store.findWorkload("", "10.0.0.3")?.name, "web");
  assert.deepEqual(store.workloadsByHostname("a"), []);
  assert.deepEqual(uids(store, store.findService("", "10.1.0.1")!), []);
  assert.deepEqual(uids(store, store.findService("", "10.1.0.2")!), ["web"]);
});

test("store: of several workloads with one ip a pod is found first, then one that speaks HBONE, whatever the order", () => {
  const entry = pod("entry", ["10.0.0.2"], { uid: workloadUid("c/networking/ServiceEntry/a") });
  const plainPod = pod("plain", ["10.0.0.2"], { protocol: "TCP" });
  const hbonePod = pod("hbone", ["10.0.0.2"]);
  for (const order of [[entry, plainPod, hbonePod], [hbonePod, plainPod, entry]]) {
    const store = mesh(order);
    assert.equal(store.findWorkload("", "10.0.0.2"), hbonePod);
    store.apply({ remove: { workloads: [hbonePod.uid] } });
    assert.equal(store.findWorkload("", "10.0.0.2"), plainPod);
    store.apply({ remove: { workloads: [plainPod.uid] } });
    assert.equal(store.findWorkload("", "10.0.0.2"), entry);
  }
});

test("store: a host-network pod is an endpoint, but is not found by its node's ip", () => {
  const agent = pod("agent", ["10.0.0.9"], { networkMode: "HostNetwork", ...endpointOf("one") });
  const store = mesh([agent], [service("one", ["10.1.0.1"])]);
  assert.equal(store.lookupAddress("", "10.0.0.9"), undefined);
  assert.deepEqual(uids(store, store.findService("", "10.1.0.1")!), ["agent"]);
});

test("store: endpoints that come before their service are staged and wait for it", () => {
  const web = pod("web", ["10.0.0.2"], endpointOf("one"));
  const store = mesh([web]);
  assert.deepEqual(Object.keys(store.configDump().stagedServices), ["default/one.default.svc"]);
  const one = service("one", ["10.1.0.1"]);
  store.apply({ upsert: { services: [one] } });
  assert.deepEqual(uids(store, one), ["web"]);
  assert.deepEqual(store.configDump().stagedServices, {});
  store.apply({ remove: { services: [keyOfService(one)] } });
  assert.deepEqual(Object.keys(store.configDump().stagedServices), ["default/one.default.svc"]);
  store.apply({ remove: { workloads: [web.uid] } });
  assert.deepEqual(store.configDump().stagedServices, {});
});

test("store: unhealthy endpoints get no traffic, unless the service allows all, and come back when it does", () => {
  const sick = pod("sick", ["10.0.0.2"], { status: "Unhealthy", ...endpointOf("one") });
  const fit = pod("fit", ["10.0.0.3"], endpointOf("one"));
  const onlyHealthy = service("one", ["10.1.0.1"]);
  const loadBalancer = { routingPreferences: [], mode: "Standard", healthPolicy: "AllowAll" } as const;
  const store = mesh([sick, fit], [onlyHealthy]);
  assert.deepEqual(uids(store, onlyHealthy), ["fit"]);
  store.apply({ upsert: { services: [{ ...onlyHealthy, loadBalancer }] } });
  assert.deepEqual(uids(store, store.serviceByKey(keyOfService(onlyHealthy))!), ["fit", "sick"]);
  store.apply({ upsert: { services: [onlyHealthy], workloads: [{ ...fit, status: "Unhealthy" }] } });
  assert.deepEqual(uids(store, onlyHealthy), []);
  store.apply({ upsert: { workloads: [{ ...sick, status: "Healthy" }] } });
  assert.deepEqual(uids(store, onlyHealthy), ["sick"]);
});

test("store: services of several namespaces share a VIP; the client's own comes first, then the canonical one", () => {
  const a = service("x", ["10.1.0.1"], { namespace: "a" });
  const b = service("x", ["10.1.0.1"], { namespace: "b" });
  const c = service("x", ["10.1.0.1"], { namespace: "c", canonical: true });
  const store = mesh([], [a, b, c]);
  assert.equal(store.findService("", "10.1.0.1", "b"), b);
  assert.equal(store.findService("", "10.1.0.1", "other"), c);
  assert.equal(store.findService("", "10.1.0.1"), c);
  store.apply({ remove: { services: [keyOfService(c)] } });
  assert.equal(store.findService("", "10.1.0.1", "other"), a);
});

test("store: services of one namespace that share a VIP do not overwrite each other", () => {
  const one = service("one", ["10.1.0.1"]);
  const two = service("two", ["10.1.0.1"]);
  const store = mesh([], [one, two]);
  assert.equal(store.findService("", "10.1.0.1"), one);
  store.apply({ remove: { services: [keyOfService(one)] } });
  assert.equal(store.findService("", "10.1.0.1"), two);
});

test("store: a service of namespace visibility exists only for its own clients, by VIP and by name", () => {
  const secret = service("x", ["10.1.0.1"], { visibility: "Namespace" });
  const around = service("all", [], { namespace: "b", cidrVips: [{ network: "", cidr: "10.1.0.0/16" }] });
  const store = mesh([], [secret, around]);
  assert.equal(store.findService("", "10.1.0.1", "default"), secret);
  assert.equal(store.findService("", "10.1.0.1", "b"), around);
  assert.equal(store.findService("", "10.1.0.1"), secret);
  assert.equal(store.serviceByHostname("x.default.svc", "b"), undefined);
  assert.equal(store.serviceByHostname("x.default.svc", "default"), secret);
});

test("store: by hostname the preferred namespace counts after the client's and the canonical one", () => {
  const [a, b, c] = ["a", "b", "c"].map((namespace) => service("x", [], { namespace, hostname: "x.example" }));
  const store = mesh([], [a, b, c]);
  assert.equal(store.serviceByHostname("x.example", "other", "b"), b);
  assert.equal(store.serviceByHostname("x.example", "c", "b"), c);
  store.apply({ upsert: { services: [{ ...a, canonical: true }] } });
  assert.equal(store.serviceByHostname("x.example", "other", "b")?.namespace, "a");
  assert.deepEqual(store.servicesByHostname("x.example").map((found) => found.namespace), ["a", "b", "c"]);
});

function ranged(name: string, cidr: string, fields: Partial<Service> = {}): Service {
  return service(name, [], { cidrVips: [{ network: "", cidr }], ...fields });
}

test("store: a range VIP is found by the longest prefix, of either family and only in its network", () => {
  const wide = ranged("wide", "10.0.0.0/8");
  const narrow = ranged("narrow", "10.1.0.0/16");
  const v6 = ranged("v6", "2001:db8::/32");
  const other = service("other", [], { cidrVips: [{ network: "n", cidr: "10.0.0.0/8" }] });
  const store = mesh([], [wide, narrow, v6, other]);
  assert.equal(store.findService("", "10.1.2.3"), narrow);
  assert.equal(store.findService("", "10.2.2.3"), wide);
  assert.equal(store.findService("", "2001:db8::1"), v6);
  assert.equal(store.findService("", "2001:db9::1"), undefined);
  assert.equal(store.findService("n", "10.1.2.3"), other);
  assert.equal(store.findService("", "11.0.0.1"), undefined);
});

test("store: an exact VIP comes before any range, and the client's namespace before a longer prefix", () => {
  const exact = service("exact", ["10.1.2.3"], { namespace: "far" });
  const mine = ranged("mine", "10.0.0.0/8");
  const longer = ranged("longer", "10.1.0.0/16", { namespace: "far" });
  const store = mesh([], [exact, mine, longer]);
  assert.equal(store.findService("", "10.1.2.3", "default"), exact);
  assert.equal(store.findService("", "10.1.9.9", "default"), mine);
  assert.equal(store.findService("", "10.1.9.9", "other"), longer);
});

test("store: a range that is gone or changed is not found, and endpoint changes leave no stale copy", () => {
  const first = ranged("one", "10.0.0.0/8");
  const store = mesh([], [first]);
  for (let i = 0; i < 3; i++) {
    store.apply({ upsert: { workloads: [pod("web", [`10.9.0.${i + 1}`], endpointOf("one"))] } });
    const found = store.findService("", "10.1.1.1")!;
    assert.deepEqual(store.endpointsOf(found).entries[0].workload.workloadIps, [`10.9.0.${i + 1}`]);
  }
  store.apply({ upsert: { services: [ranged("one", "11.0.0.0/8")] } });
  assert.equal(store.findService("", "10.1.1.1"), undefined);
  assert.equal(store.findService("", "11.1.1.1")?.name, "one");
  store.apply({ remove: { services: [keyOfService(first)] } });
  assert.equal(store.findService("", "11.1.1.1"), undefined);
});

test("store: a workload comes before a service at the same ip", () => {
  const web = pod("web", ["10.1.0.1"]);
  const one = service("one", ["10.1.0.1"]);
  const store = mesh([web], [one]);
  assert.deepEqual(store.lookupAddress("", "10.1.0.1"), { kind: "workload", workload: web });
  store.apply({ remove: { workloads: [web.uid] } });
  assert.deepEqual(store.lookupAddress("", "10.1.0.1"), { kind: "service", service: one });
});

test("store: knows a local pod by namespace, service account, name and node", () => {
  const web = pod("web", [], { node: "n1", serviceAccount: "sa" });
  const store = mesh([web]);
  const asked = { namespace: "default", serviceAccount: "sa", name: "web" };
  assert.equal(store.localWorkload({ ...asked, node: "n1" }), web);
  assert.equal(store.localWorkload(asked), web);
  assert.equal(store.localWorkload({ ...asked, node: "n2" }), undefined);
  assert.equal(store.localWorkload({ ...asked, serviceAccount: "other" }), undefined);
  assert.equal(store.localWorkload({ ...asked, name: "web-2" }), undefined);
});

const deny = { action: "Deny", rules: [[]] } as const;

test("store: a workload's policies are the global ones, its namespace's and the ones it names, each once", () => {
  const global = policy({ ...deny, name: "g", namespace: "istio-system", scope: "Global" });
  const own = policy({ ...deny, name: "n", namespace: "default", scope: "Namespace" });
  const other = policy({ ...deny, name: "o", namespace: "other", scope: "Namespace" });
  const named = policy({ ...deny, name: "w", namespace: "default", scope: "WorkloadSelector" });
  const unnamed = policy({ ...deny, name: "u", namespace: "default", scope: "WorkloadSelector" });
  const store = new MeshStore();
  store.apply({ upsert: { policies: [named, other, own, unnamed, global] } });
  const names = [policyKey("default", "w"), policyKey("default", "n"), policyKey("default", "gone")];
  const found = store.policiesFor(pod("web", [], { authorizationPolicies: names }));
  assert.deepEqual(found.policies, [own, named, global]);
  assert.deepEqual(found.missing, ["default/gone"]);
});

test("store: a namespace policy without a namespace is not a global one", () => {
  const store = new MeshStore();
  store.apply({ upsert: { policies: [policy({ ...deny, name: "p", namespace: "", scope: "Namespace" })] } });
  assert.deepEqual(store.policiesFor(pod("x", [])).policies, []);
});

test("store: a policy that changes its scope is found by the new one only", () => {
  const store = new MeshStore();
  const base = { ...deny, name: "p", namespace: "default" } as const;
  const names = (namespace: string) =>
    store.policiesFor(pod("x", [], { namespace })).policies.map((found) => found.scope);
  store.apply({ upsert: { policies: [policy({ ...base, scope: "Global" })] } });
  assert.deepEqual([names("default"), names("other")], [["Global"], ["Global"]]);
  store.apply({ upsert: { policies: [policy({ ...base, scope: "Namespace" })] } });
  assert.deepEqual([names("default"), names("other")], [["Namespace"], []]);
  store.apply({ upsert: { policies: [policy({ ...base, scope: "WorkloadSelector" })] } });
  assert.deepEqual([names("default"), names("other")], [[], []]);
  store.apply({ remove: { policies: [policyKey("default", "p")] } });
  assert.deepEqual(store.policiesFor(pod("x", [], { authorizationPolicies: [policyKey("default", "p")] })).missing, [
    "default/p",
  ]);
});

const tokens = (change: { readonly tokens: ReadonlySet<string> }) => [...change.tokens].sort();

test("store: a change names everything old and new that it touches", () => {
  const store = mesh([pod("web", ["10.0.0.2"], { hostname: "h1", ...endpointOf("one") })], [
    service("one", ["10.1.0.1"]),
  ]);
  assert.deepEqual(
    tokens(
      store.apply({ upsert: { workloads: [pod("web", ["10.0.0.3"], { hostname: "h2", ...endpointOf("two") })] } }),
    ),
    [
      "a:/10.0.0.2",
      "a:/10.0.0.3",
      "h:h1",
      "h:h2",
      "s:default/one.default.svc",
      "s:default/two.default.svc",
      "w:Kubernetes//Pod/default/web",
    ],
  );
  assert.deepEqual(
    tokens(store.apply({
      upsert: { services: [service("one", ["10.1.0.2"], { cidrVips: [{ network: "", cidr: "10.0.0.0/8" }] })] },
    })),
    ["a:/10.1.0.1", "a:/10.1.0.2", "cidr", "h:one.default.svc", "s:default/one.default.svc"],
  );
  assert.deepEqual(
    tokens(store.apply({ remove: { services: [serviceKey("default", "one.default.svc")] } })),
    ["a:/10.1.0.2", "cidr", "h:one.default.svc", "s:default/one.default.svc"],
  );
  const added = store.apply({
    upsert: { policies: [policy({ ...deny, name: "p", namespace: "x", scope: "Global" })] },
  });
  assert.deepEqual(tokens(added), ["p:x/p"]);
  assert.deepEqual(tokens(store.apply({ remove: { policies: [policyKey("x", "p"), policyKey("x", "q")] } })), [
    "p:x/p",
  ]);
});

test("store: replacing all touches only what differs", () => {
  const resources = {
    workloads: [pod("a", ["10.0.0.1"]), pod("b", ["10.0.0.2"])],
    services: [service("one", ["10.1.0.1"])],
    policies: [policy({ ...deny, name: "p", namespace: "x", scope: "Global" })],
  };
  const store = MeshStore.fromResources(resources);
  const again = structuredClone(resources);
  assert.deepEqual(tokens(store.replaceAll(again)), []);
  again.workloads[1] = pod("c", ["10.0.0.3"]);
  assert.deepEqual(tokens(store.replaceAll(again)), [
    "a:/10.0.0.2",
    "a:/10.0.0.3",
    "w:Kubernetes//Pod/default/b",
    "w:Kubernetes//Pod/default/c",
  ]);
  store.replaceAll({ workloads: [], services: [], policies: [] });
  assert.deepEqual(store.resources(), { workloads: [], services: [], policies: [] });
  assert.equal(store.findService("", "10.1.0.1"), undefined);
});

test("store: an endpoint set is one object until one of its endpoints changes", () => {
  const one = service("one", ["10.1.0.1"]);
  const store = mesh([pod("a", ["10.0.0.2"], endpointOf("one"))], [one]);
  const before = store.endpointsOf(one);
  store.apply({ upsert: { workloads: [pod("b", ["10.0.0.3"])] } });
  assert.equal(store.endpointsOf(one), before);
  store.apply({ upsert: { workloads: [pod("a", ["10.0.0.2"], { ...endpointOf("one"), capacity: 5 })] } });
  assert.notEqual(store.endpointsOf(one), before);
});

test("store: takes and replaces 10,000 workloads of 100 services in well under a second of CPU each", () => {
  const workloads: Workload[] = Array.from(
    { length: 10_000 },
    (_, i) => pod(`w${i}`, [`10.${i >> 14}.${(i >> 7) & 127}.${i & 127}`], endpointOf(`s${i % 100}`)),
  );
  const services = Array.from({ length: 100 }, (_, i) => service(`s${i}`, [`10.200.0.${i + 1}`]));
  const store = new MeshStore();
  const timed = (work: () => unknown) => {
    const start = process.cpuUsage();
    work();
    return process.cpuUsage(start).user / 1000;
  };
  const insertMs = timed(() => store.replaceAll({ workloads, services, policies: [] }));
  const copy = structuredClone({ workloads, services, policies: [] });
  copy.workloads[5000] = pod("w5000", ["10.99.0.1"]);
  const replaceMs = timed(() => assert.equal(store.replaceAll(copy).tokens.size, 4));
  assert.equal(uids(store, store.serviceByKey(key("default/s7.default.svc"))!).length, 100);
  assert.ok(insertMs < 1000 && replaceMs < 1000, `${insertMs} ms, ${replaceMs} ms`);
});
