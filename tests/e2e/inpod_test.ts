/** Shared mode as in a cluster: a node agent announces pods over ZDS, each with its network namespace (reference ztunnel, section 2). */
import assert from "node:assert/strict";
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { ECONNREFUSED, ECONNRESET } from "../../src/platform/errno.ts";
import { ZdsServer } from "../support/zds_server.ts";
import { checkExchange } from "./support/exchange.ts";
import { acceptOne, TestMesh, type TestPod } from "./support/mesh.ts";
import { eventually, pause } from "./support/wait.ts";
import { Stopwatch } from "../support/stopwatch.ts";

const PODS = `
  - { name: client, namespace: town, serviceAccount: client, node: a }
  - { name: server, namespace: city, serviceAccount: server, node: b }
`;
const NODES = `nodes: [{ name: a }, { name: b }, { name: spare }]
pods:${PODS}`;
const LATE = `  - { name: late, namespace: city, serviceAccount: late, node: b }
`;
const FILE = NODES + LATE;
/** The agent gives a pod up after this. */
const AGENT_PATIENCE_MS = 5_000;

let mesh: TestMesh;
let client: TestPod;
let server: TestPod;
before(async () => {
  mesh = await TestMesh.create(FILE, { agents: {} });
  await Promise.all([mesh.node("a").start(), mesh.node("b").start()]);
  client = mesh.pod("client");
  server = mesh.pod("server");
});
after(() => mesh?.stop());

/** How many descriptors of a ztunnel are of this namespace. */
function holders(node: string, netns: string): number {
  const { pid } = mesh.node(node).ztunnel;
  const wanted = statSync(netns);
  return readdirSync(`/proc/${pid}/fd`).filter((fd) => {
    try {
      const { dev, ino } = statSync(`/proc/${pid}/fd/${fd}`);
      return dev === wanted.dev && ino === wanted.ino;
    } catch {
      return false;
    }
  }).length;
}

test("inpod, two nodes whose agents announce their pods: a connection goes from pod to pod by mTLS", async () => {
  await checkExchange({ mesh, client, server, ip: server.ip(), port: 8080, path: "hbone" });
  for (const { agent } of mesh.nodes) assert.deepEqual(agent?.violations ?? [], []);
});

test("inpod, the agent is killed and comes back: connections go on, new ones are made, and no pod is touched", async () => {
  const node = mesh.node("b");
  const agent = node.agent!;
  const mark = node.ztunnel.mark;
  const [peer, app] = await acceptOne(server, 7000, () => client.connect(server.ip(), 7000));
  agent.stop();
  await eventually(async () => {
    const ready = await node.http(15021, "/healthz/ready");
    assert.equal(ready.status, 500);
    assert.match(ready.body, /^not ready, pending: workload proxy manager\n/);
    assert.match(ready.body, /no connection to the node agent/);
  });
  await checkExchange({ mesh, client, server, ip: server.ip(), port: 8080, path: "hbone" });
  node.agent = ZdsServer.start(agent.path, { pods: agent.pods });
  await node.agent.connected();
  await eventually(async () => assert.equal((await node.http(15021, "/healthz/ready")).status, 200));
  peer.write("still here");
  assert.equal(await app.read(10), "still here");
  peer.close();
  app.close();
  assert.deepEqual(node.ztunnel.lines.slice(mark).filter((line) => /pod (served|removed)/.test(line)), []);
});

test("inpod, the agent comes back without a pod: it is gone; and with it again: it is served", async () => {
  const node = mesh.node("b");
  const agent = node.agent!;
  const application = server.listen(8080, (peer) => peer.close());
  agent.stop();
  node.agent = ZdsServer.start(agent.path, { pods: agent.pods.filter(({ uid }) => uid !== server.spec.uid) });
  await node.agent.connected();
  // Nobody listens at the redirection's port any more.
  assert.equal(await mesh.pod("late").refusal(server.ip(), 8080), ECONNRESET);
  await node.agent.addPod(mesh.agentPod(server.spec));
  await eventually(async () => assert.equal(await client.refusal(server.ip(), 8080), "eof"));
  application.close();
});

test("inpod, a pod that is announced before the mesh knows it: acknowledged at once; connections wait, and are refused after 5 s", async () => {
  const node = mesh.node("b");
  const late = mesh.pod("late");
  await node.agent!.delPod(late.spec.uid);
  await mesh.apply(NODES);
  const watch = new Stopwatch();
  const announced = new Stopwatch();
  await node.agent!.addPod(mesh.agentPod(late.spec));
  assert.ok(announced.stop().ms < 1_000);
  const mark = node.ztunnel.mark;
  // No record: its own connections get nowhere, in ztunnel's words.
  assert.equal(await late.refusal(server.ip(), 8080, 10_000), ECONNRESET);
  const { ms, wallMs } = watch.stop();
  assert.ok(wallMs > 4_500 && ms < 8_000, `${ms} ms`);
  const { fields } = await node.ztunnel.access(({ message }) => message === "connection failed", mark);
  assert.match(fields.error ?? "", /^failed to fetch information about local workload: late\.city \(late\)/);
  assert.equal(fields["dst.addr"], `${server.ip()}:8080`);
  assert.equal(fields.direction, "outbound");
  // One that waits when the record comes is served.
  const connected = acceptOne(server, 8080, () => late.connect(server.ip(), 8080));
  await pause(300);
  await mesh.apply(FILE);
  const [peer, app] = await connected;
  peer.write("now");
  assert.equal(await app.read(3), "now");
  peer.close();
  app.close();
});

