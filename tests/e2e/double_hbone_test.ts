/**
 * Two networks: what a pod of one calls in the other goes by that network's gateway, in a tunnel to it and inside that one in another to
 * the destination, which proves itself to the client and not to the gateway.
 */
import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { ECONNRESET } from "../../src/platform/errno.ts";
import { Bulk } from "./support/bulk.ts";
import { APP_PORT } from "./support/exchange.ts";
import { TestGateway } from "./support/gateway.ts";
import { Inbox } from "./support/inbox.ts";
import type { Server } from "./support/lab.ts";
import { acceptOne, issue, TestMesh, type TestPod } from "./support/mesh.ts";
import { minus } from "./support/metrics.ts";
import { listenHbone, type RawRequest } from "./support/raw_hbone.ts";
import { eventually, within } from "./support/wait.ts";
import type { AccessLine } from "./support/ztunnel_process.ts";

const GATEWAY_IP = "10.244.9.1";
const WAYPOINT_IP = "10.244.9.2";
const SERVER_ID = "spiffe://cluster.local/ns/city/sa/server";
const WAYPOINT_ID = "spiffe://cluster.local/ns/city/sa/waypoint";
const BY_ADDRESS = `{ destination: "far/${GATEWAY_IP}", hboneMtlsPort: 15008 }`;
const BY_NAME = "{ destination: border/gateway.border.svc.cluster.local, hboneMtlsPort: 15009 }";

/** `server`: how the workloads of the other network say that their gateway is reached. */
const file = (gateway: string, more = "") => `
nodes: [{ name: near, address: [10.89.1.1] }, { name: far, address: [10.89.1.2] }]
pods:
  - { name: client, namespace: town, serviceAccount: client, node: near, network: near }
  - { name: local, namespace: city, serviceAccount: server, node: near, network: near, labels: { app: both } }
  - name: server
    namespace: city
    serviceAccount: server
    node: far
    network: far
    labels: { app: server }
    networkGateway: ${gateway}
    services: { city/both.city.svc.cluster.local: { 80: ${APP_PORT} } }
  # Both speak HBONE themselves, so they are not captured.
  - name: gateway
    namespace: border
    serviceAccount: gateway
    node: far
    network: far
    captured: false
    protocol: HBONE
    address: ${GATEWAY_IP}
    labels: { app: gateway }
  - name: waypoint
    namespace: city
    serviceAccount: waypoint
    node: far
    network: far
    captured: false
    protocol: HBONE
    address: ${WAYPOINT_IP}
    labels: { app: waypoint }
    networkGateway: ${gateway}
services:
  - { name: gateway, namespace: border, vips: ["far/10.96.9.1"], selector: { app: gateway }, ports: { 15009: 15008 } }
  - name: waypoint
    namespace: city
    vips: ["far/10.96.9.2"]
    selector: { app: waypoint }
    ports: { 15008: 15008 }
    subjectAltNames: [${WAYPOINT_ID}]
  - name: server
    namespace: city
    vips: ["near/10.96.1.1", "far/10.96.1.1"]
    selector: { app: server }
    ports: { 80: ${APP_PORT} }
    subjectAltNames: [${SERVER_ID}]
  - name: guarded
    namespace: city
    vips: ["near/10.96.1.2"]
    selector: { app: server }
    ports: { 80: ${APP_PORT} }
    waypoint: { destination: city/waypoint.city.svc.cluster.local, hboneMtlsPort: 15008 }
  - name: nameless
    namespace: city
    vips: ["near/10.96.1.3"]
    selector: { app: server }
    ports: { 80: ${APP_PORT} }
  - name: both
    namespace: city
    vips: ["near/10.96.1.4"]
    selector: { app: both }
    ports: { 80: ${APP_PORT} }
    subjectAltNames: [${SERVER_ID}]
    loadBalancer: { mode: Failover, routingPreferences: [Network], healthPolicy: OnlyHealthy }
${more}`;

let mesh: TestMesh;
let client: TestPod;
let server: TestPod;
const open: Server[] = [];

before(async () => {
  mesh = await TestMesh.create(file(BY_ADDRESS));
  await mesh.node("near").start({ NETWORK: "near" });
  await mesh.node("far").start({ NETWORK: "far" });
  client = mesh.pod("client");
  server = mesh.pod("server");
});
after(() => mesh?.stop());
afterEach(() => {
  for (const server of open.splice(0)) server.close();
});

/** What the client's ztunnel says of a connection that failed. */
function failure(mark: number): Promise<AccessLine> {
  return mesh.node("near").ztunnel.access(({ fields }) => fields.error !== undefined, mark);
}

