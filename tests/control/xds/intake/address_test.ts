/** Workloads and services from bytes, rule by rule (reference ztunnel, section 3.7). */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { AddressDecoder } from "../../../../src/control/xds/intake/address.ts";
import { WireReader } from "../../../../src/control/xds/intake/wire.ts";
import { createService, createWorkload, workloadUid } from "../../../../src/mesh/mod.ts";
import { decodeService, decodeWorkload, kindOf } from "./decode.ts";
import { concat, field, serviceBytes, type ServiceInit, workloadBytes, type WorkloadInit } from "./messages.ts";
import { addressByOracle } from "./oracle.ts";

const UID = "Kubernetes//Pod/default/web-1";
const IP = new Uint8Array([10, 0, 0, 1]);
const workload = (fields: WorkloadInit) => decodeWorkload(workloadBytes({ uid: UID, ...fields }));
const service = (fields: ServiceInit) =>
  decodeService(serviceBytes({ name: "web", namespace: "default", hostname: "web.svc", ...fields }));

test("address: a workload without fields has the protocol's defaults", () => {
  assert.deepEqual(
    workload({}),
    createWorkload({ uid: workloadUid(UID), name: "", namespace: "", workloadType: "deployment" }),
  );
  const { trustDomain, serviceAccount, clusterId, capacity, protocol } = workload({});
  assert.deepEqual([trustDomain, serviceAccount, clusterId, capacity, protocol], [
    "cluster.local",
    "default",
    "Kubernetes",
    1,
    "TCP",
  ]);
});

test("address: every field of a workload is read", () => {
  const fields: WorkloadInit = {
    name: "web-1",
    namespace: "default",
    addresses: [IP, new Uint8Array([...new Array(15).fill(0), 1])],
    network: "net1",
    tunnelProtocol: 1,
    trustDomain: "td",
    serviceAccount: "sa",
    waypoint: {
      destination: { case: "hostname", value: { namespace: "infra", hostname: "waypoint.svc" } },
      hboneMtlsPort: 15008,
    },
    node: "node-a",
    canonicalName: "web",
    canonicalRevision: "v1",
    workloadType: 3,
    workloadName: "web",
    nativeTunnel: true,
    authorizationPolicies: ["default/a", "default/b"],
    status: 1,
    clusterId: "c1",
    networkGateway: {
      destination: { case: "address", value: { network: "net1", address: IP } },
      hboneMtlsPort: 15009,
    },
    hostname: "web.example",
    services: {
      "default/web.svc": { ports: [{ servicePort: 80, targetPort: 8080 }, { servicePort: 81 }] },
      "default/idle.svc": {},
    },
    applicationTunnel: { protocol: 1, port: 15088 },
    locality: { region: "r", zone: "z", subzone: "s" },
    networkMode: 1,
    capacity: 0,
  };
  assert.deepEqual(
    workload(fields),
    createWorkload({
      uid: workloadUid(UID),
      name: "web-1",
      namespace: "default",
      workloadIps: ["10.0.0.1", "::1"],
      network: "net1",
      protocol: "HBONE",
      networkMode: "HostNetwork",
      trustDomain: "td",
      serviceAccount: "sa",
      waypoint: { destination: "infra/waypoint.svc", hboneMtlsPort: 15008 },
      networkGateway: { destination: "net1/10.0.0.1", hboneMtlsPort: 15009 },
      workloadName: "web",
      workloadType: "job",
      canonicalName: "web",
      canonicalRevision: "v1",
      hostname: "web.example",
      node: "node-a",
      nativeTunnel: true,
      applicationTunnel: { protocol: "PROXY", port: 15088 },
      authorizationPolicies: ["default/a", "default/b"] as never,
      status: "Unhealthy",
      clusterId: "c1",
      locality: { region: "r", zone: "z", subzone: "s" },
      services: { "default/web.svc": { 80: 8080, 81: 0 }, "default/idle.svc": {} } as never,
      capacity: 0,
    }),
  );
});

test("address: every field of a service is read", () => {
  const gateway = {
    destination: { case: "hostname", value: { namespace: "i", hostname: "w" } },
    hboneMtlsPort: 1,
  } as const;
  const fields: ServiceInit = {
    addresses: [{ network: "n", address: IP }, { address: IP, length: 32 }, {
      address: new Uint8Array([10, 9, 8, 7]),
      length: 8,
    }],
    ports: [{ servicePort: 80, targetPort: 8080 }, { servicePort: 81 }],
    subjectAltNames: ["spiffe://td/ns/a/sa/b"],
    waypoint: gateway,
    loadBalancing: { routingPreference: [6, 1, 2, 3, 4, 5], mode: 2, healthPolicy: 1 },
    ipFamilies: 3,
    canonical: true,
    weightedWaypoints: [{ destination: gateway, weight: 7 }, { destination: gateway }],
    visibility: 1,
  };
  const waypoint = { destination: "i/w", hboneMtlsPort: 1 };
  assert.deepEqual(
    service(fields),
    createService({
      name: "web",
      namespace: "default",
      hostname: "web.svc",
      vips: ["n/10.0.0.1", "/10.0.0.1"] as never,
      cidrVips: [{ network: "", cidr: "10.0.0.0/8" }],
      ports: { 80: 8080, 81: 0 },
      subjectAltNames: ["spiffe://td/ns/a/sa/b"],
      waypoint,
      weightedWaypoints: [{ destination: waypoint, weight: 7 }, { destination: waypoint, weight: 0 }],
      loadBalancer: {
        routingPreferences: ["Network", "Region", "Zone", "Subzone", "Node", "Cluster"],
        mode: "Failover",
        healthPolicy: "AllowAll",
      },
      ipFamilies: "Dual",
      canonical: true,
      visibility: "Namespace",
    }),
  );
  assert.equal(service({ visibility: 9 as never }).visibility, "Public");
});

