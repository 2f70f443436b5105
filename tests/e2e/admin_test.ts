/** ztunnel's own three servers, asked from its node: readiness, metrics, and the admin endpoint. */
import assert from "node:assert/strict";
import { symlink } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { ECONNREFUSED } from "../../src/platform/errno.ts";
import { APP_PORT, socketAddress } from "./support/exchange.ts";
import { acceptOne, TestMesh, type TestNode } from "./support/mesh.ts";
import { eventually } from "./support/wait.ts";

const FILE = `
nodes: [{ name: a }, { name: b }]
pods:
  - { name: client, namespace: town, serviceAccount: client, node: a }
  - { name: server, namespace: city, serviceAccount: server, node: a, labels: { app: server } }
services:
  - { name: shop, namespace: city, selector: { app: server }, ports: { 80: ${APP_PORT} } }
`;
const READINESS = 15021;
const METRICS = 15020;
const ADMIN = 15000;

let mesh: TestMesh;
let node: TestNode;
before(async () => {
  mesh = await TestMesh.create(FILE);
  node = mesh.node("a");
});
after(() => mesh?.stop());

test("readiness: 500 and what is missing before the first snapshot, 200 when all pods are served", async () => {
  // The control plane comes later.
  const control = join(mesh.directory, "later.sock");
  await node.launch({ LOCAL_CONTROL: control });
  const early = await eventually(() => node.http(READINESS, "/healthz/ready"));
  assert.equal(early.status, 500);
  const [first, ...reasons] = early.body.split("\n");
  assert.equal(first, "not ready, pending: state manager, workload proxy manager");
  assert.match(reasons[0], /^state manager: .* \(pending for [0-9]+ s\)$/);
  assert.match(reasons[1], /^workload proxy manager: .* \(pending for [0-9]+ s\)$/);
  await symlink(node.socket, control);
  await eventually(async () => assert.equal((await node.http(READINESS, "/healthz/ready")).status, 200), 30_000);
  assert.equal((await node.http(READINESS, "/healthz/ready")).body, "ready\n");
  assert.equal((await node.http(READINESS, "/healthz/ready", { method: "POST" })).status, 405);
  assert.equal((await node.http(READINESS, "/other")).status, 404);
});

test("metrics: the content type that is asked for, the same text, compressed if the client can take it", async () => {
  const plain = await node.http(METRICS, "/metrics");
  assert.equal(plain.status, 200);
  assert.match(plain.headers["content-type"]!, /^text\/plain/);
  assert.ok(plain.body.endsWith("# EOF\n"));
  assert.match(plain.body, /^workload_manager_active_proxy_count 2$/m);
  assert.match(plain.body, /^istio_build\{component="ztunnel",tag="[^"]+"\} 1$/m);
  for (const path of ["/metrics", "/stats/prometheus"]) {
    const open = await node.http(METRICS, path, { headers: { Accept: "application/openmetrics-text; version=1.0.0" } });
    assert.equal(open.headers["content-type"], "application/openmetrics-text;charset=utf-8;version=1.0.0");
    assert.ok(open.body.endsWith("# EOF\n"));
  }
  const packed = await node.http(METRICS, "/metrics", { headers: { "Accept-Encoding": "gzip" } });
  assert.equal(packed.headers["content-encoding"], "gzip");
});

test("config_dump: every top-level key of ztunnel's, and the connections that are open", async () => {
  const client = mesh.pod("client");
  const server = mesh.pod("server");
  const [peer, application] = await acceptOne(server, APP_PORT, () => client.connect(mesh.vip("shop"), 80));
  peer.write("x");
  await application.read(1);
  const dump = await node.configDump();
  assert.deepEqual(Object.keys(dump).sort(), [
    "certificates",
    "config",
    "policies",
    "services",
    "stagedServices",
    "staticConfig",
    "version",
    "workloadState",
    "workloads",
  ]);
  assert.deepEqual(dump.certificates.map(({ identity, state }) => [identity, state]), [
    [server.identity, "Available"],
    [client.identity, "Available"],
  ]);
  const { workloadState } = dump;
  assert.deepEqual(Object.values(workloadState).map(({ state }) => state), ["Up", "Up"]);
  const [outbound] = workloadState[client.spec.uid]!.connections.outbound;
  assert.deepEqual(outbound, {
    src: socketAddress(client.ip(), peer.local!.port),
    originalDst: socketAddress(mesh.vip("shop"), 80),
    actualDst: socketAddress(server.ip(), 15008),
    protocol: "HBONE",
  });
  const [inbound] = workloadState[server.spec.uid]!.connections.inbound;
  assert.equal(inbound!.actualDst, socketAddress(server.ip(), APP_PORT));
  assert.equal(inbound!.originalDst, "shop.city.svc.cluster.local");
  assert.equal(inbound!.protocol, "HBONE");
  for (const end of [peer, application]) end.finish();
  await eventually(async () => {
    const later = await node.configDump();
    assert.deepEqual(later.workloadState[client.spec.uid]!.connections.outbound, []);
  });
  for (const end of [peer, application]) end.close();
});

test("logging: the level changes while it runs, in the workers too, and a bad one changes nothing", async () => {
  const connect = async () => {
    const [peer, application] = await acceptOne(
      mesh.pod("server"),
      APP_PORT,
      () => mesh.pod("client").connect(mesh.pod("server").ip(), APP_PORT),
    );
    peer.close();
    application.close();
  };
  const opened = (line: string) => line.includes("connection opened");
  assert.equal((await node.http(ADMIN, "/logging")).status, 405);
  const current = await node.http(ADMIN, "/logging", { method: "POST" });
  assert.match(current.body, /^current log level is .*info\n$/);
  await connect();
  assert.ok(!node.ztunnel.lines.some(opened));

  const mark = node.ztunnel.mark;
  const bad = await node.http(ADMIN, "/logging?level=loud", { method: "POST" });
  assert.equal(bad.status, 400);
  assert.match(bad.body, /Invalid level provided/);
  assert.equal((await node.http(ADMIN, "/logging?level=access=debug", { method: "POST" })).status, 200);
  await connect();
  await node.ztunnel.line(opened, mark);

  assert.equal((await node.http(ADMIN, "/logging?reset&level=info", { method: "POST" })).status, 200);
  const from = node.ztunnel.mark;
  await connect();
  await node.ztunnel.access(({ message }) => message === "connection complete", from);
  assert.ok(!node.ztunnel.lines.slice(from + 4).some(opened));
});

test("admin: not reachable from another node", async () => {
  const address = mesh.file.nodes[0]!.addresses[0]!;
  const elsewhere = mesh.node("b").namespaceFd;
  await assert.rejects(mesh.lab.connect(elsewhere, address, ADMIN), { code: ECONNREFUSED });
  (await mesh.lab.connect(elsewhere, address, METRICS)).close();
});

test("quitquitquit: only by POST, and the process ends with 0", async () => {
  assert.equal((await node.http(ADMIN, "/quitquitquit")).status, 405);
  assert.ok(node.ztunnel.running);
  const { status, body } = await node.http(ADMIN, "/quitquitquit", { method: "POST" });
  assert.equal(status, 200);
  assert.equal(body, "shutdown now\n");
  assert.deepEqual(await node.ztunnel.exit(), { code: 0, signal: null });
  await assert.rejects(node.http(READINESS, "/healthz/ready"), { code: ECONNREFUSED });
});
