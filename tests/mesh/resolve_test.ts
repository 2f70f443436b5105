import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  formatSocketAddress,
  type MeshStore,
  type Outbound,
  type OutboundRequest,
  resolveOutbound,
  type Service,
  type Workload,
} from "../../src/mesh/mod.ts";
import { client, endpointOf, gateway, key, mesh, pod, request, sequence, service } from "./builders.ts";

/** A decision in one line. */
function shown(outbound: Outbound): string {
  switch (outbound.kind) {
    case "passthrough":
      return `passthrough ${formatSocketAddress(outbound.to)}`;
    case "tcp":
      return `tcp ${formatSocketAddress(outbound.to)} ${outbound.workload.name}`;
    case "hbone":
      return `${outbound.via} ${
        formatSocketAddress(outbound.tunnelTo)
      } for ${outbound.authority} by ${outbound.workload.name}`;
    case "doubleHbone":
      return `double ${formatSocketAddress(outbound.tunnelTo)} for ${outbound.authority} by ${outbound.workload.name}`;
    case "needsDns":
      return `dns ${outbound.hostname} then ${shown(outbound.withAddress("192.0.2.1"))}`;
    case "refused":
      return `refused ${outbound.code}`;
  }
}

function decide(store: MeshStore, wanted: OutboundRequest, random: () => number = () => 0): string {
  return shown(resolveOutbound(store, wanted, random));
}

const web = pod("web", ["10.0.0.2"]);
const plain = pod("plain", ["10.0.0.3"], { protocol: "TCP" });
const waypoint = pod("waypoint", ["10.0.0.10"], { serviceAccount: "waypoint", ...endpointOf("waypoint") });
const waypointService = service("waypoint", ["10.1.0.10"], { ports: { 15008: 15008 } });
const backend = pod("backend", ["10.0.0.20"], endpointOf("one"));
const one = service("one", ["10.1.0.1"]);

type Row = readonly [name: string, wanted: OutboundRequest, expected: string];

function table(workloads: readonly Workload[], services: readonly Service[], rows: readonly Row[]): void {
  const store = mesh([client, ...workloads], services);
  for (const [name, wanted, expected] of rows) {
    test(`resolve: ${name}`, () => assert.equal(decide(store, wanted), expected));
  }
}

describe("resolve: workloads", () => {
  table([web, plain, pod("out", ["10.0.0.4"], { network: "n2" })], [], [
    ["an unknown destination passes through", request("8.8.8.8:443"), "passthrough 8.8.8.8:443"],
    ["a workload of another network is not known by its ip", request("10.0.0.4:80"), "passthrough 10.0.0.4:80"],
    ["a workload with HBONE is tunnelled to", request("10.0.0.2:80"), "direct 10.0.0.2:15008 for 10.0.0.2:80 by web"],
    ["a workload without HBONE is connected to", request("10.0.0.3:80"), "tcp 10.0.0.3:80 plain"],
    [
      "the same node makes no difference",
      request("10.0.0.2:80", pod("near", ["10.0.0.5"], { node: web.node })),
      "direct 10.0.0.2:15008 for 10.0.0.2:80 by web",
    ],
  ]);

  test("resolve: a direct tunnel expects the workload's identity and the service's names, each once", () => {
    const own = "spiffe://cluster.local/ns/default/sa/backend";
    const named = { ...one, subjectAltNames: ["spiffe://x/ns/a/sa/b", own] };
    for (const [of, expected] of [[one, [own]], [named, named.subjectAltNames]] as const) {
      const outbound = resolveOutbound(mesh([backend], [of]), request("10.1.0.1:80"), () => 0);
      assert.ok(outbound.kind === "hbone");
      assert.deepEqual(outbound.expectedIdentities, expected);
      assert.equal(outbound.service, of);
    }
  });
});

