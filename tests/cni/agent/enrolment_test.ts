/** The order of the steps, and what each failure leaves: the lists "net" and "server_linux" of the reference, cni.md 8.4. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { AMBIENT, enabled, FakeNode, makePod } from "./fakes.ts";
import { PodGone } from "../../../src/cni/agent/pods.ts";

async function nodeWith(): Promise<FakeNode> {
  const node = new FakeNode();
  node.source.setNamespace("shop", AMBIENT);
  await node.started();
  return node;
}

test("net: a pod is added in this order", async () => {
  const node = await nodeWith();
  node.run();
  await node.clock.settle();
  assert.deepEqual(node.steps, [
    "ensure cart",
    "apply /ns/ns-cart",
    "zds add cart",
    "host add uid-cart 10.0.0.7",
    "annotate cart enabled",
  ]);
  assert.equal(node.count("enrolled"), 1);
});

test("net: a pod is removed in this order", async () => {
  const node = await nodeWith();
  node.run();
  await node.clock.settle();
  node.steps.length = 0;
  node.source.setNamespace("shop", {});
  await node.clock.settle();
  assert.deepEqual(node.steps, [
    "host remove uid-cart",
    "remove /ns/ns-cart",
    "zds del uid-cart",
    "annotate cart null",
  ]);
});

test("net: without a namespace nothing is done, and ztunnel does not keep the pod", async () => {
  const node = await nodeWith();
  node.source.set(makePod());
  await node.clock.advance(1_000);
  assert.deepEqual(node.steps, ["ensure cart"]);
  assert.equal(node.open.size, 0);
  assert.equal(node.count("failed namespace"), 1);
});

test("net: rules that cannot be made are not retried, not told to ztunnel and not annotated", async () => {
  const node = await nodeWith();
  node.fail = { apply: "no such chain" };
  node.run();
  await node.clock.advance(5_000);
  assert.deepEqual(node.steps, ["ensure cart", "apply /ns/ns-cart"]);
  assert.equal(node.held, 0, "its namespace is let go");
  assert.equal(node.source.annotation("cart"), undefined);
  assert.match(node.source.told[0].message, /no such chain/);
  assert.equal(node.source.told[0].reason, "AmbientEnrollmentFailed");
});

test("net: a ztunnel that fails leaves the pod pending, with its rules in and its namespace known", async () => {
  const node = await nodeWith();
  node.fail = { zdsAdd: "got ack error: failure to start proxy" };
  node.run();
  await node.clock.settle();
  assert.equal(node.source.annotation("cart"), "pending");
  assert.equal(node.rules.size, 1);
  assert.equal(node.open.size, 1);
  assert.equal(node.hostSet.size, 0);
  node.fail = {};
  await node.clock.advance(1_000);
  assert.equal(node.source.annotation("cart"), "enabled");
});

test("net: what fails again and again for one reason is told once", async () => {
  const node = await nodeWith();
  node.acked = undefined;
  node.run();
  await node.clock.advance(60_000);
  const told = node.logged.filter((line) => line.startsWith("warn failed to add pod to ztunnel"));
  assert.equal(told.length, 1);
  assert.equal(node.source.told.length, 1);
});

test("net: a probe set that fails is tried again, and the pod is not annotated before", async () => {
  const node = await nodeWith();
  node.fail = { hostAdd: "set is full" };
  node.run();
  await node.clock.settle();
  assert.equal(node.source.annotation("cart"), undefined);
  node.fail = {};
  await node.clock.advance(1_000);
  assert.equal(node.source.annotation("cart"), "enabled");
});

test("net: the probe set's entry goes even if a later step of the removal fails", async () => {
  const node = await nodeWith();
  node.run();
  await node.clock.settle();
  node.fail = { remove: "busy", zdsDel: "no" };
  node.source.setNamespace("shop", {});
  await node.clock.settle();
  assert.equal(node.hostSet.size, 0);
  assert.equal(node.source.annotation("cart"), "enabled", "it says that the pod is captured, as it is");
});

test("net: a removal goes on with its later steps when an earlier one fails", async () => {
  const node = await nodeWith();
  node.run();
  await node.clock.settle();
  node.fail = { hostRemove: "no set" };
  node.source.setNamespace("shop", {});
  await node.clock.settle();
  assert.ok(node.steps.includes("remove /ns/ns-cart"));
  assert.ok(node.steps.includes("zds del uid-cart"));
  assert.equal(node.source.annotation("cart"), "enabled");
  node.fail = {};
  await node.clock.advance(1_000);
  assert.equal(node.source.annotation("cart"), undefined);
});

test("net: an entry of the probe set that is another pod's by now stays", async () => {
  const node = await nodeWith();
  node.run();
  await node.clock.settle();
  node.hostSet.set("10.0.0.7", "uid-other");
  node.source.delete("shop", "cart");
  await node.clock.settle();
  assert.deepEqual([...node.hostSet], [["10.0.0.7", "uid-other"]]);
});

test("mesh: the annotation is patched last, and a failed patch is tried again", async () => {
  const node = await nodeWith();
  node.source.failAnnotate = (state) => state === "enabled" ? new Error("the API server is gone") : undefined;
  node.run();
  await node.clock.settle();
  assert.equal(node.state("cart"), "failed");
  assert.ok(node.agent.pods()[0].captured);
  node.source.failAnnotate = undefined;
  await node.clock.advance(1_000);
  assert.equal(node.state("cart"), "enrolled");
});

test("mesh: an annotation that cannot be removed is tried again while the pod lives", async () => {
  const node = await nodeWith();
  node.run();
  await node.clock.settle();
  node.source.failAnnotate = (state) => state === null ? new Error("timeout") : undefined;
  node.source.setNamespace("shop", {});
  await node.clock.settle();
  assert.equal(node.source.annotation("cart"), "enabled");
  node.source.failAnnotate = undefined;
  await node.clock.advance(1_000);
  assert.equal(node.source.annotation("cart"), undefined);
});

test("mesh: a pod that is gone has no annotation to be removed", async () => {
  const node = await nodeWith();
  node.run();
  await node.clock.settle();
  node.source.failAnnotate = (state) => state === null ? new PodGone("gone") : undefined;
  node.source.setNamespace("shop", {});
  await node.clock.settle();
  assert.deepEqual(node.agent.queueLength, 0);
  assert.equal(node.state("cart"), "not eligible");
});

test("mesh: a deletion that fails is tried again and never patches", async () => {
  const node = await nodeWith();
  node.run();
  await node.clock.settle();
  node.fail = { zdsDel: "no" };
  node.source.delete("shop", "cart");
  await node.clock.advance(1_000);
  node.fail = {};
  await node.clock.advance(5_000);
  assert.ok(!node.steps.includes("annotate cart null"));
  assert.equal(node.agent.queueLength, 0);
  assert.equal(node.held, 0);
});

test("overrides: a pod's annotations decide over the node's settings", async () => {
  const cases: [Record<string, string>, { ingress: boolean; dnsCapture: boolean; virtualInterfaces: string[] }][] = [
    [{}, { ingress: false, dnsCapture: true, virtualInterfaces: [] }],
    [{ "ambient.istio.io/bypass-inbound-capture": "T" }, { ingress: true, dnsCapture: true, virtualInterfaces: [] }],
    [{ "ambient.istio.io/dns-capture": "0" }, { ingress: false, dnsCapture: false, virtualInterfaces: [] }],
    [{ "ambient.istio.io/dns-capture": "maybe" }, { ingress: false, dnsCapture: true, virtualInterfaces: [] }],
    [
      { "istio.io/reroute-virtual-interfaces": " tap0 , ,vnet1 " },
      { ingress: false, dnsCapture: true, virtualInterfaces: ["tap0", "vnet1"] },
    ],
  ];
  for (const [annotations, wanted] of cases) {
    const node = await nodeWith();
    node.run({ annotations });
    await node.clock.settle();
    assert.deepEqual(node.rules.get("/ns/ns-cart"), { ipv6: true, ...wanted }, JSON.stringify(annotations));
    const bad = Object.values(annotations).includes("maybe");
    assert.equal(node.logged.some((line) => line.includes("is no boolean")), bad);
  }
});

test("overrides: they are read when a pod is captured, not later", async () => {
  const node = await nodeWith();
  node.run();
  await node.clock.settle();
  node.source.set(makePod({ annotations: { ...enabled(), "ambient.istio.io/dns-capture": "false" } }));
  await node.clock.advance(200_000);
  assert.equal(node.rules.get("/ns/ns-cart")?.dnsCapture, true);
});

test("net: one pod is worked on by one at a time, several pods side by side", async () => {
  const node = await nodeWith();
  const { promise, resolve } = Promise.withResolvers<void>();
  node.blocked.set("apply", promise);
  node.run();
  node.run({ name: "web", ips: ["10.0.0.8"] });
  await node.clock.settle();
  node.source.delete("shop", "cart");
  await node.clock.settle();
  assert.deepEqual(node.steps.filter((step) => step.startsWith("apply")), ["apply /ns/ns-cart", "apply /ns/ns-web"]);
  assert.ok(!node.steps.includes("zds del uid-cart"), "the removal waits for the addition");
  resolve();
  await node.clock.settle();
  assert.ok(node.steps.indexOf("zds del uid-cart") > node.steps.indexOf("zds add cart"));
  assert.equal(node.held, 1, "of the pod that stays");
});
