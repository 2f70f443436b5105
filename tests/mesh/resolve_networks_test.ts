import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { resolveOutbound, type Service } from "../../src/mesh/mod.ts";
import { endpointOf, gateway, mesh, pod, request, service } from "./builders.ts";
import { decide, table } from "./decisions.ts";

const waypointService = service("waypoint", ["10.1.0.10"], { ports: { 15008: 15008 } });
const one = service("one", ["10.1.0.1"]);

describe("resolve: other networks", () => {
  const sans = ["spiffe://cluster.local/ns/default/sa/remote"];
  const remote = (name: string, to: string, of: string, port = 15008) =>
    pod(name, [], { network: "n2", networkGateway: gateway(to, port), ...endpointOf(of) });
  const gw = pod("gw", ["10.9.0.1"], { network: "n2", ...endpointOf("gw") });
  const gwService = service("gw", ["n2/10.9.1.1"], {
    ports: { 15009: 15008 },
    subjectAltNames: ["spiffe://x/ns/gw/sa/gw"],
  });
  const vip = (name: string, ip: string, fields: Partial<Service> = {}) =>
    service(name, [ip], { subjectAltNames: sans, ...fields });
  table(
    [
      gw,
      pod("gw-here", ["10.0.0.80"], { hostname: "gw.example" }),
      remote("r1", "n2/10.9.0.1", "by-ip"),
      remote("r2", "n2/10.9.1.1", "by-vip", 15009),
      remote("r3", "default/gw.default.svc", "by-hostname", 15009),
      remote("r4", "default/gw.example", "by-workload"),
      remote("r5", "n2/10.9.9.9", "unknown"),
      pod("r6", ["10.20.0.6"], { network: "n2", ...endpointOf("no-gateway") }),
      remote("r7", "n2/10.9.0.1", "no-names"),
      pod("w", ["10.20.0.9"], { network: "n2", networkGateway: gateway("n2/10.9.0.1"), ...endpointOf("far-waypoint") }),
      pod("local", ["10.0.0.40"], endpointOf("both")),
      remote("r8", "n2/10.9.0.1", "both"),
      pod("guarded", ["10.0.0.41"], { waypoint: gateway("default/far-waypoint.default.svc") }),
    ],
    [
      gwService,
      vip("by-ip", "10.1.1.1"),
      vip("by-vip", "10.1.1.2"),
      vip("by-hostname", "10.1.1.3"),
      vip("by-workload", "10.1.1.4"),
      vip("unknown", "10.1.1.5"),
      vip("no-gateway", "10.1.1.6"),
      vip("no-names", "10.1.1.7", { subjectAltNames: [] }),
      service("far-waypoint", ["n2/10.9.2.1"], { ports: { 15008: 15008 }, subjectAltNames: ["spiffe://x/ns/w/sa/w"] }),
      vip("guarded", "10.1.1.8", { waypoint: gateway("default/far-waypoint.default.svc") }),
      vip("both", "10.1.1.9", {
        loadBalancer: { mode: "Failover", routingPreferences: ["Network"], healthPolicy: "OnlyHealthy" },
      }),
    ],
    [
      ["by a gateway's ip", request("10.1.1.1:80"), "double 10.9.0.1:15008 for by-ip.default.svc:80 by gw"],
      [
        "by a gateway's VIP and its target port",
        request("10.1.1.2:80"),
        "double 10.9.0.1:15008 for by-vip.default.svc:80 by gw",
      ],
      ["by a gateway's hostname", request("10.1.1.3:80"), "double 10.9.0.1:15008 for by-hostname.default.svc:80 by gw"],
      [
        "by a gateway workload's hostname",
        request("10.1.1.4:80"),
        "double 10.0.0.80:15008 for by-workload.default.svc:80 by gw-here",
      ],
      ["an unknown gateway is refused", request("10.1.1.5:80"), "refused unknown_gateway"],
      ["no gateway is refused", request("10.1.1.6:80"), "refused no_route"],
      ["a far end that nothing can verify is refused", request("10.1.1.7:80"), "refused no_far_identity"],
      [
        "a waypoint of another network is behind a gateway too",
        request("10.1.1.8:80"),
        "double 10.9.0.1:15008 for guarded.default.svc:80 by gw",
      ],
      ["a workload's waypoint of another network cannot be reached", request("10.0.0.41:80"), "refused no_route"],
      [
        "local endpoints come before remote ones",
        request("10.1.1.9:80"),
        "direct 10.0.0.40:15008 for 10.0.0.40:8080 by local",
      ],
    ],
  );

  test("resolve: fails over to the other network when no local endpoint is left", () => {
    const both = vip("both", "10.1.1.9", {
      loadBalancer: { mode: "Failover", routingPreferences: ["Network"], healthPolicy: "OnlyHealthy" },
    });
    const store = mesh([
      gw,
      pod("local", ["10.0.0.40"], { status: "Unhealthy", ...endpointOf("both") }),
      remote("r", "n2/10.9.0.1", "both"),
    ], [both]);
    assert.equal(decide(store, request("10.1.1.9:80")), "double 10.9.0.1:15008 for both.default.svc:80 by gw");
  });

  test("resolve: the outer tunnel expects the gateway, the inner one the service", () => {
    const store = mesh([gw, remote("r", "n2/10.9.1.1", "one", 15009)], [gwService, { ...one, subjectAltNames: sans }]);
    const outbound = resolveOutbound(store, request("10.1.0.1:80"), () => 0);
    assert.ok(outbound.kind === "doubleHbone");
    assert.deepEqual(outbound.expectedIdentities, [
      "spiffe://x/ns/gw/sa/gw",
      "spiffe://cluster.local/ns/default/sa/gw",
    ]);
    assert.deepEqual(outbound.innerIdentities, sans);
  });

  test("resolve: behind the gateway to a waypoint of another network the waypoint's service is expected", () => {
    const far = pod("w", [], { network: "n2", networkGateway: gateway("n2/10.9.0.1"), ...endpointOf("far-waypoint") });
    const guarded = { ...one, subjectAltNames: sans, waypoint: gateway("default/far-waypoint.default.svc") };
    const names = ["spiffe://x/ns/w/sa/w"];
    const waypoint = service("far-waypoint", ["n2/10.9.2.1"], { ports: { 15008: 15008 }, subjectAltNames: names });
    const outbound = resolveOutbound(mesh([gw, far], [guarded, waypoint]), request("10.1.0.1:80"), () => 0);
    assert.ok(outbound.kind === "doubleHbone");
    assert.deepEqual(outbound.innerIdentities, names);
    assert.equal(outbound.authority, "one.default.svc:80", "asked for what the client asked for");
    const nameless = { ...waypoint, subjectAltNames: [] };
    assert.equal(decide(mesh([gw, far], [guarded, nameless]), request("10.1.0.1:80")), "refused no_far_identity");
  });
});

