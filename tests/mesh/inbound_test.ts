import assert from "node:assert/strict";
import { test } from "node:test";
import {
  describeAuthority,
  formatSocketAddress,
  type Inbound,
  type InboundRequest,
  inboundService,
  type NetworkAddress,
  parseAuthority,
  resolveInbound,
  type Workload,
  workloadUid,
} from "../../src/mesh/mod.ts";
import { endpointOf, gateway, key, mesh, pod, service } from "./builders.ts";

const proxyTunnel = { protocol: "PROXY", port: 15088 } as const;

const web = pod("web", ["10.0.0.2"], {
  services: { [key("default/web.default.svc")]: {}, [key("default/named.default.svc")]: { 80: 9090 } },
});
const guarded = pod("guarded", ["10.0.0.3"], { waypoint: gateway("/10.1.0.10") });
const guardedByName = pod("guarded-by-name", ["10.0.0.4"], { waypoint: gateway("default/waypoint.default.svc") });
const guardedByPod = pod("guarded-by-pod", ["10.0.0.5"], { waypoint: gateway("/10.0.0.10") });
const waypoint = pod("waypoint", ["10.0.0.10"], endpointOf("waypoint"));
const tunnelled = pod("tunnelled", ["10.0.0.11"], { applicationTunnel: proxyTunnel, ...endpointOf("web", "headless") });
const moved = pod("moved", ["10.0.0.12"], { applicationTunnel: { protocol: "NONE", port: 9999 } });
const unmoved = pod("unmoved", ["10.0.0.13"], { applicationTunnel: { protocol: "NONE", port: undefined } });
const v6 = pod("v6", ["2001:db8::2"], { applicationTunnel: proxyTunnel });

const store = mesh([web, guarded, guardedByName, guardedByPod, waypoint, tunnelled, moved, unmoved, v6], [
  service("web", ["10.1.0.1", "n2/10.9.0.1"]),
  service("named", ["10.1.0.2"], { ports: { 80: 0, 81: 0 } }),
  service("headless", []),
  service("foreign", ["10.1.0.3"], { namespace: "other", hostname: "foreign.example" }),
  service("private", ["10.1.0.4"], { namespace: "other", visibility: "Namespace" }),
  service("waypoint", ["10.1.0.10"], { ports: { 15008: 15008 } }),
  service("guarded", ["10.1.0.20"], { waypoint: gateway("/10.1.0.10") }),
  service("weighted", ["10.1.0.21"], {
    weightedWaypoints: [
      { destination: gateway("default/waypoint.default.svc"), weight: 1 },
      { destination: gateway("/10.0.0.2"), weight: 0 },
    ],
  }),
  service("self", ["10.1.0.30"], { ports: { 80: 15008 } }),
]);

function ask(local: Workload, authority: string, fields: Partial<InboundRequest> = {}): Inbound {
  return resolveInbound(store, {
    authority: parseAuthority(authority),
    network: "",
    localIp: local.workloadIps[0],
    workload: local,
    illegalPorts: [15001, 15006, 15008],
    localhostAppTunnel: false,
    ...fields,
  });
}

function shown(inbound: Inbound): string {
  if (inbound.kind === "rejected") return `${inbound.status} ${inbound.code}`;
  const tunnel = inbound.proxyTo === undefined ? "" : ` proxy ${formatSocketAddress(inbound.proxyTo)}`;
  const service = inbound.service === undefined ? "" : ` of ${inbound.service.name}`;
  return `${formatSocketAddress(inbound.to)}${service}${tunnel}`;
}

const TABLE: readonly (readonly [string, Workload, string, string])[] = [
  ["a pod for its own ip", web, "10.0.0.2:8080", "10.0.0.2:8080"],
  ["a pod for another's ip", web, "10.0.0.3:8080", "400 ip_mismatch"],
  ["a pod for an unknown ip", web, "8.8.8.8:8080", "400 ip_mismatch"],
  ["a pod for a VIP of its own service", web, "10.1.0.1:80", "400 ip_mismatch"],
  ["a service by hostname, on its target port", web, "web.default.svc:80", "10.0.0.2:8080 of web"],
  ["a service by hostname, on the pod's own port", web, "named.default.svc:80", "10.0.0.2:9090 of named"],
  ["a named port that the pod does not map", web, "named.default.svc:81", "503 no_service_port"],
  ["a port that the service does not have", web, "web.default.svc:81", "503 no_service_port"],
  ["an unknown hostname", web, "gone.default.svc:80", "503 unknown_service"],
  ["a hostname that is not visible", web, "private.other.svc:80", "503 unknown_service"],
  ["a hostname of another namespace", web, "foreign.example:80", "10.0.0.2:8080 of foreign"],
  ["a waypoint for a pod's ip", waypoint, "10.0.0.3:80", "10.0.0.10:80"],
  ["a waypoint that is referenced by hostname, for a pod's ip", waypoint, "10.0.0.4:80", "10.0.0.10:80"],
  ["a waypoint that is referenced by its pod's ip, for a pod's ip", waypoint, "10.0.0.5:80", "10.0.0.10:80"],
  ["a waypoint for a VIP", waypoint, "10.1.0.20:80", "10.0.0.10:80"],
  ["a weighted waypoint for a VIP", waypoint, "10.1.0.21:80", "10.0.0.10:80"],
  ["a waypoint of weight zero for a VIP", web, "10.1.0.21:80", "400 ip_mismatch"],
  ["a waypoint for what has none", waypoint, "10.0.0.2:80", "400 ip_mismatch"],
  ["a pod for what has another waypoint", web, "10.0.0.3:80", "400 ip_mismatch"],
  ["a PROXY tunnel for any ip", tunnelled, "8.8.8.8:80", "10.0.0.11:15088 proxy 8.8.8.8:80"],
  ["a PROXY tunnel for a hostname", tunnelled, "web.default.svc:80", "10.0.0.11:15088 of web proxy 10.1.0.1:80"],
  ["a PROXY tunnel for a service without a VIP", tunnelled, "headless.default.svc:80", "503 no_service_ip"],
  ["a plain tunnel with a port of its own", moved, "8.8.8.8:80", "10.0.0.12:9999"],
  ["a plain tunnel without one", unmoved, "8.8.8.8:80", "10.0.0.13:80"],
  ["the proxy's own port", web, "10.0.0.2:15006", "503 self_call"],
  ["the proxy's own port behind a service", web, "self.default.svc:80", "503 self_call"],
  ["the proxy's own port into a tunnel", tunnelled, "10.0.0.11:15008", "503 self_call"],
  ["no port", web, "10.0.0.2", "400 invalid_authority"],
];