describe("resolve: services", () => {
  const hostPod = pod("host", ["10.0.0.99"], { networkMode: "HostNetwork", protocol: "TCP", ...endpointOf("host") });
  const pass = (name: string, ip: string, fields: Partial<Service> = {}) =>
    service(name, [ip], {
      loadBalancer: { mode: "Passthrough", routingPreferences: [], healthPolicy: "OnlyHealthy" },
      ...fields,
    });
  table([backend, waypoint, hostPod], [
    one,
    waypointService,
    service("empty", ["10.1.0.2"]),
    service("host", ["10.1.0.3"]),
    pass("pass", "10.1.0.4"),
    pass("pass-waypoint", "10.1.0.5", { waypoint: gateway("/10.1.0.10") }),
    service("range", [], { cidrVips: [{ network: "", cidr: "172.16.0.0/12" }] }),
  ], [
    [
      "a service goes to an endpoint's target port",
      request("10.1.0.1:80"),
      "direct 10.0.0.20:15008 for 10.0.0.20:8080 by backend",
    ],
    ["a port the service does not have is refused", request("10.1.0.1:81"), "refused no_healthy_upstream"],
    ["a service without endpoints is refused", request("10.1.0.2:80"), "refused no_healthy_upstream"],
    ["a service inside a range without endpoints is refused", request("172.16.5.5:80"), "refused no_healthy_upstream"],
    ["a VIP leads to host-network pods", request("10.1.0.3:80"), "tcp 10.0.0.99:8080 host"],
    ["a node's ip passes through", request("10.0.0.99:8080"), "passthrough 10.0.0.99:8080"],
    ["a passthrough service passes through", request("10.1.0.4:80"), "passthrough 10.1.0.4:80"],
    [
      "a passthrough service with a waypoint goes to the waypoint",
      request("10.1.0.5:80"),
      "waypoint 10.0.0.10:15008 for 10.1.0.5:80 by waypoint",
    ],
  ]);

  test("resolve: a refusal says what is wrong with the service", () => {
    const store = mesh([client], [one]);
    const hint = (target: string) => {
      const outbound = resolveOutbound(store, request(target), () => 0);
      return outbound.kind === "refused" ? [outbound.message, outbound.hint] : [];
    };
    assert.deepEqual(hint("10.1.0.1:81"), [
      "no healthy upstream: 10.1.0.1:81",
      "service default/one.default.svc has no port 81",
    ]);
    assert.match(hint("10.1.0.1:80")[1], /no healthy endpoint for port 80/);
  });

  test("resolve: a service that other namespaces cannot see is only there for its own", () => {
    const store = mesh([backend], [{ ...one, visibility: "Namespace" }]);
    assert.equal(decide(store, request("10.1.0.1:80")), "direct 10.0.0.20:15008 for 10.0.0.20:8080 by backend");
    const stranger = pod("stranger", ["10.0.0.7"], { namespace: "other" });
    assert.equal(decide(store, request("10.1.0.1:80", stranger)), "passthrough 10.1.0.1:80");
  });
});