/** A gateway up to the end of the test. */
async function openGateway(
  route: (authority: string) => string | undefined = () => server.ip(),
  identity = mesh.pod("gateway").identity,
): Promise<TestGateway> {
  const gateway = new TestGateway({
    lab: mesh.lab,
    namespaceFd: mesh.pod("gateway").namespaceFd,
    material: await issue(mesh.ca, identity),
    route,
  });
  open.push(gateway);
  return gateway;
}

for (const [how, reference] of [["address", BY_ADDRESS], ["a service's name, with another port", BY_NAME]] as const) {
  test(`double HBONE, a gateway by ${how}: both proxies know both ends`, async () => {
    await mesh.apply(file(reference));
    const gateway = await openGateway();
    const [near, far] = [mesh.node("near"), mesh.node("far")];
    const marks = [near.ztunnel.mark, far.ztunnel.mark];
    const labels: Readonly<Record<string, string>>[] = [
      {
        reporter: "source",
        destination_workload: "server",
        destination_workload_namespace: "city",
        destination_principal: SERVER_ID,
        destination_service_name: "server",
      },
      { reporter: "destination", source_workload: "client", source_principal: client.identity },
    ];
    const before = [await near.traffic(labels[0]!), await far.traffic(labels[1]!)];
    const [peer, application] = await acceptOne(server, APP_PORT, () => client.connect(mesh.vip("server"), 80));
    peer.write("hello");
    assert.equal(await application.read(5), "hello");
    const state = (await near.configDump()).workloadState[client.spec.uid]!;
    assert.equal(state.connections.outbound[0]?.protocol, "DOUBLEHBONE");
    application.write("hello back");
    assert.equal(await peer.read(10), "hello back");
    peer.finish();
    assert.equal(await application.ended(), "eof");
    application.finish();
    assert.equal(await peer.ended(), "eof");

    assert.equal(gateway.forwarded.length, 1);
    assert.equal(gateway.forwarded[0]!.identity, client.identity);
    const authority = "server.city.svc.cluster.local:80";
    assert.equal(gateway.forwarded[0]!.fields[":authority"], authority);
    assert.equal(gateway.forwarded[0]!.fields["x-forwarded-network"], undefined);

    const outbound = (await near.ztunnel.access(({ fields }) => fields.direction === "outbound", marks[0])).fields;
    assert.equal(outbound["dst.addr"], `${GATEWAY_IP}:15008`);
    assert.equal(outbound["dst.hbone_addr"], authority);
    assert.equal(outbound["dst.service"], "server.city.svc.cluster.local");
    assert.equal(outbound["dst.workload"], "server");
    assert.equal(outbound["dst.namespace"], "city");
    assert.equal(outbound["dst.identity"], SERVER_ID);
    assert.deepEqual([outbound.bytes_sent, outbound.bytes_recv, outbound.error], ["5", "10", undefined]);
    const inbound = (await far.ztunnel.access(({ fields }) => fields.direction === "inbound", marks[1])).fields;
    assert.equal(inbound["src.workload"], "client");
    assert.equal(inbound["src.namespace"], "town");
    assert.equal(inbound["src.identity"], client.identity);
    assert.equal(inbound["dst.hbone_addr"], authority);
    assert.equal(inbound["dst.service"], "server.city.svc.cluster.local");
    for (const [i, node] of [near, far].entries()) {
      await eventually(async () => {
        const delta = minus(await node.traffic(labels[i]!), before[i]!);
        assert.deepEqual(delta, { opened: 1, closed: 1, received: 5, sent: 10 });
      });
    }
    peer.close();
    application.close();
  });
}

test("double HBONE, a waypoint of the other network: asked for the service, by a client of another network", async () => {
  const gateway = await openGateway(() => WAYPOINT_IP);
  const requests = new Inbox<RawRequest>("a request at the waypoint");
  open.push(listenHbone(mesh.lab, mesh.pod("waypoint"), await issue(mesh.ca, WAYPOINT_ID), requests.put));
  const peer = await client.connect(mesh.vip("guarded"), 80);
  const { identity, fields, stream } = await requests.take();
  assert.equal(identity, client.identity);
  assert.equal(fields[":authority"], "guarded.city.svc.cluster.local:80");
  assert.equal(fields["x-forwarded-network"], "near");
  assert.equal(gateway.forwarded[0]!.fields[":authority"], "guarded.city.svc.cluster.local:80");
  stream.respond([":status", "200"]);
  peer.write("hello");
  await stream.read("hello");
  stream.send("welcome", true);
  assert.equal((await peer.readToEnd()).text, "welcome");
  peer.finish();
  assert.equal(await stream.ended(), "end");
  peer.close();
});

