/** The other end of the agent's socket: absent, silent, refusing, foolish, doubled (reference cni, 3.8 and 5.3). */
import assert from "node:assert/strict";
import { eventually } from "../../e2e/support/wait.ts";
import { eventsOf, refused } from "../support/failures.ts";
import { FakeZtunnel } from "../support/fake_ztunnel.ts";
import { watchForLeaks } from "../support/kernel.ts";
import { APP_PORT, CniPod } from "../support/pod.ts";
import { remainsOf } from "../support/remains.ts";
import { scenario } from "../support/scenario.ts";
import { doesNotFlow, flowsByHbone, Load } from "../support/traffic.ts";
import { Ztunnel } from "../support/ztunnel.ts";
import { Stopwatch } from "../../support/stopwatch.ts";

scenario(
  "ztunnel absent: no sandbox, and a running pod that is enrolled has no traffic until one is back",
  async (scene) => {
    const { lab, node, namespace } = scene;
    await lab.addNamespace(`${namespace}-mesh`, "ambient");
    const [client, server] = await node.addPods({ name: "client", namespace }, { name: "server", namespace }) as [
      CniPod,
      CniPod,
    ];
    await node.ztunnel.stop();
    await node.agent.connected(0);
    const waits = await CniPod.bind(node, { name: "waits", namespace: `${namespace}-mesh` });
    assert.match(await refused(waits), /no ztunnel connection/);
    await eventually(async () => assert.match((await eventsOf(waits)).join("\n"), /ztunnel/));
    await waits.removeNamespace();

    const leaked = await watchForLeaks(client, APP_PORT);
    await lab.label(namespace, "ambient");
    await client.becomes("pending");
    await doesNotFlow(client, server);
    await node.ztunnel.start();
    await node.ztunnel.ready();
    await Promise.all([client, server].map((pod) => pod.becomes("enabled", 30_000)));
    await flowsByHbone(client, server);
    // Only what was sent before it was captured.
    assert.equal(await leaked(), 0);
    await waits.run();
    assert.equal(await waits.redirection(), "enabled");
  },
);

scenario(
  "ztunnel that never acks: the sandbox is refused in time, its connection is ended, and the other one serves",
  async (scene) => {
    const { lab, node, namespace } = scene;
    await lab.addNamespace(namespace, "ambient");
    const server = await node.addPod({ name: "server", namespace });
    const fake = await FakeZtunnel.connect(node);
    await fake.asked(({ kind }) => kind === "snapshot_sent");
    fake.answering = false;
    const pod = await CniPod.bind(node, { name: "unacked", namespace });
    const watch = new Stopwatch();
    const text = await refused(pod);
    const { ms } = watch.stop();
    assert.ok(ms < 8_000, `it took ${ms} ms`);
    assert.match(text, /ztunnel|within 5 s|timed out|timeout/i);
    await eventually(() => assert.ok(fake.closed, "the connection is still open"), 10_000);
    await pod.removeNamespace();
    await pod.run();
    await flowsByHbone(pod, server);
    fake.close();
  },
);

scenario("ztunnel that says no: the sandbox is refused with its reason", async (scene) => {
  const { lab, node, namespace } = scene;
  await lab.addNamespace(namespace, "ambient");
  const fake = await FakeZtunnel.connect(node);
  await fake.asked(({ kind }) => kind === "snapshot_sent");
  fake.refusal = "failure to start proxy : the test says so";
  const pod = await CniPod.bind(node, { name: "nacked", namespace });
  assert.match(await refused(pod), /got ack error: failure to start proxy : the test says so/);
  fake.close();
  await pod.removeNamespace();
  await node.agent.connected(1);
  await pod.run();
  assert.equal(await pod.redirection(), "enabled");
});

scenario("a peer that says nothing, or nonsense, or too much: it is cut off, and others are served", async (scene) => {
  const { lab, node, namespace } = scene;
  await lab.addNamespace(namespace, "ambient");
  for (const words of [[], [new Uint8Array([0xff, 0xff])], [new Uint8Array(3000)]]) {
    const fake = await FakeZtunnel.connect(node, { greets: false });
    for (const bytes of words) fake.say(bytes);
    await eventually(() => assert.ok(fake.closed, "the connection is still open"), 10_000);
    fake.close();
  }
  const pod = await node.addPod({ name: "served", namespace });
  assert.ok((await node.ztunnel.served()).includes(pod.uid));
});

scenario(
  "two ztunnels during a rollout: both serve all pods, the newer one gets the new ones, nothing is lost",
  async (scene) => {
    const { lab, node, namespace } = scene;
    await lab.addNamespace(namespace, "ambient");
    const [client, server] = await node.addPods({ name: "client", namespace }, { name: "server", namespace }) as [
      CniPod,
      CniPod,
    ];
    await flowsByHbone(client, server);
    const load = await Load.start(client, server);
    const place = `${node.name}-2`;
    await lab.sandbox.add({ nodes: [{ name: place, addresses: [`10.240.1.${node.number}`] }], pods: [], captured: [] });
    const next = await Ztunnel.create(node, "-2", place);
    try {
      await next.start();
      await next.ready();
      await node.agent.connected(2);
      assert.ok((await next.served()).includes(server.uid));
      const late = await node.addPod({ name: "late", namespace });
      assert.ok((await next.served()).includes(late.uid));
      await node.ztunnel.stop("SIGTERM");
      await node.agent.connected(1);
      await load.more(20);
      await load.stop();
      assert.deepEqual(load.failures, []);
      const remains = remainsOf(late);
      await late.remove();
      await eventually(async () => assert.ok(!(await next.served()).includes(remains.uid)));
    } finally {
      await next.stop();
      next.close();
    }
  },
);