test("inpod, a pod deleted, its address used by another one with another identity: nothing of the first is left", async () => {
  const node = mesh.node("b");
  const [peer, app] = await acceptOne(server, 7000, () => client.connect(server.ip(), 7000));
  await node.agent!.delPod(server.spec.uid);
  assert.notEqual(await peer.ended(), "eof");
  assert.notEqual(await app.ended(), "eof");
  await mesh.apply(FILE.replace("serviceAccount: server", "serviceAccount: next"));
  const mark = node.ztunnel.mark;
  await node.agent!.addPod({ ...mesh.agentPod(server.spec), uid: "next-uid", serviceAccount: "next" });
  await node.ztunnel.line((line) => line.includes("pod served"), mark);
  const [second, secondApp] = await acceptOne(server, 7000, () => client.connect(server.ip(), 7000));
  second.close();
  secondApp.close();
  const { fields } = await node.ztunnel.access(({ fields }) => fields.direction === "inbound", mark);
  assert.equal(fields["dst.identity"], "spiffe://cluster.local/ns/city/sa/next", JSON.stringify(fields));
  await node.agent!.delPod("next-uid");
  await mesh.apply(FILE);
  await node.agent!.addPod(mesh.agentPod(server.spec));
});

test("inpod, a pod whose port is taken: refused with the reason, not ready, and tried again without being asked", async () => {
  const node = mesh.node("b");
  const late = mesh.pod("late");
  await node.agent!.delPod(late.spec.uid);
  const taken = late.listen(15006, (peer) => peer.close());
  await assert.rejects(
    node.agent!.addPod(mesh.agentPod(late.spec)),
    /failure to start proxy : cannot listen on port 15006: address already in use/,
  );
  const { status, body } = await node.http(15021, "/healthz/ready");
  assert.equal(status, 500);
  assert.match(body, /1 pods cannot be served yet: city\/late: cannot listen on port 15006/);
  const pending = (await node.metrics()).find(({ name }) => name === "workload_manager_pending_proxy_count");
  assert.equal(pending?.value, 1);
  taken.close();
  await eventually(async () => assert.equal((await node.http(15021, "/healthz/ready")).status, 200));
  assert.deepEqual(node.agent!.violations, []);
});

test("inpod, a namespace is held from the add to the delete, and no longer", async () => {
  const node = mesh.node("b");
  const path = join("/tmp", `ambit-held-${Date.now()}`);
  await mesh.run({ node: "b" }, ["sh", "-c", `touch ${path} && unshare --net=${path} ip link set lo up`]);
  const pod = { uid: "held", name: "held", namespace: "x", serviceAccount: "x", netns: mesh.sandbox.pathInside(path) };
  await node.agent!.addPod(pod);
  assert.equal(holders("b", pod.netns), 1);
  await node.agent!.addPod(pod);
  assert.equal(holders("b", pod.netns), 1, "the same pod again holds no second one");
  await node.agent!.delPod("held");
  assert.equal(holders("b", pod.netns), 0);
  await mesh.run({ node: "b" }, ["sh", "-c", `umount ${path} && rm ${path}`]);
});

test("inpod, 500 pods in a burst: each acknowledged in time, and nothing is left of them afterwards", async () => {
  const node = mesh.node("a");
  const agent = node.agent!;
  const before = node.ztunnel.descriptors;
  const directory = `/tmp/ambit-burst-${Date.now()}`;
  const make =
    `mkdir ${directory} && for i in $(seq 500); do touch ${directory}/$i; unshare --net=${directory}/$i ip link set lo up; done`;
  await mesh.run({ node: "a" }, ["sh", "-c", make]);
  const pods = Array.from({ length: 500 }, (_, i) => ({
    uid: `burst-${i}`,
    name: `burst-${i}`,
    namespace: "burst",
    serviceAccount: "burst",
    netns: mesh.sandbox.pathInside(`${directory}/${i + 1}`),
  }));
  const mark = agent.answers.length;
  await Promise.all(pods.map((pod) => agent.addPod(pod)));
  const took = agent.answers.slice(mark).map(({ tookMs }) => tookMs);
  assert.equal(took.length, 500);
  const slowest = Math.max(...took);
  assert.ok(slowest < AGENT_PATIENCE_MS, `the slowest answer took ${Math.round(slowest)} ms`);
  // Three listeners and a namespace each.
  assert.ok(node.ztunnel.descriptors >= before + 2_000);
  assert.ok(
    (await node.metrics()).some(({ name, value }) => name === "workload_manager_active_proxy_count" && value === 501),
  );
  await Promise.all(pods.map(({ uid }) => agent.delPod(uid)));
  await eventually(() => assert.ok(node.ztunnel.descriptors <= before + 5, `${node.ztunnel.descriptors} of ${before}`));
  await mesh.run({ node: "a" }, ["sh", "-c", `umount ${directory}/* && rm -r ${directory}`]);
  assert.deepEqual(agent.violations, []);
});

test("inpod, an agent with two ztunnels: adds go to the newer, deletes to both, neither speaks unasked", async () => {
  const node = mesh.node("b");
  const agent = node.agent!;
  const twin = await mesh.twin("b", "spare");
  await twin.start();
  await agent.connected(2);
  const mark = [node, twin].map(({ ztunnel }) => ztunnel.mark);
  await agent.delPod(server.spec.uid);
  for (const [i, { ztunnel }] of [node, twin].entries()) {
    await ztunnel.line((line) => line.includes("pod removed") && line.includes("city/server"), mark[i]);
  }
  await agent.addPod(mesh.agentPod(server.spec));
  await twin.ztunnel.line((line) => line.includes("pod served") && line.includes("city/server"), mark[1]);
  assert.ok(!node.ztunnel.lines.slice(mark[0]).some((line) => line.includes("pod served")));
  assert.deepEqual(agent.violations, []);
  assert.notEqual(await client.refusal(server.ip(), 1), ECONNREFUSED);
});