describe("resolve: waypoints", () => {
  const guarded = (name: string, ip: string, destination: string, port = 15008) =>
    pod(name, [ip], { waypoint: gateway(destination, port) });
  const lone = pod("lone", ["10.0.0.11"], { hostname: "lone.example" });
  const sandwich = pod("sandwich", ["10.0.0.12"], {
    applicationTunnel: { protocol: "PROXY", port: 15088 },
    ...endpointOf("sandwich"),
  });
  table(
    [
      waypoint,
      lone,
      sandwich,
      backend,
      guarded("by-ip", "10.0.0.30", "/10.0.0.10"),
      guarded("by-vip", "10.0.0.31", "/10.1.0.10"),
      guarded("by-hostname", "10.0.0.32", "default/waypoint.default.svc"),
      guarded("by-workload-hostname", "10.0.0.33", "default/lone.example", 15009),
      guarded("unknown", "10.0.0.34", "/10.0.0.200"),
      guarded("wrong-port", "10.0.0.35", "/10.1.0.10", 15009),
      guarded("wrong-namespace", "10.0.0.36", "other/lone.example"),
    ],
    [
      waypointService,
      service("sandwich", ["10.1.0.12"], { ports: {} }),
      service("guarded", ["10.1.0.20"], { waypoint: gateway("/10.1.0.10") }),
      service("guarded-name", ["10.1.0.21"], { waypoint: gateway("default/waypoint.default.svc") }),
      service("guarded-gone", ["10.1.0.22"], { waypoint: gateway("default/gone.default.svc") }),
      service("guarded-sandwich", ["10.1.0.23"], { waypoint: gateway("default/sandwich.default.svc") }),
      service("unguarded", ["10.1.0.24"]),
    ],
    [
      ["a workload's waypoint by ip", request("10.0.0.30:80"), "waypoint 10.0.0.10:15008 for 10.0.0.30:80 by waypoint"],
      [
        "a workload's waypoint by VIP",
        request("10.0.0.31:80"),
        "waypoint 10.0.0.10:15008 for 10.0.0.31:80 by waypoint",
      ],
      [
        "a workload's waypoint by hostname",
        request("10.0.0.32:80"),
        "waypoint 10.0.0.10:15008 for 10.0.0.32:80 by waypoint",
      ],
      [
        "a waypoint by a hostname that only a workload has, on the port as it is",
        request("10.0.0.33:80"),
        "waypoint 10.0.0.11:15009 for 10.0.0.33:80 by lone",
      ],
      ["an unknown waypoint is never gone around", request("10.0.0.34:80"), "refused unknown_waypoint"],
      ["a waypoint without the port is unknown", request("10.0.0.35:80"), "refused unknown_waypoint"],
      ["a hostname counts with its namespace", request("10.0.0.36:80"), "refused unknown_waypoint"],
      [
        "the waypoint itself goes direct",
        request("10.0.0.31:80", waypoint),
        "direct 10.0.0.31:15008 for 10.0.0.31:80 by by-vip",
      ],
      [
        "who has the waypoint's identity but not its ip is not the waypoint",
        { ...request("10.0.0.31:80", waypoint), client: { workload: waypoint, ip: "10.0.0.222" } },
        "waypoint 10.0.0.10:15008 for 10.0.0.31:80 by waypoint",
      ],
      [
        "who has the waypoint's ip but not its identity is not the waypoint",
        request("10.0.0.31:80", pod("fake", ["10.0.0.10"])),
        "waypoint 10.0.0.10:15008 for 10.0.0.31:80 by waypoint",
      ],
      ["a service's waypoint by VIP", request("10.1.0.20:80"), "waypoint 10.0.0.10:15008 for 10.1.0.20:80 by waypoint"],
      [
        "a service's waypoint by hostname",
        request("10.1.0.21:80"),
        "waypoint 10.0.0.10:15008 for 10.1.0.21:80 by waypoint",
      ],
      ["a service's unknown waypoint is never gone around", request("10.1.0.22:80"), "refused unknown_waypoint"],
      [
        "a waypoint behind an application tunnel needs no port on its service",
        request("10.1.0.23:80"),
        "waypoint 10.0.0.12:15008 for 10.1.0.23:80 by sandwich",
      ],
    ],
  );

  test("resolve: a service's endpoints' waypoint does not count for the service", () => {
    const store = mesh([pod("b", ["10.0.0.20"], { waypoint: gateway("/10.0.0.10"), ...endpointOf("one") }), waypoint], [
      one,
    ]);
    assert.equal(decide(store, request("10.1.0.1:80")), "direct 10.0.0.20:15008 for 10.0.0.20:8080 by b");
  });

  test("resolve: a waypoint proves its own identity or one of its service's names", () => {
    const named = { ...waypointService, subjectAltNames: ["spiffe://x/ns/a/sa/b"] };
    const store = mesh([waypoint], [named, {
      ...one,
      waypoint: gateway("/10.1.0.10"),
      subjectAltNames: ["spiffe://no/ns/a/sa/b"],
    }]);
    const outbound = resolveOutbound(store, request("10.1.0.1:80"), () => 0);
    assert.ok(outbound.kind === "hbone");
    assert.deepEqual(outbound.expectedIdentities, [
      "spiffe://x/ns/a/sa/b",
      "spiffe://cluster.local/ns/default/sa/waypoint",
    ]);
    assert.equal(outbound.service?.name, "one");
  });

  test("resolve: every replica of a waypoint is known as the waypoint", () => {
    const second = pod("waypoint-2", ["10.0.0.11"], { serviceAccount: "waypoint", ...endpointOf("waypoint") });
    const store = mesh([waypoint, second, guarded("g", "10.0.0.31", "/10.1.0.10")], [waypointService]);
    for (const point of [0, 0.9]) {
      assert.equal(
        decide(store, request("10.0.0.31:80", second), () => point),
        "direct 10.0.0.31:15008 for 10.0.0.31:80 by g",
      );
    }
  });

  test("resolve: weighted waypoints are sampled, and the plain one stands in when all weigh nothing", () => {
    const other = pod("other", ["10.0.0.13"]);
    const weighted = (a: number, b: number) =>
      mesh([waypoint, other, backend], [{
        ...one,
        waypoint: gateway("/10.0.0.13"),
        weightedWaypoints: [
          { destination: gateway("/10.0.0.10"), weight: a },
          { destination: gateway("/10.0.0.13"), weight: b },
        ],
      }]);
    const share = (store: MeshStore) => {
      let first = 0;
      for (let i = 0; i < 100; i++) {
        if (decide(store, request("10.1.0.1:80"), sequence(i / 100)).endsWith("by waypoint")) first++;
      }
      return first;
    };
    assert.equal(share(weighted(75, 25)), 75);
    assert.equal(share(weighted(1, 0)), 100);
    assert.equal(share(weighted(0, 0)), 0);
  });
});

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
      service("far-waypoint", ["n2/10.9.2.1"], { ports: { 15008: 15008 } }),
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

test("resolve: endpoint ports come before service ports", () => {
  const own = pod("own", ["10.0.0.20"], { services: { [key("default/one.default.svc")]: { 80: 9090 } } });
  assert.equal(decide(mesh([own], [one]), request("10.1.0.1:80")), "direct 10.0.0.20:15008 for 10.0.0.20:9090 by own");
});
