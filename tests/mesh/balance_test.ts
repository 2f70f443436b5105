import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { balance, type BalanceMode, pickByWeight, runningSums } from "../../src/mesh/balance.ts";
import type { LoadBalancer, RoutingScope, Service, Workload } from "../../src/mesh/mod.ts";
import { endpointOf, gateway, key, mesh, pod, sequence, service } from "./builders.ts";

const from = pod("client", ["10.0.0.1"], {
  network: "n1",
  node: "node-1",
  clusterId: "c1",
  locality: { region: "r1", zone: "z1", subzone: "s1" },
});

/** Every endpoint that can be picked, as `name:port`. */
function picks(
  workloads: readonly Workload[],
  of: Service = service("one", ["10.1.0.1"]),
  port = 80,
  mode: BalanceMode = "standard",
): string[] {
  const store = mesh(workloads, [of]);
  const found = new Set<string>();
  for (let i = 0; i < 64; i++) {
    const picked = balance(store, of, port, from, mode, sequence(i / 64));
    if (picked !== undefined) found.add(`${picked.workload.name}:${picked.port}`);
  }
  return [...found].sort();
}

function at(name: string, network: string, region = "", zone = "", fields: Partial<Workload> = {}): Workload {
  return pod(name, ["10.0.1.1"], {
    network,
    networkGateway: gateway("gw/10.9.9.9"),
    locality: { region, zone, subzone: "" },
    ...endpointOf("one"),
    ...fields,
  });
}

function preferring(mode: LoadBalancer["mode"], ...routingPreferences: readonly RoutingScope[]): Service {
  return service("one", ["10.1.0.1"], { loadBalancer: { mode, routingPreferences, healthPolicy: "OnlyHealthy" } });
}

const far = at("far", "n2", "r2", "z2");
const network = at("network", "n1", "r2", "z2");
const region = at("region", "n2", "r1", "z2");
const zone = at("zone", "n2", "r1", "z1");
const networkRegion = at("network-region", "n1", "r1", "z2");
const networkZone = at("network-zone", "n1", "r1", "z1");

describe("balance: locality", () => {
  const table: readonly (readonly [string, Service, readonly Workload[], readonly string[]])[] = [
    ["standard ignores it", preferring("Standard", "Network"), [far, networkZone], ["far", "network-zone"]],
    ["strict, none matches", preferring("Strict", "Network", "Region", "Zone"), [far, region, networkRegion], []],
    ["strict, one matches", preferring("Strict", "Network", "Region", "Zone"), [far, zone, networkZone], [
      "network-zone",
    ]],
    ["failover, full match", preferring("Failover", "Network", "Region", "Zone"), [
      far,
      zone,
      networkRegion,
      networkZone,
    ], [
      "network-zone",
    ]],
    ["failover, region", preferring("Failover", "Network", "Region", "Zone"), [far, region], ["region"]],
    ["failover, the same network outranks region and zone", preferring("Failover", "Network", "Region", "Zone"), [
      far,
      zone,
      network,
    ], ["network"]],
    ["failover, region and zone before region in other networks", preferring("Failover", "Network", "Region", "Zone"), [
      far,
      region,
      zone,
    ], ["zone"]],
    ["failover, none matches", preferring("Failover", "Network", "Region", "Zone"), [far], ["far"]],
    ["failover, all of the best rank", preferring("Failover", "Region"), [far, region, zone, networkZone], [
      "network-zone",
      "region",
      "zone",
    ]],
    ["failover stops at the first that does not match", preferring("Failover", "Zone", "Network"), [network, far], [
      "far",
      "network",
    ]],
    ["strict without preferences keeps all", preferring("Strict"), [far, network], ["far", "network"]],
    ["node, cluster and subzone count too", preferring("Strict", "Subzone", "Node", "Cluster"), [
      at("same", "n1", "", "", { node: "node-1", clusterId: "c1", locality: { region: "", zone: "", subzone: "s1" } }),
      at("node", "n1", "", "", { node: "node-2", clusterId: "c1", locality: { region: "", zone: "", subzone: "s1" } }),
      at("cluster", "n1", "", "", {
        node: "node-1",
        clusterId: "c2",
        locality: { region: "", zone: "", subzone: "s1" },
      }),
      at("subzone", "n1", "", "", { node: "node-1", clusterId: "c1" }),
    ], ["same"]],
  ];
  for (const [name, of, workloads, expected] of table) {
    test(`balance: ${name}`, () => assert.deepEqual(picks(workloads, of), expected.map((found) => `${found}:8080`)));
  }
});

