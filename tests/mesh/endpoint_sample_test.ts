import fc from "fast-check";
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  closureFor,
  keyOfService,
  MeshStore,
  type PortMap,
  resolveOutbound,
  type RoutingScope,
  type Workload,
} from "../../src/mesh/mod.ts";
import { sampleEndpoints, WHOLE_ENDPOINTS } from "../../src/mesh/endpoint_sample.ts";
import { client, endpointOf, gateway, pod, request, service } from "./builders.ts";

const KEY = keyOfService(service("shop", []));
const NODE = "node-a";
const isLocal = (workload: Workload) => workload.node === NODE;

/** A seeded generator: the same numbers in every run. */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = Math.imul(state ^ state >>> 15, 0x2c1b3c6d) + 0x9e3779b9 >>> 0;
    return ((state ^ state >>> 13) >>> 0) / 2 ** 32;
  };
}

function pods(count: number, fields: (index: number) => Partial<Workload> = () => ({})): Workload[] {
  return Array.from(
    { length: count },
    (_, i) => pod(`p${i}`, [`10.${i >> 16}.${i >> 8 & 255}.${i & 255}`], { ...endpointOf("shop"), ...fields(i) }),
  );
}

const capacity = (workloads: readonly Workload[]) => workloads.reduce((sum, found) => sum + found.capacity, 0);

test("endpoint_sample: a few of many, nobody twice, with the whole capacity", () => {
  const all = pods(5000);
  const sample = sampleEndpoints(all, KEY, isLocal, seeded(1));
  assert.ok(sample.length > 50 && sample.length < 200, String(sample.length));
  assert.equal(new Set(sample.map(({ uid }) => uid)).size, sample.length);
  assert.ok(Math.abs(capacity(sample) - 5000) < 1e-6);
  const uids = new Set(all.map(({ uid }) => uid));
  assert.ok(sample.every(({ uid }) => uids.has(uid)));
});

test("endpoint_sample: over many samples every endpoint is as probable as its capacity says", () => {
  for (const weights of [() => 1, (i: number) => i % 4 + 1]) {
    const all = pods(600, (i) => ({ capacity: weights(i) }));
    const total = capacity(all);
    const weight = new Map<string, number>();
    const random = seeded(7);
    const rounds = 4000;
    for (let i = 0; i < rounds; i++) {
      for (const { uid, capacity } of sampleEndpoints(all, KEY, isLocal, random)) {
        weight.set(uid, (weight.get(uid) ?? 0) + capacity / total);
      }
    }
    for (const { uid, capacity } of all) {
      const share = (weight.get(uid) ?? 0) / rounds * total / capacity;
      assert.ok(share > 0.8 && share < 1.2, `${uid}: ${share}`);
    }
  }
});

test("endpoint_sample: workloads of the own node are all there, as they are", () => {
  const all = pods(3000, (i) => ({ node: i % 300 === 0 ? NODE : "other" }));
  const sample = sampleEndpoints(all, KEY, isLocal, seeded(2));
  for (const workload of all.filter(isLocal)) assert.ok(sample.includes(workload));
});

test("endpoint_sample: what balancing distinguishes is represented, with its share", () => {
  const rare: Partial<Workload>[] = [
    { services: { [KEY]: { 80: 9999 } } },
    { locality: { region: "far", zone: "", subzone: "" } },
    { network: "n2", networkGateway: gateway("n2/10.9.9.9") },
    { clusterId: "c2" },
    { workloadIps: [] },
    { workloadIps: ["2001:db8::1"] },
    { applicationTunnel: { protocol: "PROXY", port: 15088 } },
    { hostname: "x.example" },
    { capacity: 0 },
  ];
  const all = pods(4000, (i) => i < rare.length ? rare[i] : {});
  const sample = sampleEndpoints(all, KEY, isLocal, seeded(3));
  for (let i = 0; i < rare.length; i++) assert.ok(sample.includes(all[i]), JSON.stringify(rare[i]));
  assert.ok(sample.length < 250);
});

test("endpoint_sample: endpoints that differ beyond measure are bounded all the same", () => {
  const all = pods(3000, (i) => ({ services: { [KEY]: { 80: i + 1 } } }));
  const sample = sampleEndpoints(all, KEY, isLocal, seeded(4));
  assert.ok(sample.length > 100 && sample.length < 400, String(sample.length));
  assert.ok(Math.abs(capacity(sample) - 3000) < 1e-6);
});