const noDestination = { destination: { case: undefined }, hboneMtlsPort: 15008 } as const;

test("address: what cannot be used is refused with a reason", () => {
  const refused: readonly [WorkloadInit, RegExp][] = [
    [{ uid: "" }, /needs a uid/],
    [{ tunnelProtocol: 2 }, /LEGACY_ISTIO_MTLS/],
    [{ tunnelProtocol: 9 as never }, /tunnel protocol 9 is not known/],
    [{ status: 2 as never }, /status 2 is not known/],
    [{ networkMode: 2 as never }, /network mode 2 is not known/],
    [{ applicationTunnel: { protocol: 2 as never } }, /application tunnel protocol 2/],
    [{ applicationTunnel: { port: 65_536 } }, /port 65536 is above 65535/],
    [{ addresses: [new Uint8Array(5)] }, /an address of 5 bytes/],
    [{ waypoint: noDestination }, /the waypoint has no destination/],
    [{ networkGateway: noDestination }, /the network gateway has no destination/],
    [{ networkGateway: { ...noDestination, destination: { case: "address", value: {} } } }, /address of 0 bytes/],
    [{ waypoint: { destination: { case: "hostname", value: { namespace: "a/b", hostname: "c" } } } }, /a\/b\/c/],
    [{ waypoint: { destination: { case: "hostname", value: { namespace: "a", hostname: "::1" } } } }, /a\/::1/],
    [{ waypoint: { destination: { case: "hostname", value: { hostname: "c" } } } }, /no namespace and hostname/],
    [{ services: { nothing: {} } }, /the service "nothing"/],
    [{ services: { "a/b": { ports: [{ servicePort: 65_536 }] } } }, /service port 65536/],
  ];
  for (const [fields, reason] of refused) {
    assert.throws(() => workload(fields), reason);
    assert.throws(() => addressByOracle(workloadBytes({ uid: UID, ...fields })));
  }
  const refusedServices: readonly [ServiceInit, RegExp][] = [
    [{ namespace: "" }, /needs a namespace and a hostname/],
    [{ namespace: "a/b" }, /slash/],
    [{ hostname: "" }, /needs a namespace and a hostname/],
    [{ loadBalancing: { routingPreference: [0] } }, /routing preference without a scope/],
    [{ loadBalancing: { routingPreference: [7 as never] } }, /routing preference 7/],
    [{ loadBalancing: { mode: 4 as never } }, /load balancing mode 4/],
    [{ loadBalancing: { healthPolicy: 2 as never } }, /health policy 2/],
    [{ ipFamilies: 4 as never }, /ip families 4/],
    [{ addresses: [{ address: new Uint8Array(3) }] }, /an address of 3 bytes/],
    [{ addresses: [{ address: IP, length: 33 }] }, /range of 33 bits/],
    [{ addresses: [{ address: IP, network: "a/b" }] }, /network "a\/b"/],
    [{ waypoint: noDestination }, /the waypoint has no destination/],
    [{ weightedWaypoints: [{ weight: 1 }] }, /weighted waypoint has no destination/],
  ];
  for (const [fields, reason] of refusedServices) assert.throws(() => service(fields), reason);
});

test("address: a workload type that is newer than this version is only a label less", () => {
  assert.equal(workload({ workloadType: 4 as never }).workloadType, "");
});

test("address: v4-mapped addresses are the IPv4 addresses they carry, their ranges too", () => {
  const mapped = new Uint8Array([...new Array(10).fill(0), 255, 255, 10, 1, 2, 3]);
  assert.deepEqual(workload({ addresses: [mapped] }).workloadIps, ["10.1.2.3"]);
  const found = service({ addresses: [{ address: mapped, length: 112 }, { address: mapped, length: 128 }] });
  assert.deepEqual(found.cidrVips, [{ network: "", cidr: "10.1.0.0/16" }]);
  assert.deepEqual(found.vips, ["/10.1.2.3"]);
});

