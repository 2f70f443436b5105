/** Services and workloads behind a waypoint: the client's ztunnel goes to it, asks it for the right thing, and never passes it by. */
import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { ECONNRESET } from "../../src/platform/errno.ts";
import { APP_PORT, socketAddress } from "./support/exchange.ts";
import { Inbox } from "./support/inbox.ts";
import type { Server } from "./support/lab.ts";
import { type Family, issue, TestMesh } from "./support/mesh.ts";
import type { Peer } from "./support/peer.ts";
import { listenHbone, type RawRequest } from "./support/raw_hbone.ts";
import type { AccessLine } from "./support/ztunnel_process.ts";

const WAYPOINT = { ipv4: "10.244.9.9", ipv6: "fd00:10:244::99" } as const;
const FILE = `
nodes: [{ name: a }, { name: b }]
pods:
  - { name: client, namespace: town, serviceAccount: client, node: a }
  - { name: server, namespace: city, serviceAccount: server, node: b, labels: { app: server } }
  - name: guarded
    namespace: city
    serviceAccount: guarded
    node: b
    waypoint: { destination: "/${WAYPOINT.ipv4}", hboneMtlsPort: 15008 }
  # Speaks HBONE itself, so it is not captured.
  - name: waypoint
    namespace: city
    serviceAccount: waypoint
    node: b
    captured: false
    protocol: HBONE
    address: ["${WAYPOINT.ipv4}", "${WAYPOINT.ipv6}"]
    labels: { app: waypoint }
    hostname: waypoint.example
services:
  - { name: waypoint, namespace: city, selector: { app: waypoint }, ports: { 15008: 15008 } }
  - name: by-address
    namespace: city
    selector: { app: server }
    ports: { 80: ${APP_PORT} }
    waypoint: { destination: "/${WAYPOINT.ipv4}", hboneMtlsPort: 15008 }
  - name: by-name
    namespace: city
    selector: { app: server }
    ports: { 80: ${APP_PORT} }
    waypoint: { destination: city/waypoint.city.svc.cluster.local, hboneMtlsPort: 15008 }
  - name: by-workload-name
    namespace: city
    selector: { app: server }
    ports: { 80: ${APP_PORT} }
    waypoint: { destination: city/waypoint.example, hboneMtlsPort: 15008 }
  - name: weighted
    namespace: city
    selector: { app: server }
    ports: { 80: ${APP_PORT} }
    waypoint: { destination: city/nobody.city.svc.cluster.local, hboneMtlsPort: 15008 }
    weightedWaypoints:
      - { destination: { destination: city/nobody.city.svc.cluster.local, hboneMtlsPort: 15008 }, weight: 0 }
      - { destination: { destination: city/waypoint.city.svc.cluster.local, hboneMtlsPort: 15008 }, weight: 5 }
  - name: lost
    namespace: city
    selector: { app: server }
    ports: { 80: ${APP_PORT} }
    waypoint: { destination: city/nobody.city.svc.cluster.local, hboneMtlsPort: 15008 }
`;

let mesh: TestMesh;
/** Connections that reached the application without the waypoint. */
let bypassed = 0;
const open: Server[] = [];
before(async () => {
  mesh = await TestMesh.start(FILE);
  for (const name of ["server", "guarded"]) {
    mesh.pod(name).listen(APP_PORT, (peer) => {
      bypassed++;
      peer.close();
    });
  }
});
after(() => mesh?.stop());
afterEach(() => {
  for (const server of open.splice(0)) server.close();
  assert.equal(bypassed, 0, "a connection passed the waypoint by");
});

/** What the client's ztunnel says of a connection that failed. */
function failure(mark: number): Promise<AccessLine> {
  // The connections of the tests before may still be ending, with their waypoint.
  const own = (error: string | undefined) => error !== undefined && !error.startsWith("the tunnel was lost");
  return mesh.node("a").ztunnel.access(({ fields }) => own(fields.error), mark);
}

/** A waypoint up to the end of the test; the result is what it is asked. */
async function openWaypoint(identity = mesh.pod("waypoint").identity): Promise<Inbox<RawRequest>> {
  const requests = new Inbox<RawRequest>("a request at the waypoint");
  open.push(listenHbone(mesh.lab, mesh.pod("waypoint"), await issue(mesh.ca, identity), requests.put));
  return requests;
}

/** Bytes both ways and an end in order. */
async function checkBytes(peer: Peer, { stream }: RawRequest): Promise<void> {
  stream.respond([":status", "200"]);
  peer.write("hello");
  await stream.read("hello");
  stream.send("welcome");
  assert.equal(await peer.read(7), "welcome");
  peer.finish();
  assert.equal(await stream.ended(), "end");
  stream.send("", true);
  assert.equal(await peer.ended(), "eof");
  peer.close();
}

