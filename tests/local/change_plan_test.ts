import fc from "fast-check";
import assert from "node:assert/strict";
import { test } from "node:test";
import { type MachineState, planChange, type PlannedNode, type PlannedPod } from "../../src/local/change_plan.ts";

function node(name: string, address = `10.0.0.${name.length}`): PlannedNode {
  return { name, addresses: [address] };
}

function pod(name: string, changes: Partial<PlannedPod> = {}): PlannedPod {
  return {
    uid: `uid-${name}`,
    name,
    namespace: "default",
    serviceAccount: "default",
    identity: "spiffe://cluster.local/ns/default/sa/default",
    node: "a",
    labels: {},
    addresses: [`10.1.0.${name.charCodeAt(0)}`],
    captured: true,
    isWaypoint: false,
    command: undefined,
    env: {},
    ...changes,
  };
}

function names({ nodes, pods }: MachineState): string[] {
  return [...nodes.map((node) => `node ${node.name}`), ...pods.map((pod) => `pod ${pod.name}`)];
}

function plan(from: MachineState, to: MachineState): { first: string[]; add: string[]; last: string[] } {
  const { removeFirst, add, removeLast } = planChange(from, to);
  return { first: names(removeFirst), add: names(add), last: names(removeLast) };
}

const NOTHING: MachineState = { nodes: [], pods: [] };

test("change_plan: the same mesh needs nothing", () => {
  const mesh = { nodes: [node("a")], pods: [pod("p"), pod("q")] };
  assert.deepEqual(plan(mesh, structuredClone(mesh)), { first: [], add: [], last: [] });
});

test("change_plan: everything is added at first, and removed when it is gone", () => {
  const mesh = { nodes: [node("a")], pods: [pod("p")] };
  assert.deepEqual(plan(NOTHING, mesh), { first: [], add: ["node a", "pod p"], last: [] });
  assert.deepEqual(plan(mesh, NOTHING), { first: [], add: [], last: ["node a", "pod p"] });
});

test("change_plan: a pod that changed in any way goes first and comes again", () => {
  const changes: Partial<PlannedPod>[] = [
    { node: "b" },
    { addresses: ["10.1.9.9"] },
    { captured: false },
    { isWaypoint: true },
    { serviceAccount: "other" },
    { identity: "spiffe://else/ns/default/sa/default" },
    { command: ["true"] },
    { env: { A: "1" } },
  ];
  for (const change of changes) {
    const nodes = [node("a"), node("b", "10.0.0.9")];
    const result = plan({ nodes, pods: [pod("p"), pod("q")] }, { nodes, pods: [pod("p", change), pod("q")] });
    assert.deepEqual(result, { first: ["pod p"], add: ["pod p"], last: [] }, JSON.stringify(change));
  }
});

test("change_plan: a node that changed takes its pods with it", () => {
  const pods = [pod("p"), pod("q", { node: "b" })];
  const from = { nodes: [node("a"), node("b", "10.0.0.9")], pods };
  const to = { nodes: [node("a", "10.0.0.7"), node("b", "10.0.0.9")], pods };
  assert.deepEqual(plan(from, to), { first: ["node a", "pod p"], add: ["node a", "pod p"], last: [] });
});

test("change_plan: a pod whose address goes to another goes first", () => {
  const nodes = [node("a")];
  const from = { nodes, pods: [pod("p", { addresses: ["10.1.1.1"] })] };
  const to = { nodes, pods: [pod("q", { addresses: ["10.1.1.1"] })] };
  assert.deepEqual(plan(from, to), { first: ["pod p"], add: ["pod q"], last: [] });
});

test("change_plan: whatever changes, the result is the new mesh, and no node goes before its pods", () => {
  const meshes = fc.record({
    nodes: fc.uniqueArray(
      fc.record({ name: fc.constantFrom("a", "b"), address: fc.constantFrom("10.0.0.1", "10.0.0.2") }),
      {
        selector: (item) => item.name,
      },
    ),
    pods: fc.uniqueArray(
      fc.record({
        name: fc.constantFrom("p", "q", "r"),
        node: fc.constantFrom("a", "b"),
        address: fc.constantFrom("10.1.0.1", "10.1.0.2", "10.1.0.3"),
        captured: fc.boolean(),
      }),
      { selector: (item) => item.name },
    ),
  }).map(({ nodes, pods }): MachineState => ({
    nodes: nodes.map(({ name, address }) => node(name, address)),
    pods: pods.filter((item) => nodes.some((node) => node.name === item.node))
      .map(({ name, address, ...rest }) => pod(name, { addresses: [address], ...rest })),
  }));
  fc.assert(fc.property(meshes, meshes, (from, to) => {
    const { removeFirst, add, removeLast } = planChange(from, to);
    const without = (state: MachineState, gone: MachineState): MachineState => {
      assert.ok(gone.nodes.every((node) => state.nodes.includes(node)));
      const pods = state.pods.filter((pod) => !gone.pods.includes(pod));
      assert.ok(pods.every((pod) => !gone.nodes.some((node) => node.name === pod.node)), "pods before their node");
      return { nodes: state.nodes.filter((node) => !gone.nodes.includes(node)), pods };
    };
    const kept = without(from, removeFirst);
    const all = { nodes: [...kept.nodes, ...add.nodes], pods: [...kept.pods, ...add.pods] };
    assert.equal(new Set(all.pods.map((pod) => pod.uid)).size, all.pods.length);
    const result = without(all, removeLast);
    assert.deepEqual(new Set(names(result)), new Set(names(to)));
    for (const item of result.pods) assert.deepEqual(item, to.pods.find((other) => other.uid === item.uid));
    for (const item of result.nodes) assert.deepEqual(item, to.nodes.find((other) => other.name === item.name));
  }));
});