test("closure: of a large service some endpoints, of a small one all; who asks on behalf of no node gets all", () => {
  const shop = service("shop", ["10.96.0.1"]);
  const sampling = { nodeName: NODE, random: seeded(5) };
  const small = MeshStore.fromResources({ workloads: pods(WHOLE_ENDPOINTS), services: [shop], policies: [] });
  const whole = closureFor(small, "", "10.96.0.1", "default", sampling);
  assert.equal(whole.resources.workloads.length, WHOLE_ENDPOINTS);
  assert.equal(whole.sampled, undefined);
  const large = MeshStore.fromResources({ workloads: pods(WHOLE_ENDPOINTS + 1), services: [shop], policies: [] });
  const some = closureFor(large, "", "10.96.0.1", "default", sampling);
  assert.ok(some.sampled === true && some.resources.workloads.length < WHOLE_ENDPOINTS);
  assert.equal(closureFor(large, "", "10.96.0.1", "default").resources.workloads.length, WHOLE_ENDPOINTS + 1);
});

test("closure: an unhealthy endpoint is in no sample, unless the service allows it", () => {
  const all = pods(2000, (i) => ({ status: i % 2 === 0 ? "Healthy" : "Unhealthy" }));
  const sampling = { nodeName: NODE, random: seeded(6) };
  for (const healthPolicy of ["OnlyHealthy", "AllowAll"] as const) {
    const loadBalancer = { routingPreferences: [], mode: "Standard", healthPolicy } as const;
    const shop = service("shop", ["10.96.0.1"], { loadBalancer });
    const store = MeshStore.fromResources({ workloads: all, services: [shop], policies: [] });
    const { workloads } = closureFor(store, "", "10.96.0.1", "default", sampling).resources;
    assert.equal(workloads.some(({ status }) => status === "Unhealthy"), healthPolicy === "AllowAll");
  }
});

test("closure: a member of a large and a small service weighs in the small one what it does", () => {
  const all = pods(2000, (i) => i < 3 ? endpointOf("shop", "waypoint") : {});
  const shop = service("shop", ["10.96.0.1"], { waypoint: gateway("default/waypoint.default.svc") });
  const waypoint = service("waypoint", ["10.96.0.2"], { ports: { 15008: 15008 } });
  const store = MeshStore.fromResources({ workloads: all, services: [shop, waypoint], policies: [] });
  for (let seed = 0; seed < 50; seed++) {
    const sampling = { nodeName: NODE, random: seeded(seed) };
    const { workloads } = closureFor(store, "", "10.96.0.1", "default", sampling).resources;
    const members = workloads.filter(({ services }) => "default/waypoint.default.svc" in services);
    assert.deepEqual(members.map((found) => found.capacity), [1, 1, 1]);
  }
});

test("closure: what a sample decides, the whole mesh may decide", () => {
  const preferences = fc.constantFrom<RoutingScope[]>([], ["Network"], ["Network", "Region"], ["Node"], [
    "Region",
    "Node",
  ]);
  const mode = fc.constantFrom<"Standard" | "Strict" | "Failover">("Standard", "Strict", "Failover");
  fc.assert(
    fc.property(preferences, mode, fc.integer(), fc.integer({ min: 1, max: 400 }), (scopes, lbMode, seed, rarity) => {
      const random = seeded(seed);
      const all = pods(1200, (i) => ({
        node: i % rarity === 0 ? NODE : `node-${i % 7}`,
        locality: { region: i % (rarity + 1) === 0 ? "r1" : "r2", zone: "", subzone: "" },
        capacity: i % 3,
        services: { [KEY]: (i % (rarity + 2) === 0 ? { 81: 8181 } : {}) as PortMap },
      }));
      const shop = service("shop", ["10.96.0.1"], {
        ports: { 80: 8080, 81: 0 },
        loadBalancer: { routingPreferences: scopes, mode: lbMode, healthPolicy: "OnlyHealthy" },
      });
      const store = MeshStore.fromResources({ workloads: all, services: [shop], policies: [] });
      const from = { ...client, node: NODE, locality: { region: "r1", zone: "", subzone: "" } };
      const closure = closureFor(store, "", "10.96.0.1", "default", { nodeName: NODE, random });
      assert.ok(closure.sampled);
      const part = MeshStore.fromResources(closure.resources);
      for (const port of [80, 81, 82]) {
        const asked = request(`10.96.0.1:${port}`, from);
        const possible = new Set(Array.from({ length: 300 }, () => describe(resolveOutbound(store, asked, random))));
        const decided = resolveOutbound(part, asked, random);
        const whole = resolveOutbound(store, asked, random);
        assert.equal(decided.kind, whole.kind);
        if (decided.kind !== "hbone" || whole.kind !== "hbone") continue;
        // Of the same rank as what the whole mesh would choose.
        for (const field of ["locality", "network"] as const) {
          if (possible.size < 50) assert.ok(possible.has(describe(decided)), describe(decided));
          else if (lbMode !== "Standard" && scopes.includes("Region")) {
            assert.deepEqual(decided.workload[field], whole.workload[field]);
          }
        }
      }
    }),
    { numRuns: 60 },
  );
});

function describe(outbound: ReturnType<typeof resolveOutbound>): string {
  return outbound.kind === "hbone" ? `${outbound.workload.uid} ${outbound.authority}` : outbound.kind;
}