for (const [name, local, authority, expected] of TABLE) {
  test(`inbound: ${name} (${authority} at ${local.name})`, () => assert.equal(shown(ask(local, authority)), expected));
}

test("inbound: a waypoint that is referenced by an ip is known by it, whichever record of that ip is the local one", () => {
  const record = pod("record", ["10.0.0.10"], { uid: workloadUid("c/networking/WorkloadEntry/record") });
  assert.equal(shown(ask(record, "10.0.0.5:80")), "10.0.0.10:80");
});

test("inbound: a mismatch names both addresses", () => {
  const inbound = ask(web, "10.0.0.3:80");
  assert.equal(inbound.kind === "rejected" && inbound.message, "ip mismatch: 10.0.0.2 != 10.0.0.3");
});

test("inbound: a PROXY tunnel over loopback is connected to there, but policies are asked about the pod", () => {
  const inbound = ask(tunnelled, "8.8.8.8:80", { localhostAppTunnel: true });
  assert.ok(inbound.kind === "forward");
  assert.deepEqual([inbound.to, inbound.loopback], [{ ip: "127.0.0.1", port: 15088 }, true]);
  assert.deepEqual(inbound.destination, { ip: "10.0.0.11", port: 15088 });
  assert.equal(shown(ask(v6, "8.8.8.8:80", { localhostAppTunnel: true })), "[::1]:15088 proxy 8.8.8.8:80");
  const plain = ask(moved, "8.8.8.8:80", { localhostAppTunnel: true });
  assert.equal(plain.kind === "forward" && plain.loopback, false);
});

test("inbound: a PROXY header carries a VIP of the pod's network, IPv4 before IPv6", () => {
  const vips = ["n2/10.9.0.1", "/2001:db8::9", "/10.1.0.1"] as NetworkAddress[];
  for (
    const [list, expected] of [[vips, "10.1.0.1"], [vips.slice(0, 2), "2001:db8::9"], [
      vips.slice(0, 1),
      "10.9.0.1",
    ]] as const
  ) {
    const view = mesh([tunnelled], [service("web", list)]);
    const inbound = resolveInbound(view, {
      authority: parseAuthority("web.default.svc:80"),
      network: "",
      localIp: "10.0.0.11",
      workload: tunnelled,
      illegalPorts: [],
      localhostAppTunnel: false,
    });
    assert.deepEqual(inbound.kind === "forward" && inbound.proxyTo, { ip: expected, port: 80 });
  }
});

test("inbound: the pod's own namespace comes first for a hostname that several have", () => {
  const view = mesh([web], [
    service("a", [], { namespace: "a", hostname: "x.example", canonical: true, ports: { 80: 1 } }),
    service("b", [], { hostname: "x.example", ports: { 80: 2 } }),
  ]);
  const inbound = resolveInbound(view, {
    authority: parseAuthority("x.example:80"),
    network: "",
    localIp: "10.0.0.2",
    workload: web,
    illegalPorts: [],
    localhostAppTunnel: false,
  });
  assert.deepEqual(inbound.kind === "forward" && inbound.to, { ip: "10.0.0.2", port: 2 });
});

test("inbound: the service of a connection is the one the client named, else the first with the port", () => {
  const name = (port: number, host?: string) => inboundService(store, web, port, host)?.name;
  assert.equal(name(8080), "web");
  assert.equal(name(9090), "named");
  assert.equal(name(8080, "named.default.svc"), "named");
  assert.equal(name(9090, "foreign.example"), "named");
  assert.equal(name(1234), undefined);
});

test("inbound: an authority reads in logs as the peer wrote it, in canonical form", () => {
  assert.equal(describeAuthority(parseAuthority("[2001:DB8::1]:80")), "[2001:db8::1]:80");
  assert.equal(describeAuthority(parseAuthority("A.b:80")), "a.b:80");
  assert.match(describeAuthority(parseAuthority("x")), /invalid authority "x"/);
});
