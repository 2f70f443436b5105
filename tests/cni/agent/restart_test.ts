/** What the next agent makes of what an earlier one has left: the snapshot (cni.md 3.6), an agent that was killed, a reboot. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { AMBIENT, enabled, FakeNode } from "./fakes.ts";

/** A node where an agent has captured `cart`, and ended. The next one begins with what outlives a process. */
async function afterAgent(bootId = "boot-1"): Promise<FakeNode> {
  const node = new FakeNode(bootId);
  node.source.setNamespace("shop", AMBIENT);
  await node.started();
  node.run();
  await node.clock.settle();
  await node.agent.stop();
  node.open.clear();
  node.held = 0;
  node.steps.length = 0;
  return node;
}

test("snapshot: captured pods are known before a ztunnel is served, with namespaces and probe set", async () => {
  const node = await afterAgent();
  node.hostSet.set("10.9.9.9", "uid-gone");
  await node.started();
  assert.equal(node.open.get("uid-cart")?.identity, "ns-cart");
  assert.deepEqual([...node.hostSet], [["10.0.0.7", "uid-cart"]]);
  assert.equal(node.state("cart"), "enrolled");
  assert.ok(!node.steps.some((step) => step.startsWith("apply")), "rules are left as they are");
});

test("snapshot: a captured pod whose namespace is not found is kept all the same", async () => {
  const node = await afterAgent();
  node.processes.clear();
  await node.started();
  assert.ok(node.steps.includes("ensure cart"));
  assert.equal(node.state("cart"), "enrolled");
});

test("snapshot: ended jobs are not in it", async () => {
  const node = new FakeNode();
  node.source.setNamespace("shop", AMBIENT);
  node.run({ phase: "Succeeded", annotations: enabled() });
  await node.started();
  assert.ok(!node.steps.includes("ensure cart"));
  assert.equal(node.source.annotation("cart"), undefined);
});

test("snapshot: rules are reconciled when asked for, and a failure is told and survived", async () => {
  for (const fails of [false, true]) {
    const node = await afterAgent();
    node.rules.clear();
    if (fails) node.fail = { apply: "busy" };
    await node.started({ reconcileOnStartup: true });
    assert.equal(node.rules.size, fails ? 0 : 1);
    assert.equal(node.logged.some((line) => line.includes("failed to reconcile inpod rules for pod")), fails);
    assert.equal(node.state("cart"), "enrolled");
  }
});

test("snapshot: rules that are in order are not touched by reconciling", async () => {
  const node = await afterAgent();
  await node.started({ reconcileOnStartup: true });
  assert.ok(!node.steps.some((step) => step.startsWith("apply")));
});

test("snapshot: a probe set that cannot be restored does not keep the agent from starting", async () => {
  const node = await afterAgent();
  node.fail = { hostSync: "no such set" };
  await node.started();
  assert.equal(node.open.get("uid-cart")?.identity, "ns-cart");
});

test("reboot: a captured pod of before is captured again in its new sandbox, though nobody asked for it", async () => {
  const node = await afterAgent("boot-1");
  const rebooted = new FakeNode("boot-2");
  for (const note of node.journal.read()) rebooted.journal.write(note);
  Object.assign(rebooted.journal, { read: () => node.journal.read() });
  rebooted.source.setNamespace("shop", AMBIENT);
  rebooted.run({ annotations: enabled() });
  await rebooted.started();
  assert.ok(rebooted.steps.includes("apply /ns/ns-cart"));
  assert.equal(rebooted.rules.size, 1);
  assert.equal(rebooted.count("drift namespace"), 1);
  assert.equal(rebooted.count("repair namespace true"), 1);
});

test("reboot: without a note a captured pod is looked at, for the notes may have been in memory", async () => {
  const node = new FakeNode();
  node.source.setNamespace("shop", AMBIENT);
  node.run({ annotations: enabled() });
  await node.started();
  assert.equal(node.rules.size, 1);
  const switchedOff = new FakeNode();
  switchedOff.source.setNamespace("shop", AMBIENT);
  switchedOff.run({ annotations: enabled() });
  await switchedOff.started({ verifyIntervalMs: 0 });
  assert.equal(switchedOff.rules.size, 0);
});

test("restart: a pod whose sandbox was replaced meanwhile is captured again", async () => {
  const node = await afterAgent();
  node.processes.set("uid-cart", "ns-new");
  await node.started();
  assert.ok(node.steps.includes("apply /ns/ns-new"));
  assert.equal(node.count("drift namespace"), 1);
});

test("restart: a pod that no longer belongs into the mesh is released", async () => {
  const node = await afterAgent();
  node.source.setNamespace("shop", {});
  await node.started();
  assert.equal(node.rules.size, 0);
  assert.equal(node.source.annotation("cart"), undefined);
  assert.deepEqual(node.journal.read(), []);
});

/** Every step of an addition at which the agent may be killed: the step never ends, then another agent starts. */
for (const step of ["apply", "zds"]) {
  for (const stays of [true, false]) {
    test(`killed at ${step}: the next agent ${stays ? "captures" : "frees"} the pod`, async () => {
      const node = new FakeNode();
      node.source.setNamespace("shop", AMBIENT);
      await node.started();
      node.blocked.set(step, new Promise(() => {}));
      node.run();
      await node.clock.settle();
      // Killed: what it held is the kernel's to close, what it has set up stays.
      if (step === "zds") assert.equal(node.rules.size, 1);
      node.source.stop();
      node.blocked.clear();
      node.open.clear();
      if (!stays) node.source.setNamespace("shop", {});
      await node.started();
      await node.clock.advance(1_000);
      assert.equal(node.rules.size, stays ? 1 : 0);
      assert.equal(node.source.annotation("cart"), stays ? "enabled" : undefined);
      assert.equal(node.journal.read().length, stays ? 1 : 0);
    });
  }
}

test("killed behind the annotation: the next agent has nothing to do", async () => {
  const node = await afterAgent();
  await node.started();
  await node.clock.advance(1_000);
  assert.ok(!node.steps.some((step) => step.startsWith("apply") || step.startsWith("annotate")));
});

test("restart: notes of pods that are gone are thrown away", async () => {
  const node = await afterAgent();
  node.source.delete("shop", "cart");
  await node.started();
  assert.deepEqual(node.journal.read(), []);
});

test("restart: a pending pod is finished", async () => {
  const node = new FakeNode();
  node.source.setNamespace("shop", AMBIENT);
  node.run({ annotations: enabled("pending") });
  await node.started();
  assert.equal(node.source.annotation("cart"), "enabled");
});
