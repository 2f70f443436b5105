/** What the status says of each pod, and its text. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type AgentReport, formatAgentReport, isSettled, type PodReport } from "../../../src/cni/agent/status.ts";
import { AMBIENT, enabled, FakeNode, makePod } from "./fakes.ts";

async function nodeWith(): Promise<FakeNode> {
  const node = new FakeNode();
  node.source.setNamespace("shop", AMBIENT);
  await node.started();
  return node;
}

function only(node: FakeNode): PodReport {
  const pods = node.agent.pods();
  assert.equal(pods.length, 1);
  return pods[0];
}

test("report: a captured pod with its rules, namespace and ztunnel", async () => {
  const node = await nodeWith();
  node.run({ annotations: { "ambient.istio.io/dns-capture": "false" } });
  await node.clock.settle();
  await node.agent.healer.verifyAll();
  assert.deepEqual(only(node), {
    namespace: "shop",
    name: "cart",
    uid: "uid-cart",
    ips: ["10.0.0.7"],
    eligible: true,
    eligibleReason: "selector 2 matches",
    captured: true,
    state: "enrolled",
    reason: undefined,
    since: "2023-11-14T22:13:20.000Z",
    rules: {
      by: "nftables",
      dnsCapture: false,
      ipv6: true,
      ingress: false,
      virtualInterfaces: [],
      appliedAt: "2023-11-14T22:13:20.000Z",
    },
    netns: "ns-cart",
    ztunnelAck: true,
    verified: { at: "2023-11-14T22:13:20.000Z", drift: [], problem: undefined },
    annotation: "enabled",
  });
  assert.ok(isSettled(only(node)));
});

test("report: each state has its reason and its beginning", async () => {
  const node = await nodeWith();
  node.source.set(makePod({ ips: [] }));
  await node.clock.settle();
  assert.equal(only(node).state, "waiting for address");

  node.processes.set("uid-cart", "ns-cart");
  node.acked = undefined;
  await node.clock.advance(5_000);
  node.source.set(makePod());
  await node.clock.advance(60_000);
  const pending = only(node);
  assert.deepEqual([pending.state, pending.reason, pending.captured], [
    "pending ztunnel",
    "no ztunnel connection",
    true,
  ]);
  assert.equal(pending.since, "2023-11-14T22:13:25.000Z", "since it is so, not since the last try");
  assert.ok(!isSettled(pending));

  node.fail = { zdsDel: "no" };
  node.source.setNamespace("shop", {});
  await node.clock.settle();
  assert.deepEqual([only(node).state, only(node).eligible], ["removing", false]);
  assert.match(only(node).reason ?? "", /no selector matches; not through: ztunnel did not let go/);

  node.fail = {};
  await node.clock.advance(10_000);
  const free = only(node);
  assert.deepEqual([free.state, free.captured, free.eligibleReason], ["not eligible", false, "no selector matches"]);
  assert.ok(isSettled(free));

  node.source.set(makePod({ phase: "Succeeded" }));
  await node.clock.settle();
  assert.equal(only(node).state, "ended");
});

test("report: a pod that could not be captured says why, and that its traffic flows past the mesh", async () => {
  const node = await nodeWith();
  node.source.set(makePod());
  await node.clock.settle();
  const report = only(node);
  assert.deepEqual([report.state, report.captured], ["failed", false]);
  assert.match(report.reason ?? "", /cannot find the pod's network namespace/);
  assert.ok(!isSettled(report));
});

test("report: what an earlier agent captured is shown before it was looked at", async () => {
  const node = new FakeNode();
  node.source.setNamespace("shop", AMBIENT);
  node.run({ annotations: enabled() });
  await node.started({ verifyIntervalMs: 0 });
  assert.deepEqual([only(node).state, only(node).captured, only(node).rules], ["enrolled", true, undefined]);
  await node.agent.healer.verifyAll();
  assert.equal(only(node).rules?.by, "nftables");
});

test("report: the text names node, ztunnel, and each pod with what is wrong", async () => {
  const node = await nodeWith();
  node.run();
  node.run({ name: "web", ips: ["10.0.0.8"], labels: { "istio.io/dataplane-mode": "none" } });
  await node.clock.settle();
  node.rules.clear();
  await node.agent.healer.verifyAll();
  const report: AgentReport = {
    node: "node-a",
    ready: { install: true, watch: true },
    redirection: "nftables",
    ztunnels: [{ id: "1", since: "2026-01-01T00:00:00Z", snapshotSent: true }],
    host: { by: "nftables", verifiedAt: "2026-01-01T00:00:01Z", drift: [], problem: undefined },
    queue: 0,
    pods: node.agent.pods(),
  };
  assert.equal(
    formatAgentReport(report),
    `node node-a: watching, plugin installed; redirection by nftables
ztunnel: 1 connected, the newest since 2026-01-01T00:00:00Z
kubelet's probes: nftables; in order at 2026-01-01T00:00:01Z

  shop/cart: enrolled since 2023-11-14T22:13:20.000Z
    belongs into the mesh: selector 2 matches
    rules by nftables (IPv4 and IPv6, DNS), 2023-11-14T22:13:20.000Z
    namespace ns-cart; ztunnel serves it
    verified 2023-11-14T22:13:20.000Z: repaired: no rules
  shop/web: not eligible
    does not belong into the mesh: no selector matches

2 pods, 1 captured, 0 not as they should be
`,
  );
  assert.match(formatAgentReport({ ...report, ztunnels: [], pods: [] }), /none connected.*\n.*\n\nno pods/);
});
