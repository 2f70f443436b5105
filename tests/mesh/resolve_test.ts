import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type MeshStore, resolveOutbound, type Service } from "../../src/mesh/mod.ts";
import { client, endpointOf, gateway, key, mesh, pod, request, sequence, service } from "./builders.ts";
import { decide, table } from "./decisions.ts";

const web = pod("web", ["10.0.0.2"]);
const plain = pod("plain", ["10.0.0.3"], { protocol: "TCP" });
const waypoint = pod("waypoint", ["10.0.0.10"], { serviceAccount: "waypoint", ...endpointOf("waypoint") });
const waypointService = service("waypoint", ["10.1.0.10"], { ports: { 15008: 15008 } });
const backend = pod("backend", ["10.0.0.20"], endpointOf("one"));
const one = service("one", ["10.1.0.1"]);

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

test("resolve: endpoint ports come before service ports", () => {
  const own = pod("own", ["10.0.0.20"], { services: { [key("default/one.default.svc")]: { 80: 9090 } } });
  assert.equal(decide(mesh([own], [one]), request("10.1.0.1:80")), "direct 10.0.0.20:15008 for 10.0.0.20:9090 by own");
});