test("double HBONE: while a local endpoint is healthy it is taken, then the other network's", async () => {
  const gateway = await openGateway();
  const local = mesh.pod("local");
  const answer = (text: string) => (pod: TestPod) =>
    pod.listen(APP_PORT, (peer) => {
      peer.write(text);
      peer.finish();
    });
  open.push(answer("near")(local), answer("far")(server));
  const ask = async () => {
    const peer = await client.connect(mesh.vip("both"), 80);
    const { text } = await peer.readToEnd();
    peer.close();
    return text;
  };
  assert.equal(await ask(), "near");
  assert.equal(gateway.forwarded.length, 0);
  const sick = file(BY_ADDRESS).replace("labels: { app: both }", "labels: { app: both }, status: Unhealthy");
  await mesh.apply(sick);
  assert.equal(await ask(), "far");
  assert.equal(gateway.forwarded.length, 1);
  await mesh.apply(file(BY_ADDRESS));
  assert.equal(await ask(), "near");
});

const BYTES = 200_000_000;
test("double HBONE, 200 MB each way at once: every bit arrives, memory stays bounded, nothing is left", async () => {
  const gateway = await openGateway();
  const nodes = ["near", "far"].map((name) => mesh.node(name).ztunnel);
  const before = nodes.map((ztunnel) => ztunnel.residentKilobytes);
  let accepted: (fd: number) => void = () => {};
  const incoming = within<number>(10_000, "the connection", (resolve) => accepted = resolve);
  open.push(mesh.lab.listenRaw(server.namespaceFd, APP_PORT, (fd) => accepted(fd)));
  const fd = await mesh.lab.connectRaw(client.namespaceFd, mesh.vip("server"), 80);
  const ends = [new Bulk(mesh.lab, fd, BYTES), new Bulk(mesh.lab, await incoming, BYTES)];
  const [near, far] = await Promise.all(ends.map((end) => end.done(120_000)));
  assert.equal(far!.received, BYTES);
  assert.equal(near!.received, BYTES);
  assert.equal(far!.receivedSha256, near!.sentSha256);
  assert.equal(near!.receivedSha256, far!.sentSha256);
  for (const [i, ztunnel] of nodes.entries()) {
    const grownMegabytes = (ztunnel.residentKilobytes - before[i]!) / 1024;
    assert.ok(grownMegabytes < 112, `${Math.round(grownMegabytes)} MB more`);
  }
  await eventually(() => assert.ok(gateway.forwarded[0]!.stream.isClosed));
});

test("double HBONE, many short connections: an inner tunnel each, one outer tunnel, nothing is left", async () => {
  const gateway = await openGateway();
  open.push(server.listen(APP_PORT, (peer) => {
    void peer.read(4).then((text) => {
      peer.write(text.toUpperCase());
      peer.finish();
    });
  }));
  const ask = async (i: number) => {
    const peer = await client.connect(mesh.vip("server"), 80);
    peer.write(`a${String(i).padStart(3, "0")}`);
    const { text, end } = await peer.readToEnd();
    assert.deepEqual([text, end], [`A${String(i).padStart(3, "0")}`, "eof"]);
    peer.finish();
    peer.close();
  };
  for (let i = 0; i < 100; i += 20) await Promise.all(Array.from({ length: 20 }, (_, j) => ask(i + j)));
  assert.equal(gateway.forwarded.length, 100);
  assert.equal(gateway.tunnels, 1);
  await eventually(() => assert.ok(gateway.forwarded.every(({ stream }) => stream.isClosed)));
  const far = mesh.node("far");
  await eventually(async () => {
    const open = (await far.metrics()).filter(({ name }) => name === "istio_tcp_sockets_open");
    assert.ok(open.every(({ value }) => value === 0), JSON.stringify(open));
  });
});

