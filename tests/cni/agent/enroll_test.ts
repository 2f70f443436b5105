/** The plugin's way into the mesh: the list "cni-watcher" of the reference, cni.md 8.4. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { AMBIENT, FakeNode, makePod, type PodSpec } from "./fakes.ts";

const NEVER = new AbortController().signal;

async function nodeWith(pod?: PodSpec): Promise<FakeNode> {
  const node = new FakeNode();
  node.source.setNamespace("shop", AMBIENT);
  await node.started();
  node.paths.set("/var/run/netns/cni-1", "ns-1");
  if (pod !== undefined) node.source.set(makePod({ ips: [], phase: "Pending", ...pod }));
  await node.clock.settle();
  return node;
}

function event(ips: readonly string[] = ["10.0.0.7"], podName = "cart") {
  return { netns: "/var/run/netns/cni-1", podName, podNamespace: "shop", ips };
}

test("plugin: a pod that is being made is captured once, in the namespace and with the addresses that the runtime names", async () => {
  const node = await nodeWith({ ips: ["10.9.9.9"] });
  node.steps.length = 0;
  await node.agent.enroll(event(["10.0.0.7", "fd00::7"]), NEVER);
  assert.deepEqual(node.steps, [
    "ensure cart",
    "apply /ns/ns-1",
    "zds add cart",
    "host add uid-cart 10.0.0.7,fd00::7",
    "annotate cart enabled",
  ]);
  // The events that this causes change nothing any more.
  await node.clock.settle();
  assert.equal(node.steps.filter((step) => step.startsWith("apply")).length, 1);
});

test("plugin: without addresses in the event those of the status count", async () => {
  const node = await nodeWith();
  node.source.set(makePod({ ips: ["10.1.1.1"], labels: { "istio.io/dataplane-mode": "none" } }));
  await node.clock.settle();
  node.source.vanish("shop", "cart");
  node.source.unseen.set("shop/cart", makePod({ ips: ["10.1.1.1"] }));
  const enrolling = node.agent.enroll(event([]), NEVER).catch(() => {});
  await node.clock.advance(200);
  await enrolling;
  assert.ok(node.steps.includes("host add uid-cart 10.1.1.1"));
});

test("plugin: a pod the informer learns of a little later is waited for", async () => {
  const node = await nodeWith();
  const enrolling = node.agent.enroll(event(), NEVER);
  await node.clock.advance(35);
  node.source.set(makePod({ ips: [], phase: "Pending" }));
  await node.clock.advance(20);
  await enrolling;
  assert.equal(node.source.fetches, 0);
  assert.equal(node.state("cart"), "enrolled");
});

test("plugin: a pod the informer does not learn of is asked for, after ten looks", async () => {
  const node = await nodeWith();
  const pod = makePod({ ips: [], phase: "Pending" });
  node.source.unseen.set("shop/cart", pod);
  const enrolling = node.agent.enroll(event(), NEVER).catch((error) => error.message);
  await node.clock.advance(99);
  assert.equal(node.source.fetches, 0);
  await node.clock.advance(1);
  assert.equal(node.source.fetches, 1);
  assert.equal(await enrolling, "cannot annotate the pod: no such pod", "which the fake API server does not hold");
  assert.ok(node.rules.has("/ns/ns-1"));
});

test("plugin: a pod that is nowhere is refused", async () => {
  const node = await nodeWith();
  const enrolling = node.agent.enroll(event(), NEVER).catch((error) => error.message);
  await node.clock.advance(200);
  assert.equal(await enrolling, "there is no pod shop/cart");
});

test("plugin: before the informers are through the API server is asked at once", async () => {
  const node = new FakeNode();
  node.source.setNamespace("shop", AMBIENT);
  node.paths.set("/var/run/netns/cni-1", "ns-1");
  node.source.set(makePod({ ips: [] }));
  await node.create().enroll(event(), NEVER);
  assert.equal(node.source.fetches, 1);
  assert.equal(node.source.annotation("cart"), "enabled");
});

test("plugin: a pod that does not belong into the mesh is refused, with the reason", async () => {
  const cases: [PodSpec, RegExp][] = [
    [{ labels: { "istio.io/dataplane-mode": "none" } }, /unexpectedly not eligible.*no selector matches/],
    [{ hostNetwork: true }, /not eligible.*hostNetwork/],
    [{ annotations: { "sidecar.istio.io/status": "{}" } }, /not eligible.*sidecar/],
  ];
  for (const [spec, message] of cases) {
    const node = await nodeWith(spec);
    await assert.rejects(node.agent.enroll(event(), NEVER), message);
    assert.deepEqual(node.steps, []);
  }
});

test("plugin: a namespace that nobody knows is refused", async () => {
  const node = await nodeWith();
  node.source.set(makePod({ namespace: "bogus", ips: [] }));
  await assert.rejects(node.agent.enroll({ ...event(), podNamespace: "bogus" }, NEVER), /there is no namespace bogus/);
});

test("plugin: a path that is no namespace is refused and nothing is kept", async () => {
  const node = await nodeWith({});
  await assert.rejects(node.agent.enroll({ ...event(), netns: "/etc/passwd" }, NEVER), /is no namespace/);
  assert.equal(node.open.size, 0);
});

test("plugin: without a ztunnel the sandbox is refused, and the pod pending", async () => {
  const node = await nodeWith({});
  node.acked = undefined;
  await assert.rejects(node.agent.enroll(event(), NEVER), /no ztunnel connection/);
  assert.equal(node.source.annotation("cart"), "pending");
  assert.equal(node.source.told[0].reason, "AmbientEnrollmentFailed");
});

test("plugin: the next sandbox of a refused pod replaces the namespace of the first", async () => {
  const node = await nodeWith({});
  node.acked = undefined;
  await assert.rejects(node.agent.enroll(event(), NEVER));
  node.acked = new Set();
  node.paths.set("/var/run/netns/cni-2", "ns-2");
  await node.agent.enroll({ ...event(), netns: "/var/run/netns/cni-2" }, NEVER);
  assert.equal(node.open.get("uid-cart")?.identity, "ns-2");
  assert.equal(node.held, 1);
  assert.equal(node.source.annotation("cart"), "enabled");
});

test("plugin: who has gone away gets nothing done, and what waits for its turn does not begin", async () => {
  const node = await nodeWith({});
  const { promise, resolve } = Promise.withResolvers<void>();
  node.blocked.set("zds", promise);
  const caller = new AbortController();
  const first = node.agent.enroll(event(), caller.signal).catch((error) => error.message);
  const second = node.agent.enroll(event(), caller.signal).catch((error) => error.message);
  await node.clock.settle();
  caller.abort(new Error("the caller has gone away"));
  resolve();
  await node.clock.settle();
  assert.match(await first, /gone away/);
  assert.match(await second, /gone away/);
  assert.equal(node.steps.filter((step) => step === "ensure cart").length, 1);
  assert.ok(!node.steps.some((step) => step.startsWith("host add")));
});

test("plugin: a successor of the same name is not taken for the pod before", async () => {
  const node = await nodeWith();
  node.processes.set("uid-old", "ns-old");
  node.source.set(makePod({ uid: "uid-old" }));
  await node.clock.settle();
  assert.equal(node.state("cart"), "enrolled");
  // The informer still knows the first one only.
  node.source.unseen.set("shop/cart", makePod({ uid: "uid-new", ips: [], phase: "Pending" }));
  await node.agent.enroll(event(["10.0.0.9"]), NEVER).catch(() => {});
  assert.equal(node.open.get("uid-new")?.identity, "ns-1");
  assert.equal(node.open.get("uid-old")?.identity, "ns-old");
});

test("plugin: a pod deleted in the middle of its addition leaves nothing", async () => {
  const node = await nodeWith({});
  const { promise, resolve } = Promise.withResolvers<void>();
  node.blocked.set("zds", promise);
  const enrolling = node.agent.enroll(event(), NEVER).catch((error) => error.message);
  await node.clock.settle();
  node.source.delete("shop", "cart");
  await node.clock.settle();
  resolve();
  assert.match(await enrolling, /no such pod/);
  await node.clock.advance(10_000);
  assert.equal(node.held, 0);
  assert.equal(node.hostSet.size, 0);
  assert.ok(!node.acked!.has("uid-cart"));
  assert.deepEqual(node.journal.read(), []);
  assert.equal(node.agent.queueLength, 0);
});

test("plugin: pods of a burst are captured side by side, as many as the limit says", async () => {
  const node = new FakeNode();
  node.source.setNamespace("shop", AMBIENT);
  await node.started({ concurrency: 3 });
  const { promise, resolve } = Promise.withResolvers<void>();
  node.blocked.set("apply", promise);
  const all = [1, 2, 3, 4, 5].map((i) => {
    node.source.set(makePod({ name: `p${i}`, ips: [], phase: "Pending" }));
    node.paths.set(`/netns/${i}`, `ns-${i}`);
    return node.agent.enroll(
      { netns: `/netns/${i}`, podName: `p${i}`, podNamespace: "shop", ips: [`10.0.0.${i}`] },
      NEVER,
    );
  });
  await node.clock.settle();
  assert.equal(node.steps.filter((step) => step.startsWith("apply")).length, 3);
  resolve();
  await Promise.all(all);
  assert.equal(node.hostSet.size, 5);
});

test("plugin: a failure is an Event once, until the reason changes", async () => {
  const node = await nodeWith({});
  node.acked = undefined;
  for (let i = 0; i < 3; i++) await node.agent.enroll(event(), NEVER).catch(() => {});
  assert.equal(node.source.told.length, 1);
  await node.clock.advance(40_000);
  node.fail = { apply: "no nft" };
  await node.agent.enroll(event(), NEVER).catch(() => {});
  assert.equal(node.source.told.length, 2);
  assert.match(node.source.told[1].message, /no nft/);
});

test("plugin: a captured pod gets another sandbox under the same uid", async () => {
  const node = await nodeWith({});
  await node.agent.enroll(event(), NEVER);
  node.paths.set("/var/run/netns/cni-2", "ns-2");
  await node.agent.enroll({ ...event(), netns: "/var/run/netns/cni-2" }, NEVER);
  assert.equal(node.open.get("uid-cart")?.identity, "ns-2");
  assert.ok(node.rules.has("/ns/ns-2"));
  assert.equal(node.source.annotation("cart"), "enabled");
});