test("address: bytes that are no message are refused", () => {
  const good = workloadBytes({ uid: UID, name: "web", waypoint: undefined, locality: { region: "r" } });
  for (let cut = 1; cut < good.length; cut++) {
    assert.throws(() => decodeWorkload(good.subarray(0, cut)), `cut at ${cut}`);
  }
  const inner = (...parts: Uint8Array[]) => field(1, concat(field(20, UID), ...parts));
  const refused: readonly [Uint8Array, RegExp][] = [
    [inner(field(2, new Uint8Array([0xff]))), /not UTF-8/],
    [inner(field(1, new Uint8Array([0xff])), field(1, "web")), /not UTF-8/],
    [inner(concat([0x28], new Array(11).fill(0x80))), /does not end/],
    [inner(concat([0x0b])), /wire type 3/],
    [inner(field(24, ""), field(24, "")), /the locality is there twice/],
    [inner(field(8, field(2, field(2, IP))), field(8, "")), /the waypoint is there twice/],
    [inner(concat([0x00, 0x00])), /without a number/],
    [concat(field(1, field(20, UID)), field(1, field(20, UID))), /workload is there twice/],
    [concat(field(1, field(20, UID)), field(2, "")), /both a workload and a service/],
    [inner(concat([0x0a, 0x05])), /longer than its message/],
    [new Uint8Array(0), /neither a workload nor a service/],
  ];
  for (const [bytes, reason] of refused) assert.throws(() => decodeWorkload(bytes), reason);
});

test("address: fields of a newer version are left out, wherever they stand", () => {
  const unknown = concat([...[0xa0, 0x06, 0x01]], field(200, "x"), [0xa5, 0x06, 1, 2, 3, 4], [
    0xa1,
    0x06,
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
  ]);
  const bytes = concat(
    unknown,
    field(1, concat(field(20, UID), unknown, field(22, concat(field(1, "a/b"), unknown)))),
    unknown,
  );
  assert.deepEqual(decodeWorkload(bytes).services, { "a/b": {} });
});

test("address: what stands apart on the wire, or in pieces, means the same", () => {
  const entry = (key: string) => field(22, field(1, key));
  const apart = field(
    1,
    concat(entry("a/one"), field(20, UID), entry("a/two"), field(16, "p/1"), field(1, "n"), field(16, "p/2")),
  );
  const { services, authorizationPolicies } = decodeWorkload(apart);
  assert.deepEqual(services, { "a/one": {}, "a/two": {} });
  assert.deepEqual(authorizationPolicies, ["p/1", "p/2"]);
});

test("address: equal parts of several workloads are one object", () => {
  const decoder = new AddressDecoder();
  const fields = (uid: string): WorkloadInit => ({
    uid,
    namespace: "default",
    services: { "default/web.svc": { ports: [{ servicePort: 80 }] } },
    authorizationPolicies: ["default/a"],
    locality: { region: "r" },
    waypoint: { destination: { case: "hostname", value: { namespace: "i", hostname: "w" } } },
  });
  const a = decodeWorkload(workloadBytes(fields("a")), decoder);
  const b = decodeWorkload(workloadBytes(fields("b")), decoder);
  assert.equal(a.services, b.services);
  assert.equal(a.locality, b.locality);
  assert.equal(a.waypoint, b.waypoint);
  assert.equal(a.authorizationPolicies, b.authorizationPolicies);
  const other = decodeWorkload(workloadBytes({ ...fields("c"), authorizationPolicies: ["default/b"] }), decoder);
  assert.deepEqual(other.authorizationPolicies, ["default/b"]);
});

test("address: text with every kind of character survives", () => {
  for (const text of ["", "a".repeat(300), "ünïcödé", "\u0000\n\t\"'", "日本", "\ufeffx", "𝄞"]) {
    assert.equal(workload({ namespace: text, name: text }).namespace, text);
    assert.equal(workload({ namespace: text, name: text }).name, text);
  }
});

test("address: a name is the same whether the uid ends with it or not", () => {
  for (
    const [uid, name] of [[UID, "web-1"], [UID, "eb-1"], [UID, "web-2"], [UID, `x${UID}`], ["a/é", "é"], ["a", "a"], [
      "a",
      "",
    ]]
  ) {
    assert.equal(decodeWorkload(workloadBytes({ uid, name })).name, name);
  }
});

test("address: says what an address holds without reading it", () => {
  assert.equal(kindOf(workloadBytes({ uid: UID })), "workload");
  assert.equal(kindOf(serviceBytes({})), "service");
  assert.equal(kindOf(field(7, "x")), undefined);
});

test("address: a real istiod's workloads read as the generated decoder reads them", () => {
  const response = new Uint8Array(readFileSync(new URL("../../../fixtures/workload.binpb", import.meta.url)));
  const decoder = new AddressDecoder();
  let count = 0;
  const reader = new WireReader();
  reader.from(response);
  while (reader.next(response.length)) {
    if (reader.field !== 2) {
      reader.skip(response.length);
      continue;
    }
    // Resource, in it the Any, in it a Workload.
    const any = fieldOf(reader.view(response.length), 2);
    const address = field(1, fieldOf(any, 2));
    assert.deepEqual(decodeWorkload(address, decoder), addressByOracle(address));
    count++;
  }
  assert.ok(count > 0);
});

function fieldOf(bytes: Uint8Array, number: number): Uint8Array {
  const reader = new WireReader();
  reader.from(bytes);
  while (reader.next(bytes.length)) {
    if (reader.field === number) return reader.view(bytes.length);
    reader.skip(bytes.length);
  }
  throw new Error(`no field ${number}`);
}
