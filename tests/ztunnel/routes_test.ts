import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { MeshStore, Outbound, Workload } from "../../src/mesh/mod.ts";
import { InboundRoutes } from "../../src/ztunnel/inbound_routes.ts";
import { meshKey } from "../../src/ztunnel/mesh_cache.ts";
import { OutboundRoutes } from "../../src/ztunnel/outbound_routes.ts";
import type { Tunnelled } from "../../src/ztunnel/outbound_tunnel.ts";
import type { PodProxy } from "../../src/ztunnel/pod_proxy.ts";
import { client, endpointOf, mesh, pod, service } from "../mesh/builders.ts";
import { SETTINGS } from "../review/pod_harness.ts";

const TARGET = { ip: "10.0.0.9", port: 80 };
const CLIENT_IP = "10.0.0.1";
const CHOICES = [0.1, 0.9, 0.1, 0.9];

/** As much of a pod as a decision needs. */
function podOf(workload: Workload, numbers: number[] = []): PodProxy {
  const env = { settings: SETTINGS, random: () => numbers.shift() ?? 0.5 };
  return { workload, env, identity: "me" } as unknown as PodProxy;
}

function tunnelOf(decision: Outbound): Tunnelled {
  assert.equal(decision.kind, "hbone");
  return decision as Tunnelled;
}

describe("outbound_routes", () => {
  const web = mesh([pod("web", [TARGET.ip])]);

  test("outbound_routes: a destination is one route, known by address and port", () => {
    const routes = new OutboundRoutes(SETTINGS);
    const route = routes.to(TARGET, "default");
    assert.equal(routes.to({ ...TARGET }, "default"), route);
    assert.notEqual(routes.to({ ...TARGET, port: 81 }, "default"), route);
    assert.notEqual(routes.to({ ...TARGET, ip: "10.0.0.8" }, "default"), route);
    assert.equal(route.original, "10.0.0.9:80");
    assert.equal(route.key, meshKey({ kind: "address", network: "", ip: TARGET.ip, namespace: "default" }));
    assert.deepEqual(routes.to(TARGET, "other").query, { ...route.query, namespace: "other" });
  });

  test("outbound_routes: what was decided stands, with its tunnels, as long as nothing it was made of changes", () => {
    const route = new OutboundRoutes(SETTINGS).to(TARGET, "default");
    const self = podOf(client);
    const decision = tunnelOf(route.decide(self, web, CLIENT_IP));
    assert.equal(route.decide(self, web, CLIENT_IP), decision);
    assert.equal(route.tunnels(self, decision), route.tunnels(self, decision));
    assert.deepEqual(decision.expectedIdentities, ["spiffe://cluster.local/ns/default/sa/web"]);
  });

  test("outbound_routes: another answer about the mesh is another decision, with tunnels of its own", () => {
    const route = new OutboundRoutes(SETTINGS).to(TARGET, "default");
    const self = podOf(client);
    const before = tunnelOf(route.decide(self, web, CLIENT_IP));
    const tunnels = route.tunnels(self, before);
    const moved = mesh([pod("web", [TARGET.ip], { serviceAccount: "other" })]);
    const after = tunnelOf(route.decide(self, moved, CLIENT_IP));
    assert.deepEqual(after.expectedIdentities, ["spiffe://cluster.local/ns/default/sa/other"]);
    assert.notEqual(route.tunnels(self, after), tunnels);
    assert.notEqual(
      route.tunnels(self, before),
      route.tunnels(self, after),
      "nor does a decision that is gone take them",
    );
    assert.equal(route.decide(self, mesh([]), CLIENT_IP).kind, "passthrough");
  });

  test("outbound_routes: so is one for another record of the pod, or another client address", () => {
    const waypoint = { destination: "default/way.default.svc", hboneMtlsPort: 15008 } as const;
    const store = mesh(
      [pod("web", [TARGET.ip], { waypoint }), pod("way", ["10.0.0.7"], endpointOf("way"))],
      [service("way", ["10.2.0.7"], { ports: { 15008: 15008 } })],
    );
    const route = new OutboundRoutes(SETTINGS).to(TARGET, "default");
    const numbers = () => podOf(client);
    assert.equal(tunnelOf(route.decide(numbers(), store, CLIENT_IP)).tunnelTo.ip, "10.0.0.7");
    // A waypoint's own traffic does not come back to it.
    const way = pod("way", ["10.0.0.7"], endpointOf("way"));
    assert.equal(tunnelOf(route.decide(podOf(way), store, "10.0.0.7")).tunnelTo.ip, TARGET.ip);
    assert.equal(tunnelOf(route.decide(podOf(way), store, "10.0.0.6")).tunnelTo.ip, "10.0.0.7");
  });

  test("outbound_routes: where chance decides it decides each time", () => {
    const store = mesh(
      [pod("a", ["10.0.0.11"], endpointOf("shop")), pod("b", ["10.0.0.12"], endpointOf("shop"))],
      [service("shop", ["10.1.0.1"])],
    );
    const route = new OutboundRoutes(SETTINGS).to({ ip: "10.1.0.1", port: 80 }, "default");
    const self = podOf(client, [...CHOICES]);
    const ips = CHOICES.map(() => tunnelOf(route.decide(self, store, CLIENT_IP)).tunnelTo.ip);
    assert.deepEqual(ips, ["10.0.0.11", "10.0.0.12", "10.0.0.11", "10.0.0.12"]);
  });

  test("outbound_routes: ever new destinations do not pile up", () => {
    const routes = new OutboundRoutes(SETTINGS);
    const first = routes.to(TARGET, "default");
    for (let port = 1; port <= 1_000; port++) routes.to({ ip: "10.0.0.3", port }, "default");
    assert.notEqual(routes.to(TARGET, "default"), first, "it was forgotten");
  });
});

