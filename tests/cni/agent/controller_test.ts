/** What the informers' events do: the list "informers" of the reference, cni.md 8.4. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { mergeItems } from "../../../src/cni/agent/controller.ts";
import { PodGone } from "../../../src/cni/agent/pods.ts";
import { AMBIENT, enabled, FakeNode, makePod } from "./fakes.ts";

async function nodeWith(labels: Record<string, string> = AMBIENT): Promise<FakeNode> {
  const node = new FakeNode();
  node.source.setNamespace("shop", labels);
  await node.started();
  return node;
}

test("informers: an existing pod is added when its namespace is labelled", async () => {
  const node = await nodeWith({});
  node.run();
  await node.clock.settle();
  assert.equal(node.state("cart"), "not eligible");
  node.source.setNamespace("shop", AMBIENT);
  await node.clock.settle();
  assert.equal(node.state("cart"), "enrolled");
  assert.equal(node.source.annotation("cart"), "enabled");
});

test("informers: a pod that was there before the agent is added at its start", async () => {
  const node = new FakeNode();
  node.source.setNamespace("shop", AMBIENT);
  node.run();
  await node.started();
  assert.equal(node.state("cart"), "enrolled");
});

test("informers: a retryable failure leaves the pod pending, and is tried again until it works", async () => {
  const node = await nodeWith();
  node.acked = undefined;
  node.run();
  await node.clock.advance(100);
  assert.equal(node.state("cart"), "pending ztunnel");
  assert.equal(node.source.annotation("cart"), "pending");
  node.acked = new Set();
  await node.clock.advance(10_000);
  assert.equal(node.state("cart"), "enrolled");
  assert.equal(node.source.annotation("cart"), "enabled");
});

test("informers: what waits for a ztunnel is tried as soon as one has its snapshot", async () => {
  const node = await nodeWith();
  node.acked = undefined;
  node.run();
  await node.clock.advance(60_000);
  assert.equal(node.state("cart"), "pending ztunnel");
  node.acked = new Set();
  node.agent.ztunnelReady();
  await node.clock.settle();
  assert.equal(node.state("cart"), "enrolled");
});

test("informers: pending is patched once, not at each try", async () => {
  const node = await nodeWith();
  node.acked = undefined;
  node.run();
  await node.clock.advance(20_000);
  assert.equal(node.steps.filter((step) => step === "annotate cart pending").length, 1);
  assert.ok(node.steps.filter((step) => step === "zds add cart").length > 5);
});

test("informers: a failure that cannot be cured by trying again is not tried again, and not annotated", async () => {
  const node = await nodeWith();
  node.source.set(makePod());
  await node.clock.advance(5_000);
  assert.equal(node.state("cart"), "failed");
  assert.equal(node.source.annotation("cart"), undefined);
  assert.equal(node.steps.filter((step) => step === "ensure cart").length, 1);
  assert.equal(node.source.told.length, 1);
  assert.match(node.source.told[0].message, /network namespace/);
});

test("informers: both addresses of a dual-stack pod are let through to probes", async () => {
  const node = await nodeWith();
  node.run({ ips: ["10.0.0.7", "fd00::7"] });
  await node.clock.settle();
  assert.deepEqual([...node.hostSet], [["10.0.0.7", "uid-cart"], ["fd00::7", "uid-cart"]]);
});

test("informers: a pod without an address waits for it", async () => {
  const node = await nodeWith();
  node.run({ ips: [] });
  await node.clock.settle();
  assert.equal(node.state("cart"), "waiting for address");
  assert.deepEqual(node.steps, []);
  node.run({ ips: ["10.0.0.7"] });
  await node.clock.settle();
  assert.equal(node.state("cart"), "enrolled");
});

test("informers: a pod on the host's network is left alone", async () => {
  const node = await nodeWith();
  node.run({ hostNetwork: true, labels: AMBIENT });
  await node.clock.settle();
  assert.deepEqual(node.steps, []);
  assert.equal(node.state("cart"), "not eligible");
});

test("informers: a pod is released when its namespace is unlabelled", async () => {
  const node = await nodeWith();
  node.run();
  await node.clock.settle();
  node.source.setNamespace("shop", {});
  await node.clock.settle();
  assert.equal(node.rules.size, 0);
  assert.equal(node.source.annotation("cart"), undefined);
  assert.equal(node.held, 0);
  assert.equal(node.hostSet.size, 0);
});

test("informers: a pod is released when its own label says so", async () => {
  const node = await nodeWith();
  node.run();
  await node.clock.settle();
  const annotations = enabled();
  node.source.set(makePod({ labels: { "istio.io/dataplane-mode": "none" }, annotations }));
  await node.clock.settle();
  assert.equal(node.rules.size, 0);
  assert.equal(node.source.annotation("cart"), undefined);
});

test("informers: a release that fails is tried again and still takes the rules out", async () => {
  const node = await nodeWith();
  node.run();
  await node.clock.settle();
  node.fail = { remove: "busy" };
  node.source.setNamespace("shop", {});
  await node.clock.settle();
  assert.equal(node.state("cart"), "removing");
  assert.equal(node.rules.size, 1);
  assert.equal(node.source.annotation("cart"), "enabled");
  node.fail = {};
  await node.clock.advance(5_000);
  assert.equal(node.rules.size, 0);
  assert.equal(node.source.annotation("cart"), undefined);
  assert.equal(node.held, 0);
});

test("informers: a finished job's release is tried again, although it has ended", async () => {
  const node = await nodeWith();
  node.run();
  await node.clock.settle();
  node.fail = { zdsDel: "no" };
  node.source.set(makePod({ phase: "Succeeded", ips: [], annotations: enabled() }));
  await node.clock.settle();
  assert.ok(node.acked!.has("uid-cart"));
  node.fail = {};
  await node.clock.advance(5_000);
  assert.ok(!node.acked!.has("uid-cart"));
  assert.equal(node.hostSet.size, 0, "the address it no longer has is out of the set");
  assert.ok(!node.steps.some((step) => step.startsWith("remove ")), "its namespace goes by itself");
  assert.equal(node.source.annotation("cart"), undefined);
});

test("informers: a pod that fails is released like one that succeeds", async () => {
  const node = await nodeWith();
  node.run();
  await node.clock.settle();
  node.source.set(makePod({ phase: "Failed", annotations: enabled() }));
  await node.clock.settle();
  assert.equal(node.state("cart"), "ended");
  assert.equal(node.held, 0);
});

test("informers: a deleted pod is told to ztunnel, and its annotation is nobody's", async () => {
  const node = await nodeWith();
  node.run();
  await node.clock.settle();
  node.source.delete("shop", "cart");
  await node.clock.settle();
  assert.ok(node.steps.includes("zds del uid-cart"));
  assert.ok(!node.steps.includes("annotate cart null"));
  assert.equal(node.held, 0);
  assert.deepEqual(node.agent.pods(), []);
});

test("informers: a deleted pod is released even if its namespace is gone already", async () => {
  const node = await nodeWith();
  node.run();
  await node.clock.settle();
  node.source.deleteNamespace("shop");
  node.source.delete("shop", "cart");
  await node.clock.settle();
  assert.ok(node.steps.includes("zds del uid-cart"));
  assert.equal(node.hostSet.size, 0);
  assert.equal(node.held, 0);
});

test("informers: a pod that only matches is taken off ztunnel's list too when it is deleted", async () => {
  const node = await nodeWith();
  node.source.set(makePod({ ips: [] }));
  await node.clock.settle();
  node.source.delete("shop", "cart");
  await node.clock.settle();
  assert.ok(node.steps.includes("zds del uid-cart"));
});

test("informers: an update of a pod that has vanished is skipped", async () => {
  const node = await nodeWith();
  const { promise, resolve } = Promise.withResolvers<void>();
  node.blocked.set("apply", promise);
  node.run();
  await node.clock.settle();
  node.run({ labels: { x: "y" } });
  node.source.vanish("shop", "cart");
  resolve();
  await node.clock.advance(10_000);
  assert.equal(node.steps.filter((step) => step === "ensure cart").length, 1);
  assert.ok(node.logged.some((line) => line.includes("the pod is gone: its update is skipped")));
  assert.equal(node.agent.queueLength, 0);
});

test("informers: an old event of a pod that is captured by now does nothing", async () => {
  const node = await nodeWith();
  const pod = node.run();
  await node.clock.settle();
  const before = node.steps.length;
  // The informer's next event may still carry the pod as it was before the annotation.
  node.source.set({ ...pod, metadata: { ...pod.metadata, labels: { changed: "yes" } } });
  await node.clock.settle();
  assert.deepEqual(node.steps.slice(before), []);
});

test("informers: the probe set is asserted again when a captured pod's address changes, and only then", async () => {
  const node = await nodeWith();
  node.run();
  await node.clock.settle();
  const before = node.steps.length;
  node.source.set(makePod({ annotations: enabled(), labels: { a: "b" } }));
  await node.clock.settle();
  assert.deepEqual(node.steps.slice(before), []);
  node.source.set(makePod({ annotations: enabled(), ips: ["10.0.0.8"] }));
  await node.clock.settle();
  assert.deepEqual(node.steps.slice(before), ["host add uid-cart 10.0.0.8"]);
});

test("informers: pods of an excluded namespace are not added, whatever their labels", async () => {
  const node = new FakeNode();
  node.source.setNamespace("kube-system", AMBIENT);
  node.source.setNamespace("shop", AMBIENT);
  await node.started();
  node.run({ namespace: "kube-system", name: "proxy", labels: AMBIENT });
  node.run();
  await node.clock.settle();
  assert.equal(node.state("proxy"), "not eligible");
  assert.equal(node.state("cart"), "enrolled");
  assert.ok(node.logged.some((line) => line.includes("excluded")));
});

test("informers: a captured pod of a namespace that is excluded now is released, and its deletion handled", async () => {
  const node = new FakeNode();
  node.source.setNamespace("kube-system", AMBIENT);
  node.run({ namespace: "kube-system", name: "proxy", annotations: enabled() });
  await node.started();
  assert.equal(node.source.annotation("proxy", "kube-system"), undefined);
  assert.ok(node.steps.includes("remove /ns/ns-proxy"));
  node.source.delete("kube-system", "proxy");
  await node.clock.settle();
  assert.equal(node.held, 0);
});

test("informers: ztunnel itself is never captured", async () => {
  const node = new FakeNode();
  node.source.setNamespace("istio-system", AMBIENT);
  await node.started();
  node.run({ namespace: "istio-system", name: "ztunnel-x", labels: { app: "ztunnel", ...AMBIENT } });
  await node.clock.settle();
  assert.deepEqual(node.steps, []);
});

test("informers: a pod whose annotation somebody took away is captured again", async () => {
  const node = await nodeWith();
  node.run();
  await node.clock.settle();
  await node.clock.advance(6_000);
  node.source.set(makePod({ labels: { x: "y" } }));
  await node.clock.settle();
  assert.equal(node.source.annotation("cart"), "enabled");
});

test("informers: the same name with another uid is another pod", async () => {
  const node = await nodeWith();
  node.run();
  await node.clock.settle();
  node.processes.set("uid-2", "ns-2");
  node.source.set(makePod({ uid: "uid-2", ips: ["10.0.0.9"] }));
  await node.clock.settle();
  assert.ok(node.steps.includes("zds del uid-cart"));
  assert.deepEqual([...node.hostSet], [["10.0.0.9", "uid-2"]]);
  assert.equal(node.held, 1);
});

test("informers: what is counted is what was handled", async () => {
  const node = await nodeWith();
  node.run();
  await node.clock.settle();
  node.source.delete("shop", "cart");
  await node.clock.settle();
  assert.equal(node.count("reconciled add"), 1);
  assert.ok(node.count("reconciled update") >= 1);
  assert.equal(node.count("reconciled delete"), 1);
});

test("informers: a pod that is gone from the API server when it is annotated is tried again, and then left", async () => {
  const node = await nodeWith();
  node.source.failAnnotate = () => new PodGone("gone");
  node.run();
  await node.clock.settle();
  node.source.failAnnotate = undefined;
  node.source.delete("shop", "cart");
  await node.clock.advance(10_000);
  assert.equal(node.held, 0);
  assert.equal(node.agent.queueLength, 0);
});

test("informers: waiting events become one step, and a deletion is the last of them", () => {
  const [a, b, c] = ["1", "2", "3"].map((label) => makePod({ labels: { label } }));
  const update = mergeItems(
    { kind: "update", before: a, after: b, added: true },
    { kind: "update", before: b, after: c, added: false },
  );
  assert.deepEqual(update, { kind: "update", before: a, after: c, added: true });
  assert.equal(mergeItems(update, { kind: "delete", pod: c }).kind, "delete");
  assert.equal(mergeItems({ kind: "delete", pod: c }, update).kind, "delete");
});
