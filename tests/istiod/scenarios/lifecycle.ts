/** Processes that end, node agents that end, pods that come and go (reference ztunnel 2.4, 7, 11.1, 11.2). */
import assert from "node:assert/strict";
import { ECONNRESET } from "../../../src/platform/errno.ts";
import { acceptOne } from "../../e2e/support/mesh.ts";
import { complete, Load, serveLoad } from "../../e2e/support/load.ts";
import { eventually, pause } from "../../e2e/support/wait.ts";
import { ZdsServer } from "../../support/zds_server.ts";
import { APP_PORT, converse } from "../support/exchange.ts";
import type { LabNode } from "../support/node.ts";
import type { LabPod } from "../support/pod.ts";
import { scenario, type Scene } from "../support/scenario.ts";
import { Stopwatch } from "../../support/stopwatch.ts";

/** A node of its own, to be ended, with a client; and a server on the shared node. */
async function addMortal(scene: Scene, name: string, env = {}): Promise<[LabNode, LabPod, LabPod]> {
  const { lab, b, build, namespace } = scene;
  const mortal = await lab.addNode(build, `${build}-${name}`);
  await mortal.start(env);
  const [client, server] = await lab.addPods(
    { name: "client", namespace, node: mortal },
    { name: "server", namespace, node: b },
  ) as [LabPod, LabPod];
  await lab.settle([mortal, b], { uids: [client.workloadUid, server.workloadUid] });
  return [mortal, client, server];
}

scenario(
  "test_ztunnel_shutdown: after SIGTERM an open connection goes on, and the end follows its end",
  async (scene) => {
    const [mortal, client, server] = await addMortal(scene, "shutdown");
    const [peer, application] = await acceptOne(server, APP_PORT, () => client.connect(server.ip(), APP_PORT));
    peer.write("before");
    assert.equal(await application.read(6), "before");
    mortal.ztunnel.kill("SIGTERM");
    await mortal.ztunnel.line((line) => line.includes("draining"));
    peer.write("after");
    assert.equal(await application.read(5), "after");
    application.write("and back");
    assert.equal(await peer.read(8), "and back");
    peer.close();
    application.close();
    const watch = new Stopwatch();
    assert.deepEqual(await mortal.ztunnel.exit(), { code: 0, signal: null });
    const { ms } = watch.stop();
    assert.ok(ms < 2_000, `the end took ${ms} ms`);
    await assert.rejects(client.connect(server.ip(), APP_PORT), "nobody may serve the pod any more");
  },
  { sideBySide: true },
);

scenario("forced drain: what does not end is cut at the deadline", async (scene) => {
  const [mortal, client, server] = await addMortal(scene, "deadline", { CONNECTION_TERMINATION_DEADLINE: "1s" });
  const [peer, application] = await acceptOne(server, APP_PORT, () => client.connect(server.ip(), APP_PORT));
  const watch = new Stopwatch();
  mortal.ztunnel.kill("SIGTERM");
  assert.equal((await mortal.ztunnel.exit()).code, 0);
  const { ms, wallMs } = watch.stop();
  assert.ok(wallMs > 900 && ms < 4_000, `the end took ${ms} ms`);
  assert.notEqual(await peer.ended(), "closed");
  await application.ended();
  peer.close();
  application.close();
}, { sideBySide: true });

scenario("quitquitquit: POST ends the process in order", async (scene) => {
  const { lab, build } = scene;
  const mortal = await lab.addNode(build, `${build}-quit`);
  await mortal.start();
  const get = await mortal.http(15000, "/quitquitquit");
  assert.equal(get.status, 405);
  const post = await mortal.http(15000, "/quitquitquit", { method: "POST" });
  assert.equal(post.status, 200);
  assert.equal(post.body, "shutdown now\n");
  assert.equal((await mortal.ztunnel.exit()).code, 0);
}, { sideBySide: true });

scenario("test_server_shutdown: a deleted pod takes no more connections and its open ones end", async (scene) => {
  const { lab, a, b, namespace } = scene;
  const [client, server] = await lab.addPods(
    { name: "client", namespace, node: a },
    { name: "server", namespace, node: b },
  ) as [LabPod, LabPod];
  await lab.settle([a, b], { uids: [client.workloadUid, server.workloadUid] });
  const [peer, application] = await acceptOne(server, APP_PORT, () => client.connect(server.ip(), APP_PORT));
  await b.agent.delPod(server.uid);
  // The client's proxy has taken the connection before it finds that nobody answers.
  assert.equal(await client.refusal(server.ip(), APP_PORT, 20_000), ECONNRESET);
  peer.write("still there?");
  assert.notEqual(await peer.ended(20_000), "closed");
  peer.close();
  application.close();
});

