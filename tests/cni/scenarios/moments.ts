/** In the middle of an add: the pod goes, the agent is killed, many come at once. */
import assert from "node:assert/strict";
import process from "node:process";
import { eventually, pause } from "../../e2e/support/wait.ts";
import { FakeZtunnel } from "../support/fake_ztunnel.ts";
import { podRules, probeSet, watchForLeaks } from "../support/kernel.ts";
import { breakApi, mendApi } from "../support/network.ts";
import type { CniNode } from "../support/node.ts";
import { APP_PORT, CniPod } from "../support/pod.ts";
import { holdsNothingOf, remainsOf } from "../support/remains.ts";
import { scenario } from "../support/scenario.ts";
import { inTurns } from "../support/turns.ts";
import { flowsByHbone } from "../support/traffic.ts";

scenario("pod deleted in mid-add: nothing of it stays", async (scene) => {
  const { lab, node, namespace } = scene;
  await lab.addNamespace(namespace, "ambient");
  const fake = await FakeZtunnel.connect(node);
  await fake.asked(({ kind }) => kind === "snapshot_sent");
  fake.answering = false;
  const pod = await CniPod.bind(node, { name: "short", namespace });
  await pod.makeNamespace();
  const adding = pod.add().then(() => undefined, (error) => error as Error);
  await fake.asked((request) => request.kind === "add" && request.uid === pod.uid);
  await lab.plane.api.delete(pod.object);
  await pause(100);
  fake.answer();
  await adding;
  const remains = remainsOf(pod);
  await pod.removeNamespace();
  fake.close();
  await node.agent.connected(1);
  await holdsNothingOf(node, [remains]);
});

scenario("address reused: the late end of its former owner does not take it from the new one", async (scene) => {
  const { lab, node, namespace } = scene;
  await lab.addNamespace(namespace, "ambient");
  const address = `10.244.${node.number * 16 + 9}.9`;
  const former = await CniPod.bind(node, { name: "former", namespace, address });
  await former.run();
  assert.equal(former.ip(), address);
  const uid = former.uid;
  await former.app!.end();
  former.app = undefined;
  await former.removeNamespace();
  // Its object is still there when the address has a new owner.
  const owner = await node.addPod({ name: "owner", namespace, address });
  assert.equal((await probeSet(node)).get(address), owner.uid);
  await lab.plane.api.delete(former.object);
  await eventually(async () => assert.ok(!(await node.ztunnel.served()).includes(uid)));
  await pause(200);
  assert.equal((await probeSet(node)).get(address), owner.uid);
  const server = await node.addPod({ name: "server", namespace });
  await flowsByHbone(owner, server);
});

scenario(
  "killed at any moment of an add: the next agent knows, nothing is left, nothing goes past ztunnel",
  async (scene) => {
    const { lab, node, namespace } = scene;
    await lab.addNamespace(namespace, "ambient");
    const server = await node.addPod({ name: "server", namespace });
    for (let round = 0; round < ROUNDS; round++) {
      const pod = await CniPod.bind(node, { name: `victim-${round}`, namespace });
      await pod.makeNamespace();
      const adding = pod.add().then(() => true, () => false);
      await pause(Math.random() * ADD_MS);
      await node.agent.kill();
      const added = await adding;
      await judge(node, pod, server, added);
    }
  },
);

/** About what an ADD takes, with some to spare. */
const ADD_MS = 300;
const ROUNDS = process.env.AMBIT_CNI_FULL === "1" ? 100 : 4;

/** After an agent was killed: what the runtime does with the sandbox, then what the next agent makes of it. */
async function judge(node: CniNode, pod: CniPod, server: CniPod, added: boolean): Promise<void> {
  if (added) {
    await pod.startApp();
    await pod.report();
    await node.agent.start();
    const leaked = await watchForLeaks(pod, APP_PORT);
    await pod.becomes("enabled");
    await flowsByHbone(pod, server);
    assert.equal(await leaked(), 0);
  } else {
    const first = remainsOf(pod);
    await pod.removeNamespace();
    await node.agent.start();
    // The runtime tries again. Until then ztunnel may be told to keep a pod whose annotation was written already.
    await pod.run();
    await flowsByHbone(pod, server);
    await eventually(async () => {
      // The number of a namespace that is gone is given out again.
      const held = first.inode !== pod.inode && node.agent.program!.holds(first.inode);
      assert.ok(!held, "the agent holds the namespace of the first sandbox");
      const probes = await probeSet(node);
      const stale = first.addresses.filter((ip) => !pod.addresses.includes(ip) && probes.get(ip) === pod.uid);
      assert.deepEqual(stale, [], "addresses of the first sandbox are still in the probe set");
    });
  }
  const remains = remainsOf(pod);
  await pod.remove();
  await holdsNothingOf(node, [remains]);
}

scenario("killed between two steps of an add: rules in and no ack, ack and no annotation", async (scene) => {
  const { lab, node, namespace } = scene;
  await lab.addNamespace(namespace, "ambient");
  const server = await node.addPod({ name: "server", namespace });
  for (const step of ["no ack", "no annotation"] as const) {
    const fake = await FakeZtunnel.connect(node);
    await fake.asked(({ kind }) => kind === "snapshot_sent");
    fake.answering = false;
    const pod = await CniPod.bind(node, { name: step.replace(" ", "-"), namespace });
    await pod.makeNamespace();
    const adding = pod.add().then(() => true, () => false);
    await fake.asked((request) => request.kind === "add" && request.uid === pod.uid);
    assert.notDeepEqual(await podRules(pod), []);
    if (step === "no annotation") {
      await breakApi(node);
      fake.answer();
      await pause(300);
    }
    await node.agent.kill();
    fake.close();
    if (step === "no annotation") await mendApi(node);
    assert.equal(await adding, false);
    await judge(node, pod, server, false);
  }
});

scenario("a burst: every pod is enrolled by the time it has its sandbox, and all are gone after it", async (scene) => {
  const { lab, node, build, namespace } = scene;
  await lab.addNamespace(namespace, "ambient");
  const count = build === "compiled" ? 200 : 40;
  const pods = await Promise.all(
    Array.from(
      { length: count },
      (_, i) => CniPod.bind(node, { name: `p${i}`, namespace, serviceAccount: "burst", idle: true }),
    ),
  );
  let refused = 0;
  const remains = await inTurns(pods, 8, async (pod) => {
    await pod.makeNamespace();
    await pod.add().catch(async () => {
      // Three bursts at once on this machine: who has waited for 5 s is refused, and the runtime makes another sandbox.
      refused++;
      await pod.removeNamespace();
      await pod.makeNamespace();
      await pod.add();
    });
    return remainsOf(pod);
  });
  assert.ok(refused <= count / 20, `${refused} of ${count} sandboxes were refused`);
  const served = new Set(await node.ztunnel.served());
  const probes = await probeSet(node);
  for (const pod of pods) {
    assert.ok(served.has(pod.uid), `${pod.name} is not served`);
    for (const address of pod.addresses) assert.equal(probes.get(address), pod.uid);
  }
  for (const pod of pods.slice(0, 5)) assert.notDeepEqual(await podRules(pod), []);
  await inTurns(pods, 8, (pod) => pod.remove());
  await holdsNothingOf(node, remains, 60_000);
});
