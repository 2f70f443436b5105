/** A large change in parts: together they are the change, and every prefix of them can be served. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Delivery } from "../../../src/waypoint/agent/delivery.ts";
import { LimitSlots } from "../../../src/waypoint/agent/limit_slots.ts";
import { type Change, clustersOf } from "../../../src/waypoint/agent/live_config.ts";
import { slices } from "../../../src/waypoint/agent/slices.ts";
import type { ChainName, ClusterName, TcpChainSpec, WorkloadSpec } from "../../../src/waypoint/spec/mod.ts";
import type { ToWorker } from "../../../src/waypoint/worker/messages.ts";
import { clusterSpec, endpoint, endpoints } from "../upstream/support.ts";

const COUNT = 101;
const numbers = Array.from({ length: COUNT }, (_, i) => i);

const tcpChain = (name: string, cluster: string): TcpChainSpec => ({
  kind: "tcp",
  name: name as ChainName,
  rbac: [],
  extAuthz: [],
  clusters: [{ cluster: cluster as ClusterName, weight: 1 }],
  idleTimeoutMs: 0,
  maxConnectionMs: 0,
  hashSourceIp: false,
  sniForward: undefined,
  accessLogs: [],
  stats: undefined,
});

const CHANGE: Change = {
  secrets: { default: null },
  removedWorkloads: ["old"],
  workloads: numbers.map((i) => ({ uid: String(i) }) as WorkloadSpec),
  clusters: numbers.map((i) =>
    clusterSpec({ name: `c${i}` as ClusterName, discovery: { kind: "eds", name: `e${i}` } })
  ),
  endpoints: [...numbers, 1_000].map((i) => endpoints([endpoint("10.0.0.1:80")], `e${i}`)),
  chains: numbers.map((i) => tcpChain(`h${i}`, `c${i}`)),
  selection: {
    authorities: { a: "h0" as ChainName },
    ranges: numbers.map((i) => ({
      cidrs: [`10.0.0.${i}/32`],
      to: { kind: "any", to: { kind: "chain", chain: `h${i}` as ChainName } },
    })),
  },
  removedChains: ["gone" as ChainName],
  removedClusters: ["gone" as ClusterName],
  removedEndpoints: ["gone"],
};

test("slices: a small change stays one", () => {
  const small: Change = { clusters: CHANGE.clusters?.slice(0, 2), removedChains: CHANGE.removedChains };
  assert.deepEqual(slices(small), [small]);
});

test("slices: together they are the change, each small, in an order in which each prefix can be served", () => {
  const parts = slices(CHANGE);
  const all = {
    workloads: parts.flatMap(({ workloads }) => workloads ?? []),
    clusters: parts.flatMap(({ clusters }) => clusters ?? []),
    chains: parts.flatMap(({ chains }) => chains ?? []),
    endpoints: parts.flatMap(({ endpoints }) => endpoints ?? []),
  };
  for (const key of ["workloads", "clusters", "chains"] as const) assert.deepEqual(all[key], CHANGE[key], key);
  assert.deepEqual(
    all.endpoints.map(({ name }) => name).sort(),
    CHANGE.endpoints?.map(({ name }) => name).sort(),
  );
  const ranges = parts.flatMap(({ selectionPart, selection }) => selectionPart?.ranges ?? selection?.ranges ?? []);
  assert.deepEqual(ranges, CHANGE.selection?.ranges);
  const last = parts.find(({ selection }) => selection !== undefined);
  assert.equal(last?.selectionAt, ranges.length - (last?.selection?.ranges.length ?? 0));
  assert.deepEqual(last?.selection?.authorities, CHANGE.selection?.authorities);
  const known = { clusters: new Set<string>(), endpoints: new Set<string>(), chains: 0 };
  for (const [i, part] of parts.entries()) {
    assert.ok((part.clusters?.length ?? 0) <= 8 && (part.chains?.length ?? 0) <= 4);
    for (const { name } of part.endpoints ?? []) known.endpoints.add(name);
    for (const { name, discovery } of part.clusters ?? []) {
      known.clusters.add(name);
      assert.ok(discovery.kind === "eds" && known.endpoints.has(discovery.name), "a cluster comes with its endpoints");
    }
    for (const chain of part.chains ?? []) {
      known.chains++;
      for (const name of clustersOf(chain)) assert.ok(known.clusters.has(name), "a chain comes after its clusters");
    }
    if (part.selection !== undefined) assert.equal(known.chains, COUNT);
    if (part.removedChains !== undefined) assert.equal(i, parts.length - 1);
    if (part.removedWorkloads !== undefined) assert.equal(i, 0);
  }
});

function create(whole: boolean) {
  const posted: ToWorker[] = [];
  const confirm: (() => void)[] = [];
  let epoch = 0;
  const delivery = new Delivery({
    workers: {
      nextEpoch: () => ++epoch,
      broadcast: (message) => posted.push(message),
      confirmed: () => new Promise((resolve) => confirm.push(resolve)),
    },
    slots: new LimitSlots(1),
    whole: () => whole,
  });
  const settle = () => new Promise((resolve) => setTimeout(resolve, 0));
  return { delivery, posted, confirm, settle };
}

test("delivery: a part waits for the one before, and a change for the change before", async () => {
  const { delivery, posted, confirm, settle } = create(false);
  let done = "";
  void delivery.deliver({ chains: CHANGE.chains?.slice(0, 8) }).then(() => done += "first");
  void delivery.deliver({ secrets: { default: null } }).then(() => done += " second");
  for (const [count, expected] of [[1, ""], [2, ""], [3, "first"]] as const) {
    await settle();
    assert.equal(posted.length, count);
    assert.equal(done, expected);
    confirm[count - 1]();
  }
  await settle();
  assert.equal(done, "first second");
});

test("delivery: while nobody is served a change goes as a whole", async () => {
  const { delivery, posted, settle } = create(true);
  void delivery.deliver(CHANGE);
  await settle();
  assert.equal(posted.length, 1);
});
