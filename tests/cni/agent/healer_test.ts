/** What drifts is found, repaired, counted and told. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { AMBIENT, FakeNode, makePod } from "./fakes.ts";

async function captured(): Promise<FakeNode> {
  const node = new FakeNode();
  node.source.setNamespace("shop", AMBIENT);
  await node.started();
  node.run();
  await node.clock.settle();
  await node.clock.advance(6_000);
  node.steps.length = 0;
  return node;
}

test("healer: rules that are gone are put back within an interval, and what was missing is told", async () => {
  const node = await captured();
  node.rules.clear();
  await node.clock.advance(125_000);
  assert.ok(node.rules.has("/ns/ns-cart"));
  assert.equal(node.count("drift rules"), 1);
  assert.equal(node.count("repair rules true"), 1);
  assert.ok(node.logged.some((line) => line.startsWith("warn") && line.includes("no rules")));
});

test("healer: rules that are in order are looked at and left alone", async () => {
  const node = await captured();
  await node.clock.advance(200_000);
  assert.ok(node.count("verified") >= 2);
  assert.deepEqual(node.steps, []);
  const [report] = node.agent.pods();
  assert.deepEqual(report.verified?.drift, []);
});

test("healer: a drift that cannot be repaired twice in a row is an Event", async () => {
  const node = await captured();
  node.rules.clear();
  node.fail = { apply: "no nft" };
  await node.agent.healer.verifyAll();
  assert.equal(node.source.told.length, 0);
  await node.agent.healer.verifyAll();
  assert.equal(node.source.told[0].reason, "AmbientDrift");
  assert.match(node.source.told[0].message, /no nft/);
  assert.equal(node.agent.pods()[0].verified?.problem, "rules: cannot be repaired: no nft");
});

test("healer: a pod that is found out of order again and again is an Event, though each time repaired", async () => {
  const node = await captured();
  for (let i = 0; i < 3; i++) {
    node.rules.clear();
    await node.agent.healer.verifyAll();
  }
  assert.equal(node.source.told.length, 1);
  assert.match(node.source.told[0].message, /again and again/);
});

test("healer: a ztunnel that does not know the pod is told again", async () => {
  const node = await captured();
  node.acked!.clear();
  await node.agent.healer.verifyAll();
  assert.ok(node.acked!.has("uid-cart"));
  assert.equal(node.count("repair ztunnel true"), 1);
});

test("healer: without a ztunnel that is what the status says", async () => {
  const node = await captured();
  node.acked = undefined;
  await node.agent.healer.verifyAll();
  assert.equal(node.agent.pods()[0].verified?.problem, "no ztunnel connection");
  assert.equal(node.agent.pods()[0].ztunnelAck, false);
});

test("healer: a sandbox that was replaced is captured at the second look that finds it so", async () => {
  const node = await captured();
  node.processes.set("uid-cart", "ns-new");
  await node.agent.healer.verifyAll();
  assert.equal(node.open.get("uid-cart")?.identity, "ns-cart", "it may just be being replaced");
  await node.agent.healer.verifyAll();
  await node.clock.settle();
  assert.equal(node.open.get("uid-cart")?.identity, "ns-new");
  assert.ok(node.steps.includes("apply /ns/ns-new"));
  assert.equal(node.count("repair namespace true"), 1);
  assert.equal(node.held, 1);
});

test("healer: a pod that could not be captured is tried again", async () => {
  const node = new FakeNode();
  node.source.setNamespace("shop", AMBIENT);
  await node.started();
  node.source.set(makePod());
  await node.clock.settle();
  assert.equal(node.state("cart"), "failed");
  node.processes.set("uid-cart", "ns-cart");
  await node.clock.advance(130_000);
  assert.equal(node.state("cart"), "enrolled");
});

test("healer: an annotation that is gone without an event is put back", async () => {
  const node = await captured();
  node.source.vanish("shop", "cart");
  node.source.set(makePod());
  await node.clock.advance(200_000);
  assert.equal(node.source.annotation("cart"), "enabled");
});

test("healer: the node's rules are verified on a clock of their own", async () => {
  const node = await captured();
  node.hostDrift = ["rule missing"];
  await node.clock.advance(21_000);
  assert.ok(node.steps.includes("host repair"));
  assert.equal(node.count("drift host"), 1);
  assert.equal(node.count("repair host true"), 1);
});

test("healer: pods are spread over the interval", async () => {
  const node = new FakeNode();
  node.source.setNamespace("shop", AMBIENT);
  await node.started();
  for (let i = 0; i < 9; i++) node.run({ name: `p${i}`, ips: [`10.0.0.${i}`] });
  await node.clock.settle();
  await node.clock.advance(60_000);
  const counts: number[] = [];
  for (let i = 0; i < 6; i++) {
    const before = node.count("verified");
    await node.clock.advance(10_000);
    counts.push(node.count("verified") - before);
  }
  assert.ok(Math.max(...counts) <= 3, `looks in 10 s each: ${counts}`);
  assert.ok(counts.reduce((a, b) => a + b) >= 8);
});

test("healer: it stops with the agent", async () => {
  const node = await captured();
  await node.agent.stop();
  node.rules.clear();
  await node.clock.advance(300_000);
  assert.equal(node.rules.size, 0);
});

test("healer: an interval of 0 switches it off", async () => {
  const node = new FakeNode();
  node.source.setNamespace("shop", AMBIENT);
  await node.started({ verifyIntervalMs: 0, hostVerifyIntervalMs: 0 });
  node.run();
  await node.clock.settle();
  node.rules.clear();
  await node.clock.advance(300_000);
  assert.equal(node.count("verified"), 0);
});