describe("inbound_routes", () => {
  const LOCAL = "10.0.0.9";
  const REQUEST = { network: "", illegalPorts: [15008], localhostAppTunnel: false };
  const nothing = mesh([]);
  const web = pod("web", [LOCAL]);

  function destinationOf(routes: InboundRoutes, authority: string, view: MeshStore = nothing, workload = web): string {
    const outcome = routes.to(authority, LOCAL, workload).resolve(view, REQUEST);
    return outcome.kind === "forward" ? `${outcome.to.ip}:${outcome.to.port}` : outcome.code;
  }

  test("inbound_routes: each authority by itself, well-formed or not", () => {
    const routes = new InboundRoutes("");
    for (let round = 0; round < 2; round++) {
      assert.equal(destinationOf(routes, `${LOCAL}:80`), `${LOCAL}:80`);
      assert.equal(destinationOf(routes, `${LOCAL}:81`), `${LOCAL}:81`);
      assert.equal(destinationOf(routes, "10.0.0.8:80"), "ip_mismatch");
      assert.equal(destinationOf(routes, `${LOCAL}:15008`), "self_call");
      assert.equal(destinationOf(routes, "nowhere"), "invalid_authority");
    }
    assert.equal(routes.to(`${LOCAL}:80`, LOCAL, web), routes.to(`${LOCAL}:80`, LOCAL, web));
    assert.equal(routes.to(`${LOCAL}:80`, LOCAL, web).asks, undefined, "nothing must be known of the own address");
    assert.deepEqual(routes.to("10.0.0.8:80", LOCAL, web).asks?.query, {
      kind: "address",
      network: "",
      ip: "10.0.0.8",
      namespace: undefined,
    });
  });

  test("inbound_routes: another address of the pod or another record of it is judged anew", () => {
    const routes = new InboundRoutes("");
    assert.equal(destinationOf(routes, "10.0.0.8:80"), "ip_mismatch");
    const known = routes.to("10.0.0.8:80", "10.0.0.8", web).resolve(nothing, REQUEST);
    assert.equal(known.kind, "forward");
    assert.equal(destinationOf(routes, "10.0.0.8:80"), "ip_mismatch");
    const tunnel = pod("web", [LOCAL], { applicationTunnel: { protocol: "NONE", port: 9090 } });
    assert.equal(destinationOf(routes, "10.0.0.8:80", nothing, tunnel), `${LOCAL}:9090`);
    assert.equal(destinationOf(routes, "10.0.0.8:80"), "ip_mismatch");
  });

  test("inbound_routes: another answer about the mesh is another outcome", () => {
    const routes = new InboundRoutes("");
    const authority = "shop.default.svc:80";
    const own = pod("web", [LOCAL], endpointOf("shop"));
    const shop = (port: number) => mesh([own], [service("shop", ["10.1.0.1"], { ports: { 80: port } })]);
    assert.equal(destinationOf(routes, authority, nothing, own), "unknown_service");
    assert.equal(destinationOf(routes, authority, shop(8080), own), `${LOCAL}:8080`);
    assert.equal(destinationOf(routes, authority, shop(9090), own), `${LOCAL}:9090`);
  });

  test("inbound_routes: the service is the one that the client named, of the mesh as it is now", () => {
    const own = pod("web", [LOCAL], endpointOf("one", "two"));
    const both = mesh([own], [service("one", ["10.1.0.1"]), service("two", ["10.1.0.2"])]);
    const two = mesh([own], [service("two", ["10.1.0.2"])]);
    const route = new InboundRoutes("").to(`${LOCAL}:8080`, LOCAL, own);
    for (let round = 0; round < 2; round++) {
      assert.equal(route.service(both, 8080, undefined)?.name, "one");
      assert.equal(route.service(both, 8080, "two.default.svc")?.name, "two");
      assert.equal(route.service(both, 9999, undefined), undefined);
      assert.equal(route.service(two, 8080, undefined)?.name, "two");
    }
  });

  test("inbound_routes: what a peer makes up is not kept for long, and what is too long not at all", () => {
    const routes = new InboundRoutes("");
    const first = routes.to(`${LOCAL}:80`, LOCAL, web);
    for (let port = 1; port <= 1_000; port++) routes.to(`10.0.0.3:${port}`, LOCAL, web);
    assert.notEqual(routes.to(`${LOCAL}:80`, LOCAL, web), first);
    const long = `${"a".repeat(5_000)}:80`;
    assert.notEqual(routes.to(long, LOCAL, web), routes.to(long, LOCAL, web));
    const client = routes.client("10.0.0.1");
    assert.equal(routes.client("10.0.0.1"), client);
    for (let i = 0; i < 1_000; i++) routes.client(`10.3.${i >> 8}.${i & 255}`);
    assert.notEqual(routes.client("10.0.0.1"), client);
  });
});
