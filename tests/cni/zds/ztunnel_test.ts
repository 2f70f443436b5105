/** The ZDS server with real ztunnels at the other end, in network namespaces with real traffic. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import process from "node:process";
import { after, before, test } from "node:test";
import { createNetnsCache } from "../../../src/cni/netns/cache.ts";
import { startZdsServer, type ZdsPod, type ZdsServer } from "../../../src/cni/zds/server.ts";
import { openNamespace } from "../../../src/platform/netns.ts";
import { startThread } from "../../../src/platform/thread.ts";
import { checkExchange } from "../../e2e/support/exchange.ts";
import { acceptOne, TestMesh, type TestPod } from "../../e2e/support/mesh.ts";
import type { ZtunnelProcess } from "../../e2e/support/ztunnel_process.ts";
import { eventually } from "../../e2e/support/wait.ts";
import { until } from "./fake_ztunnel.ts";
import { Stopwatch } from "../../support/stopwatch.ts";

const ENTRY = new URL("../../../src/roles/cni_worker.ts", import.meta.url);
const FILE = `
nodes: [{ name: a }, { name: b }, { name: spare }]
pods:
  - { name: client, namespace: town, serviceAccount: client, node: a }
  - { name: server, namespace: city, serviceAccount: server, node: b }
  - { name: late, namespace: city, serviceAccount: late, node: b }
`;

let mesh: TestMesh;
let zds: ZdsServer;
let client: TestPod;
let server: TestPod;
let late: TestPod;
const cache = createNetnsCache();

/** Enters a pod, as the node agent does before it tells anybody. */
function enter({ spec }: TestPod): ZdsPod {
  const { uid, name, namespace, serviceAccount } = spec;
  const workload = { name, namespace, serviceAccount };
  const path = mesh.sandbox.netnsPath({ pod: name, namespace });
  return { uid, workload, netns: cache.upsert(uid, openNamespace(path), workload) };
}

function startServer(deadlineMs?: number): void {
  zds = startZdsServer({
    path: mesh.node("b").agent!.path,
    pods: () => cache.entries(),
    startThread: (data, events) => startThread(ENTRY, data, events),
    log() {},
    acceptsPerSecond: 50,
    deadlineMs,
  });
}

/** Lets a stopped ztunnel go on: nsenter, its parent, has stopped with it, and goes on only when it is told to. */
function wake(ztunnel: ZtunnelProcess): void {
  const parent = Number(readFileSync(`/proc/${ztunnel.pid}/stat`, "utf8").replace(/^.*\) \S /, "").split(" ")[0]);
  ztunnel.kill("SIGCONT");
  process.kill(parent, "SIGCONT");
}

const served = (count: number) =>
  until(() => zds.connections().filter(({ snapshotSent }) => snapshotSent).length === count, `${count} served`, 15_000);

before(async () => {
  mesh = await TestMesh.create(FILE, { agents: {} });
  [client, server, late] = ["client", "server", "late"].map((name) => mesh.pod(name));
  // From here on the server under test is node b's agent.
  mesh.node("b").agent!.stop();
  enter(server);
  startServer();
  await Promise.all([mesh.node("a").start(), mesh.node("b").launch({})]);
  await served(1);
});
after(async () => {
  zds?.close();
  cache.clear();
  await mesh?.stop();
});

test("zds server, ztunnel: a pod of the snapshot and one that comes are served, one that goes is not", async () => {
  await checkExchange({ mesh, client, server, ip: server.ip(), port: 8080, path: "hbone" });
  await zds.add(enter(late));
  assert.deepEqual([...zds.connections()[0].ackedUids].sort(), [server.spec.uid, late.spec.uid].sort());
  await checkExchange({ mesh, client, server: late, ip: late.ip(), port: 8080, path: "hbone" });
  cache.take(late.spec.uid)?.release();
  await zds.del(late.spec.uid);
  await eventually(async () => {
    const names = Object.keys((await mesh.node("b").configDump()).workloadState);
    assert.equal(names.includes(late.spec.uid), false);
  });
});

test("zds server, ztunnel: the agent is started anew: nothing stops, and a pod that is gone is forgotten by the snapshot", async () => {
  await zds.add(enter(late));
  zds.close();
  await checkExchange({ mesh, client, server, ip: server.ip(), port: 8080, path: "hbone" });
  cache.take(late.spec.uid)?.release();
  startServer();
  await served(1);
  await checkExchange({ mesh, client, server, ip: server.ip(), port: 8080, path: "hbone" });
  const names = Object.keys((await mesh.node("b").configDump()).workloadState);
  assert.deepEqual(names, [server.spec.uid]);
});

test("zds server, ztunnel: a second ztunnel takes over, and goes again", async () => {
  const old = mesh.node("b");
  const twin = await mesh.twin("b", "spare");
  await twin.launch({});
  await served(2);
  await zds.add(enter(late));
  const [first, second] = zds.connections();
  assert.equal(first.acked(late.spec.uid), false, "a new pod is for the newest alone");
  assert.equal(second.acked(late.spec.uid), true);
  old.ztunnel.kill("SIGTERM");
  await old.ztunnel.exit();
  await until(() => zds.connections().length === 1, "the old one is gone");
  const [peer, app] = await acceptOne(late, 8080, () => client.connect(late.ip(), 8080));
  peer.write("by the new one");
  assert.equal(await app.read(14), "by the new one");
  peer.close();
  app.close();
  // And back, as the next update does.
  await old.launch({});
  await served(2);
  twin.ztunnel.kill("SIGKILL");
  await twin.ztunnel.exit();
  await until(() => zds.connections().length === 1, "the second is gone");
  assert.equal(zds.connections()[0].acked(late.spec.uid), true, "the snapshot had it");
  await checkExchange({ mesh, client, server: late, ip: late.ip(), port: 8080, path: "hbone" });
});

test("zds server, ztunnel: one that hangs is closed when its time is up, and told everything when it goes on", async () => {
  const { ztunnel } = mesh.node("b");
  zds.close();
  startServer(1_500);
  await served(1);
  const files = readdirSync("/proc/self/fd").length;
  cache.take(late.spec.uid)?.release();
  await zds.del(late.spec.uid);
  ztunnel.kill("SIGSTOP");
  const watch = new Stopwatch();
  await assert.rejects(zds.add(enter(late)), /^Error: ztunnel did not answer within 1.5 s \(add .*\)$/);
  const { ms, wallMs } = watch.stop();
  assert.ok(wallMs > 1_400 && ms < 4_000, `${ms} ms`);
  assert.deepEqual(zds.connections(), []);
  wake(ztunnel);
  await served(1);
  assert.equal(zds.connections()[0].acked(late.spec.uid), true);
  await checkExchange({ mesh, client, server: late, ip: late.ip(), port: 8080, path: "hbone" });
  await until(() => readdirSync("/proc/self/fd").length === files, "as many files are open as before");
});