describe("balance: candidates", () => {
  const named = service("one", [], { ports: { 80: 0 } });
  const tunnelled = pod("t", ["10.0.0.2"], {
    ...endpointOf("one"),
    applicationTunnel: { protocol: "PROXY", port: 15088 },
  });
  const portless = pod("t", ["10.0.0.2"], {
    ...endpointOf("one"),
    applicationTunnel: { protocol: "NONE", port: undefined },
  });
  const own = (ports: Record<number, number>) =>
    pod("own", ["10.0.0.2"], { services: { [key("default/one.default.svc")]: ports } });

  test("balance: an endpoint without address, hostname or gateway is never chosen", () => {
    assert.deepEqual(picks([pod("a", [], { network: "n1", ...endpointOf("one") })]), []);
    assert.deepEqual(picks([pod("a", [], { network: "n2", ...endpointOf("one") })]), []);
    assert.deepEqual(picks([at("a", "n1", "", "", { workloadIps: [] })]), []);
    assert.deepEqual(picks([at("a", "n2", "", "", { workloadIps: [] })]), ["a:8080"]);
    assert.deepEqual(picks([pod("a", [], { hostname: "h", ...endpointOf("one") })]), ["a:8080"]);
  });
  test("balance: an endpoint's own port comes before the service's", () => {
    assert.deepEqual(picks([own({ 80: 9090 })]), ["own:9090"]);
    assert.deepEqual(picks([own({ 80: 0 })]), ["own:8080"]);
  });
  test("balance: a named port needs the endpoint to map it", () => {
    assert.deepEqual(picks([own({}), own({ 81: 1 })], named), []);
    assert.deepEqual(picks([own({ 80: 9090 })], named), ["own:9090"]);
  });
  test("balance: a port that the service does not have has no endpoint, even if one maps it", () => {
    assert.deepEqual(picks([own({ 81: 9090 })], undefined, 81), []);
  });
  test("balance: a waypoint with an application tunnel needs no port on the service", () => {
    const bare = service("one", [], { ports: {} });
    assert.deepEqual(picks([tunnelled], bare, 15008, "standard"), []);
    assert.deepEqual(picks([tunnelled], bare, 15008, "waypoint"), ["t:15008"]);
    assert.deepEqual(picks([portless], bare, 15008, "waypoint"), []);
    assert.deepEqual(picks([own({ 15008: 15009 })], bare, 15008, "waypoint"), ["own:15009"]);
  });
  test("balance: an endpoint of no capacity gets nothing, not even alone", () => {
    const idle = pod("idle", ["10.0.0.2"], { capacity: 0, ...endpointOf("one") });
    assert.deepEqual(picks([idle]), []);
    assert.deepEqual(picks([idle, own({})]), ["own:8080"]);
  });
});

test("balance: picks in proportion to capacity", () => {
  const one = service("one", []);
  const store = mesh([
    pod("a", ["10.0.0.2"], { capacity: 1, ...endpointOf("one") }),
    pod("b", ["10.0.0.3"], { capacity: 3, ...endpointOf("one") }),
  ], [one]);
  const counts: Record<string, number> = { a: 0, b: 0 };
  for (let i = 0; i < 1000; i++) {
    counts[balance(store, one, 80, from, "standard", sequence(i / 1000))!.workload.name]++;
  }
  assert.deepEqual(counts, { a: 250, b: 750 });
});

test("balance: sees a changed service and changed endpoints at once", () => {
  const one = service("one", []);
  const web = pod("a", ["10.0.0.2"], endpointOf("one"));
  const store = mesh([web], [one]);
  const port = () =>
    balance(store, store.serviceByKey(key("default/one.default.svc"))!, 80, from, "standard", () => 0)?.port;
  assert.equal(port(), 8080);
  store.apply({ upsert: { services: [service("one", [], { ports: { 80: 9000 } })] } });
  assert.equal(port(), 9000);
  store.apply({ upsert: { workloads: [{ ...web, status: "Unhealthy" }] } });
  assert.equal(port(), undefined);
});

test("balance: a weight of zero is never picked, and the edges of chance are safe", () => {
  const sums = runningSums([0, 2, 0, 1, 0]);
  assert.deepEqual([0, 0.5, 0.7, 0.999999].map((point) => pickByWeight("abcde".split(""), sums, () => point)), [
    "b",
    "b",
    "d",
    "d",
  ]);
  assert.equal(pickByWeight(["a"], runningSums([0]), () => 0), undefined);
  assert.equal(pickByWeight([], runningSums([]), () => 0), undefined);
});
