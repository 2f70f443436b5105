import assert from "node:assert/strict";
import { test } from "node:test";
import { type MeshStore, missingForAddress, missingServices } from "../../src/mesh/mod.ts";
import { endpointOf, gateway, mesh, pod, service } from "./builders.ts";

const missing = (view: MeshStore, ip: string) => missingForAddress(view, "", ip, "default");
const remote = pod("r", [], { network: "n2", networkGateway: gateway("n2/10.9.0.1"), ...endpointOf("one") });
const one = service("one", ["10.1.0.1"]);
const waypoint = service("waypoint", ["10.1.0.9"], { ports: { 15008: 15008 } });

test("missing: an address that nothing has is asked for itself", () => {
  assert.deepEqual(missing(mesh([]), "10.1.0.1"), { primary: "/10.1.0.1", references: [] });
  assert.deepEqual(missingForAddress(mesh([]), "n1", "::1"), { primary: "n1/::1", references: [] });
  const hidden = service("hidden", ["10.1.0.5"], { namespace: "other", visibility: "Namespace" });
  assert.equal(
    missing(mesh([], [hidden]), "10.1.0.5").primary,
    "/10.1.0.5",
    "what a client may not see is not known to it",
  );
});

test("missing: nothing, when all that a decision needs is there", () => {
  const store = mesh([pod("a", ["10.0.0.1"], endpointOf("one"))], [one]);
  assert.deepEqual(missing(store, "10.1.0.1"), { primary: undefined, references: [] });
  assert.deepEqual(missing(store, "10.0.0.1"), { primary: undefined, references: [] });
});

test("missing: waypoints of services and workloads, in both forms, without those that get no traffic", () => {
  const weighted = [
    { destination: gateway("default/heavy.svc"), weight: 1 },
    { destination: gateway("default/none.svc"), weight: 0 },
  ];
  const store = mesh(
    [pod("a", ["10.0.0.1"], { waypoint: gateway("/10.0.0.77") })],
    [{ ...one, waypoint: gateway("default/waypoint.default.svc"), weightedWaypoints: weighted }],
  );
  assert.deepEqual(missing(store, "10.1.0.1").references, ["default/waypoint.default.svc", "default/heavy.svc"]);
  assert.deepEqual(missing(store, "10.0.0.1").references, ["/10.0.0.77"]);
});

test("missing: network gateways of endpoints in other networks, those of waypoints too", () => {
  assert.deepEqual(missing(mesh([remote], [one]), "10.1.0.1").references, ["n2/10.9.0.1"]);
  const behind = { ...one, waypoint: gateway("default/waypoint.default.svc") };
  const far = pod("w", [], {
    network: "n2",
    networkGateway: gateway("border/gw.svc"),
    services: { ["default/waypoint.default.svc" as never]: {} },
  });
  assert.deepEqual(missing(mesh([far], [behind, waypoint]), "10.1.0.1").references, ["border/gw.svc"]);
  const gw = pod("gw", ["10.9.0.1"], { network: "n2" });
  assert.deepEqual(missing(mesh([remote, gw], [one]), "10.1.0.1").references, []);
});

test("missing: a hostname that only a workload has is no service that is missing", () => {
  const named = pod("w", ["10.0.0.9"], { hostname: "w.example" });
  const store = mesh([named], [{ ...one, waypoint: gateway("default/w.example") }]);
  assert.deepEqual(missing(store, "10.1.0.1").references, []);
});

test("missing: services that a workload belongs to", () => {
  const member = pod("a", ["10.0.0.1"], endpointOf("one", "two"));
  assert.deepEqual(missingServices(mesh([member], [one]), member), ["default/two.default.svc"]);
});