describe("resolve: addresses", () => {
  const dual = pod("dual", ["10.0.0.20", "2001:db8::20"], endpointOf("any", "v4", "v6", "dual"));
  const only4 = pod("only4", ["10.0.0.21"], endpointOf("only4", "want6"));
  table([dual, only4, pod("dns", [], { hostname: "dns.example", ...endpointOf("dns") })], [
    service("any", ["10.1.0.1", "2001:db8:1::1"]),
    service("v4", ["10.1.0.2", "2001:db8:1::2"], { ipFamilies: "IPv4" }),
    service("v6", ["10.1.0.3", "2001:db8:1::3"], { ipFamilies: "IPv6" }),
    service("dual", ["10.1.0.4", "2001:db8:1::4"], { ipFamilies: "Dual" }),
    service("only4", ["10.1.0.5", "2001:db8:1::5"]),
    service("want6", ["10.1.0.6"], { ipFamilies: "IPv6" }),
    service("dns", ["10.1.0.7"]),
  ], [
    [
      "the second address of a workload",
      request("2001:db8::20:80"),
      "direct [2001:db8::20]:15008 for [2001:db8::20]:80 by dual",
    ],
    ["IPv4 to IPv4", request("10.1.0.1:80"), "direct 10.0.0.20:15008 for 10.0.0.20:8080 by dual"],
    ["IPv6 to IPv6", request("2001:db8:1::1:80"), "direct [2001:db8::20]:15008 for [2001:db8::20]:8080 by dual"],
    ["a service of IPv4 only", request("2001:db8:1::2:80"), "direct 10.0.0.20:15008 for 10.0.0.20:8080 by dual"],
    ["a service of IPv6 only", request("10.1.0.3:80"), "direct [2001:db8::20]:15008 for [2001:db8::20]:8080 by dual"],
    [
      "a service of both families",
      request("2001:db8:1::4:80"),
      "direct [2001:db8::20]:15008 for [2001:db8::20]:8080 by dual",
    ],
    [
      "IPv6 to IPv4 when there is nothing else",
      request("2001:db8:1::5:80"),
      "direct 10.0.0.21:15008 for 10.0.0.21:8080 by only4",
    ],
    ["an endpoint without an address of the family is refused", request("10.1.0.6:80"), "refused no_address"],
    [
      "an endpoint with only a hostname needs DNS",
      request("10.1.0.7:80"),
      "dns dns.example then direct 192.0.2.1:15008 for 192.0.2.1:8080 by dns",
    ],
  ]);

  test("resolve: a waypoint by hostname is reached by the client's family", () => {
    const w = pod("w", ["10.0.0.10", "2001:db8::10"], endpointOf("waypoint"));
    const store = mesh([w], [waypointService, { ...one, waypoint: gateway("default/waypoint.default.svc") }]);
    assert.match(decide(store, request("10.1.0.1:80")), /^waypoint 10\.0\.0\.10:15008/);
    assert.match(decide(store, request("10.1.0.1:80", pod("c6", ["2001:db8::1"]))), /^waypoint \[2001:db8::10\]:15008/);
  });
});