scenario(
  "node agent killed and back: traffic goes on, pods that went meanwhile are stopped, new ones are served",
  async (scene) => {
    const { lab, a, b, namespace } = scene;
    const [client, server, leaver] = await lab.addPods(
      { name: "client", namespace, node: a },
      { name: "server", namespace, node: b },
      { name: "leaver", namespace, node: b },
    ) as [LabPod, LabPod, LabPod];
    await lab.settle([a, b], { uids: [client, server, leaver].map(({ workloadUid }) => workloadUid) });
    const [open, application] = await acceptOne(server, APP_PORT, () => client.connect(server.ip(), APP_PORT));
    const served = serveLoad(server, APP_PORT + 1);
    const load = new Load(4, () => client.connect(server.ip(), APP_PORT + 1));
    await eventually(() => assert.ok(load.completed > 20));
    const started = await b.metric("workload_manager_proxies_started_total");

    const pods = b.agent.pods.filter(({ uid }) => uid !== leaver.uid);
    b.agent.stop();
    const during = load.completed;
    await eventually(() => assert.ok(load.completed > during + 50));
    b.agent = ZdsServer.start(b.agentPath, { pods });
    await b.agent.connected();
    const after = load.completed;
    await eventually(() => assert.ok(load.completed > after + 50));
    await load.stop();
    served.close();
    assert.deepEqual(load.attempts.filter((attempt) => !complete(attempt)), []);
    assert.deepEqual(b.agent.violations, []);
    open.write("same connection");
    assert.equal(await application.read(15), "same connection");
    open.close();
    application.close();
    // Nothing was stopped and started again; the one that left is served no more.
    assert.equal(await b.metric("workload_manager_proxies_started_total"), started);
    const { workloadState } = await b.configDump();
    assert.equal(workloadState[leaver.uid], undefined);
    assert.equal(workloadState[server.uid]!.state, "Up");
    const [newcomer] = await lab.addPods({ name: "newcomer", namespace, node: b }) as [LabPod];
    await lab.settle([a, b], { uids: [newcomer.workloadUid] });
    await converse({ client, server: newcomer, path: "hbone" });
  },
);

scenario("pod deleted and its address reused: the new pod answers, under its own identity", async (scene) => {
  const { lab, a, b, namespace } = scene;
  const [client, first] = await lab.addPods(
    { name: "client", namespace, node: a },
    { name: "first", namespace, node: b },
  ) as [LabPod, LabPod];
  await lab.settle([a, b], { uids: [client.workloadUid, first.workloadUid] });
  await converse({ client, server: first, path: "hbone" });
  const { addresses } = first.facts;
  await lab.removePods(first);
  const [second] = await lab.addPods({ name: "second", namespace, node: b, addresses }) as [LabPod];
  await a.knows(({ workloads }) => {
    const uids = workloads.filter(({ workloadIps }) => workloadIps?.includes(addresses[0]!)).map(({ uid }) => uid);
    return uids.length === 1 && uids[0] === second.workloadUid ? undefined : `at that address: ${uids}`;
  });
  const mark = a.ztunnel.mark;
  await converse({ client, server: second, path: "hbone" });
  const { fields } = await a.ztunnel.access(({ fields }) => fields["src.namespace"] === namespace, mark);
  assert.equal(fields["dst.workload"], "second");
  assert.equal(fields["dst.identity"], second.identity);
});

scenario(
  "test_prefetch_forget_certs: certificates for the own node's pods only, shared by account, gone with the last",
  async (scene) => {
    const { lab, a, b, namespace } = scene;
    const [first, second, remote] = await lab.addPods(
      { name: "first", namespace, node: a, serviceAccount: "shared" },
      { name: "second", namespace, node: a, serviceAccount: "shared" },
      { name: "remote", namespace, node: b, serviceAccount: "remote" },
    ) as [LabPod, LabPod, LabPod];
    const certificates = async () =>
      (await a.configDump()).certificates.filter(({ identity }) => identity.includes(`/ns/${namespace}/`));
    await eventually(async () => {
      const held = await certificates();
      assert.deepEqual(held.map(({ identity, state }) => [identity, state]), [[first.identity, "Available"]]);
    });
    await lab.settle([a], { uids: [remote.workloadUid] });
    await lab.removePods(first);
    await a.knows(({ workloads }) =>
      workloads.some(({ uid }) => uid === first.workloadUid) ? "the first is still there" : undefined
    );
    await pause(200);
    assert.equal((await certificates()).length, 1, "the account has a pod left");
    await lab.removePods(second);
    await eventually(async () => assert.deepEqual(await certificates(), []));
  },
);

scenario(
  "rolling upgrade: a second ztunnel takes the pods over under load, and no connection is lost",
  async (scene) => {
    const { lab, b, namespace } = scene;
    const [old, client, server] = await addMortal(scene, "upgrade");
    const [inside] = await lab.addPods({ name: "inside", namespace, node: old }) as [LabPod];
    await lab.settle([old, b], { uids: [inside.workloadUid] });
    const served = [serveLoad(server, APP_PORT), serveLoad(inside, APP_PORT)];
    const loads = [
      new Load(4, () => client.connect(server.ip(), APP_PORT)),
      new Load(4, () => server.connect(inside.ip(), APP_PORT)),
    ];
    await eventually(() => loads.forEach((load) => assert.ok(load.completed > 30)));
    const twin = await lab.addTwin(old);
    await twin.launch();
    await twin.ready();
    await old.agent.connected(2);
    old.ztunnel.kill("SIGTERM");
    assert.deepEqual(await old.ztunnel.exit(30_000), { code: 0, signal: null });
    const before = loads.map((load) => load.completed);
    await eventually(() => loads.forEach((load, i) => assert.ok(load.completed > before[i]! + 30)));
    for (const load of loads) await load.stop();
    for (const { close } of served) close();
    for (const load of loads) assert.deepEqual(load.attempts.filter((attempt) => !complete(attempt)), []);
    await converse({ client, server: inside, path: "hbone" });
    await twin.stop();
  },
  { sideBySide: true },
);