const FAILURES: readonly (readonly [string, string, () => Promise<unknown>, RegExp])[] = [
  [
    "a gateway that is not up",
    "server",
    () => Promise.resolve(),
    new RegExp(`network gateway ${GATEWAY_IP}:15008: cannot reach ${GATEWAY_IP}:15008: .*nothing listens there`),
  ],
  [
    "a gateway that does not know the service",
    "server",
    () => openGateway(() => undefined),
    /network gateway .*: http status: 404 Not Found; the gateway does not know the service by this name/,
  ],
  [
    "a gateway with nobody behind it",
    "server",
    () => openGateway(() => "10.244.9.77"),
    /network gateway .*: http status: 503/,
  ],
  [
    "an impostor as the gateway",
    "server",
    () => openGateway(undefined, "spiffe://cluster.local/ns/border/sa/impostor"),
    /network gateway .*: identity verification error: .*border\/sa\/gateway.*got .*border\/sa\/impostor/,
  ],
  [
    "somebody else behind the gateway",
    "server",
    async () => {
      await openGateway(() => WAYPOINT_IP);
      open.push(listenHbone(mesh.lab, mesh.pod("waypoint"), await issue(mesh.ca, WAYPOINT_ID), () => assert.fail()));
    },
    /behind network gateway .*: identity verification error: .*city\/sa\/server.*got .*city\/sa\/waypoint/,
  ],
  ["a service whose far end nothing can verify", "nameless", () => openGateway(), /names no identities/],
];

for (const [name, service, arrange, expected] of FAILURES) {
  test(`double HBONE, ${name}: the client sees a reset, the log says why`, async () => {
    await arrange();
    const mark = mesh.node("near").ztunnel.mark;
    assert.equal(await client.refusal(mesh.vip(service), 80), ECONNRESET);
    assert.match((await failure(mark)).fields.error!, expected);
  });
}

test("double HBONE, a policy of the destination refuses: the client sees a reset, the log the status", async () => {
  await openGateway();
  const deny =
    "{ name: no, namespace: city, action: Deny, rules: [[[{ principals: [{ Exact: cluster.local/ns/town/sa/client }] }]]] }";
  await mesh.apply(file(BY_ADDRESS, `policies: [${deny}]`));
  const mark = mesh.node("near").ztunnel.mark;
  assert.equal(await client.refusal(mesh.vip("server"), 80), ECONNRESET);
  assert.match((await failure(mark)).fields.error!, /^http status: 401/);
  await mesh.apply(file(BY_ADDRESS));
});

for (const who of ["the gateway cuts the stream", "the gateway ends", "the far proxy dies"] as const) {
  test(`double HBONE, ${who} in the middle: a reset on both sides, not an end`, async () => {
    const gateway = await openGateway();
    const [peer, application] = await acceptOne(server, APP_PORT, () => client.connect(mesh.vip("server"), 80));
    peer.write("half a");
    await application.read(6);
    const mark = mesh.node("near").ztunnel.mark;
    if (who === "the far proxy dies") mesh.node("far").ztunnel.kill("SIGKILL");
    else if (who === "the gateway ends") open.splice(open.indexOf(gateway), 1)[0]!.close();
    else gateway.forwarded[0]!.cut();
    assert.equal(await peer.ended(), ECONNRESET);
    // What a killed process leaves behind is the kernel's to end.
    if (who !== "the far proxy dies") assert.equal(await application.ended(), ECONNRESET);
    const { fields } = await failure(mark);
    assert.match(fields.error!, /the tunnel was lost: .*gateway/);
    assert.equal(fields.bytes_sent, "6");
    if (who === "the far proxy dies") {
      await mesh.node("far").ztunnel.exit();
      await mesh.node("far").start({ NETWORK: "far" });
    }
    peer.close();
    application.close();
  });
}

for (const name of ["near", "far"] as const) {
  test(`double HBONE, SIGTERM to the ztunnel of ${name}: what is under way is completed, then it ends`, async () => {
    await openGateway();
    const { ztunnel } = mesh.node(name);
    let accepted: (fd: number) => void = () => {};
    const incoming = within<number>(10_000, "the connection", (resolve) => accepted = resolve);
    open.push(mesh.lab.listenRaw(server.namespaceFd, APP_PORT, (fd) => accepted(fd)));
    const fd = await mesh.lab.connectRaw(client.namespaceFd, mesh.vip("server"), 80);
    const bytes = 30_000_000;
    const ends = [new Bulk(mesh.lab, fd, bytes), new Bulk(mesh.lab, await incoming, bytes)];
    ztunnel.kill("SIGTERM");
    const [near, far] = await Promise.all(ends.map((end) => end.done(30_000)));
    assert.deepEqual([far!.receivedSha256, near!.receivedSha256], [near!.sentSha256, far!.sentSha256]);
    assert.deepEqual(await ztunnel.exit(), { code: 0, signal: null });
    assert.ok(ztunnel.lines.some((line) => line.includes("all connections finished")));
    await mesh.node(name).start({ NETWORK: name });
  });
}