const CASES: readonly (readonly [service: string, family: Family])[] = [
  ["by-address", "ipv4"],
  ["by-address", "ipv6"],
  ["by-name", "ipv4"],
  ["by-name", "ipv6"],
  // By the hostname that only the waypoint's own record has.
  ["by-workload-name", "ipv4"],
  ["by-workload-name", "ipv6"],
  ["weighted", "ipv4"],
];
for (const [service, family] of CASES) {
  test(`waypoint of a service, ${service}, ${family}: asked for the service's own address and port, by the client's identity`, async () => {
    const waypoint = await openWaypoint();
    const { ztunnel } = mesh.node("a");
    const mark = ztunnel.mark;
    const client = mesh.pod("client");
    const vip = mesh.vip(service, family);
    const peer = await client.connect(vip, 80);
    const request = await waypoint.take();
    assert.equal(request.identity, client.identity);
    assert.equal(request.fields[":method"], "CONNECT");
    assert.equal(request.fields[":authority"], socketAddress(vip, 80));
    // The client's port is told as ztunnel sees it: the kernel changes it when a connection before had the same one to another address.
    const [, source, address, host] = /^for="((.+):\d+)";host=(.+)$/.exec(request.fields.forwarded!) ?? [];
    assert.equal(address, socketAddress(client.ip(family), 0).replace(/:0$/, ""));
    assert.equal(host, `${service}.city.svc.cluster.local`);
    assert.match(request.fields.traceparent!, /^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/);
    assert.ok(request.fields.baggage!.split(",").includes("k8s.pod.name=client"));
    await checkBytes(peer, request);
    const { fields, level } = await ztunnel.access(({ fields }) => fields["src.addr"] === source, mark);
    assert.equal(level, "info");
    assert.equal(fields.direction, "outbound");
    assert.equal(fields["dst.workload"], "waypoint");
    // A waypoint that is named by its address has that one; one that is a service follows the client's family.
    const hop = service === "by-address" ? WAYPOINT.ipv4 : WAYPOINT[family];
    assert.equal(fields["dst.addr"], socketAddress(hop, 15008));
    assert.equal(fields["dst.hbone_addr"], socketAddress(vip, 80));
    assert.equal(fields["dst.service"], `${service}.city.svc.cluster.local`);
    assert.equal(fields["dst.identity"], mesh.pod("waypoint").identity);
  });
}

test("waypoint of a workload: asked for the workload's own address", async () => {
  const waypoint = await openWaypoint();
  const peer = await mesh.pod("client").connect(mesh.pod("guarded").ip(), APP_PORT);
  const request = await waypoint.take();
  assert.equal(request.fields[":authority"], socketAddress(mesh.pod("guarded").ip(), APP_PORT));
  await checkBytes(peer, request);
});

test("waypoint: a stream that it refuses unprocessed is asked for again, and not for ever", async () => {
  const waypoint = await openWaypoint();
  const peer = await mesh.pod("client").connect(mesh.vip("by-address"), 80);
  (await waypoint.take()).stream.refuse();
  await checkBytes(peer, await waypoint.take());

  const { ztunnel } = mesh.node("a");
  const mark = ztunnel.mark;
  const unlucky = await mesh.pod("client").connect(mesh.vip("by-address"), 80);
  for (let i = 0; i < 4; i++) (await waypoint.take()).stream.refuse();
  assert.equal(await unlucky.ended(), ECONNRESET);
  assert.match((await failure(mark)).fields.error!, /HTTP\/2 error 7/);
});

test("waypoint: several connections share one tunnel", async () => {
  const waypoint = await openWaypoint();
  const peers = await Promise.all(
    Array.from({ length: 3 }, () => mesh.pod("client").connect(mesh.vip("by-address"), 80)),
  );
  const requests = [await waypoint.take(), await waypoint.take(), await waypoint.take()];
  assert.equal(new Set(requests.map(({ stream }) => stream.connection)).size, 1);
  for (const request of requests) request.stream.respond([":status", "200"]);
  for (const peer of peers) peer.close();
  for (const { stream } of requests) await stream.ended();
});

test("waypoint that refuses: the client sees a reset, the log the status", async () => {
  const waypoint = await openWaypoint();
  const mark = mesh.node("a").ztunnel.mark;
  const refusal = mesh.pod("client").refusal(mesh.vip("by-address"), 80);
  (await waypoint.take()).stream.respond([":status", "503"], true);
  assert.equal(await refusal, ECONNRESET);
  const { fields } = await failure(mark);
  assert.match(fields.error!, /^http status: 503/);
});

test("waypoint with another's certificate: refused, and the log names both", async () => {
  await openWaypoint("spiffe://cluster.local/ns/city/sa/impostor");
  const mark = mesh.node("a").ztunnel.mark;
  assert.equal(await mesh.pod("client").refusal(mesh.vip("by-address"), 80), ECONNRESET);
  const { fields } = await failure(mark);
  assert.match(fields.error!, /identity verification error: .*city\/sa\/waypoint.*got .*city\/sa\/impostor/);
});

for (const family of ["ipv4", "ipv6"] as const) {
  test(`waypoint that the mesh does not know, ${family}: refused`, async () => {
    const mark = mesh.node("a").ztunnel.mark;
    assert.equal(await mesh.pod("client").refusal(mesh.vip("lost", family), 80), ECONNRESET);
    const { fields, message } = await failure(mark);
    assert.equal(message, "connection failed");
    assert.match(fields.error!, /unknown waypoint/);
  });
}

test("waypoint that is not up: refused", async () => {
  const mark = mesh.node("a").ztunnel.mark;
  assert.equal(await mesh.pod("client").refusal(mesh.vip("by-address"), 80), ECONNRESET);
  const { fields } = await failure(mark);
  assert.match(fields.error!, new RegExp(`cannot reach ${WAYPOINT.ipv4}:15008: .*nothing listens there`));
});
