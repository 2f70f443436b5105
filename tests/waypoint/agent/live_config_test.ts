/** What waits for what, before it comes into force. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Change, DEPARTED_MS, LiveConfig, LOOK_MS, WAIT_MS } from "../../../src/waypoint/agent/live_config.ts";
import type {
  ChainName,
  ClusterName,
  ClusterSpec,
  EndpointsSpec,
  TcpChainSpec,
} from "../../../src/waypoint/spec/mod.ts";
import { VirtualTime } from "./virtual_time.ts";

const chain = (name: string, ...clusters: string[]): TcpChainSpec => ({
  kind: "tcp",
  name: name as ChainName,
  rbac: [],
  extAuthz: [],
  clusters: clusters.map((cluster) => ({ cluster: cluster as ClusterName, weight: 1 })),
  idleTimeoutMs: 0,
  maxConnectionMs: 0,
  hashSourceIp: false,
  sniForward: undefined,
  accessLogs: [],
  stats: undefined,
});
const cluster = (name: string, connectTimeoutMs = 1, trust?: string) =>
  ({
    name: name as ClusterName,
    connectTimeoutMs,
    discovery: { kind: "eds", name },
    transport: trust === undefined ? { kind: "raw" } : { kind: "tls", tls: { trust, certificate: undefined } },
    transportByTag: [],
  }) as unknown as ClusterSpec;
const endpoints = (name: string): EndpointsSpec => ({ name, localities: [], overprovisioning: 140 });

function create() {
  const time = new VirtualTime();
  const released: Change[] = [];
  const live = new LiveConfig({ schedule: time.schedule, released: (change) => released.push(change) });
  return { time, released, live };
}

/** Names of what comes into force. */
function names(change: Change | undefined) {
  const result: Record<string, readonly string[]> = {};
  for (const key of ["chains", "clusters", "endpoints"] as const) {
    const list = change?.[key];
    if (list !== undefined) result[key] = list.map(({ name }) => name);
  }
  for (const key of ["removedChains", "removedClusters", "removedEndpoints"] as const) {
    const list = change?.[key];
    if (list !== undefined) result[key] = list;
  }
  return result;
}

test("live config: a cluster waits for its endpoints, and a chain for its cluster", () => {
  const { live } = create();
  assert.equal(live.admit({ clusters: [cluster("a")] }), undefined);
  assert.deepEqual(live.missingEndpoints, ["a"]);
  assert.equal(live.admit({ chains: [chain("x", "a")] }), undefined);
  assert.deepEqual(names(live.admit({ chains: [chain("y")] })), { chains: ["y"] });
  assert.deepEqual(names(live.admit({ endpoints: [endpoints("a")] })), {
    chains: ["x"],
    clusters: ["a"],
    endpoints: ["a"],
  });
  assert.deepEqual(live.missingEndpoints, []);
});

test("live config: what changes while the version before it serves does not wait", () => {
  const { live, time } = create();
  live.admit({ clusters: [cluster("a")], endpoints: [endpoints("a")], chains: [chain("x", "a")] });
  assert.deepEqual(names(live.admit({ clusters: [cluster("a", 2)] })), { clusters: ["a"], endpoints: ["a"] });
  assert.deepEqual(names(live.admit({ chains: [chain("x", "a", "unknown")] })), { chains: ["x"] });
  assert.equal(time.pending, 0);
});

test("live config: a chain that takes a new cluster goes on with the old one until that is ready", () => {
  const { live } = create();
  live.admit({ clusters: [cluster("a")], endpoints: [endpoints("a")], chains: [chain("x", "a")] });
  // As istiod pushes it: clusters, then the listener, and endpoints when they were asked for.
  assert.equal(live.admit({ clusters: [cluster("b")], removedClusters: ["a" as ClusterName] }), undefined);
  assert.equal(live.admit({ chains: [chain("x", "b")] }), undefined);
  assert.deepEqual([...live.clusters.keys()], ["a"]);
  assert.deepEqual(names(live.admit({ endpoints: [endpoints("b")] })), {
    chains: ["x"],
    clusters: ["b"],
    endpoints: ["b"],
    removedClusters: ["a"],
  });
});

test("live config: a removed cluster stays until the routes to it are gone", () => {
  const { live, time } = create();
  live.admit({
    clusters: [cluster("a"), cluster("b")],
    endpoints: [endpoints("a"), endpoints("b")],
    chains: [chain("x", "a")],
  });
  assert.equal(live.admit({ removedClusters: ["a" as ClusterName] }), undefined);
  assert.deepEqual(names(live.admit({ chains: [chain("x", "b")] })), { chains: ["x"], removedClusters: ["a"] });
  assert.equal(time.pending, 0);
});

test("live config: a removed cluster keeps its endpoints, and both outlive the chain until its connections know", async () => {
  const { live, time, released } = create();
  live.admit({ clusters: [cluster("a")], endpoints: [endpoints("a")], chains: [chain("x", "a")] });
  assert.equal(live.admit({ removedClusters: ["a" as ClusterName], removedEndpoints: ["a"] }), undefined);
  assert.deepEqual(names(live.admit({ removedChains: ["x" as ChainName] })), { removedChains: ["x"] });
  assert.deepEqual(names(live.snapshot()), { chains: [], clusters: ["a"], endpoints: ["a"] });
  await time.advance(DEPARTED_MS - 1);
  assert.deepEqual(released, []);
  await time.advance(1);
  assert.deepEqual(released.map(names), [{ removedClusters: ["a"], removedEndpoints: ["a"] }]);
  assert.deepEqual(names(live.snapshot()), { chains: [], clusters: [], endpoints: [] });
  assert.equal(time.pending, 0);
});

test("live config: a cluster that comes back before it is gone has its endpoints still", async () => {
  const { live, time, released } = create();
  live.admit({ clusters: [cluster("a")], endpoints: [endpoints("a")], chains: [chain("x", "a")] });
  live.admit({ removedClusters: ["a" as ClusterName], removedEndpoints: ["a"] });
  live.admit({ removedChains: ["x" as ChainName] });
  assert.deepEqual(names(live.admit({ clusters: [cluster("a")], chains: [chain("x", "a")] })), {
    chains: ["x"],
    clusters: ["a"],
    endpoints: ["a"],
  });
  await time.advance(2 * DEPARTED_MS);
  assert.deepEqual(released, []);
  assert.deepEqual(live.missingEndpoints, []);
});

test("live config: endpoints of a cluster that nothing names go with it at once", () => {
  const { live } = create();
  live.admit({ clusters: [cluster("a")], endpoints: [endpoints("a")] });
  assert.deepEqual(names(live.admit({ removedClusters: ["a" as ClusterName], removedEndpoints: ["a"] })), {
    removedClusters: ["a"],
    removedEndpoints: ["a"],
  });
});

test("live config: a cluster waits for the secrets of its transport", () => {
  const { live } = create();
  live.admit({ clusters: [cluster("a", 1, "kubernetes://ca")], endpoints: [endpoints("a")] });
  const secrets = { "kubernetes://ca": { kind: "trust", roots: "R", crl: undefined } } as const;
  const now = live.admit({ secrets });
  assert.deepEqual(names(now), { clusters: ["a"], endpoints: ["a"] });
  assert.deepEqual(now?.secrets, secrets);
});

test("live config: nothing waits for ever", async () => {
  const { live, time, released } = create();
  live.admit({ clusters: [cluster("a")], chains: [chain("x", "a")] });
  await time.advance(WAIT_MS);
  assert.deepEqual(released, []);
  await time.advance(LOOK_MS);
  assert.deepEqual(released.map(names), [{ chains: ["x"], clusters: ["a"], endpoints: [] }]);
  await time.advance(WAIT_MS);
  assert.equal(time.pending, 0, "nothing is looked at any more");
});

test("live config: what comes while something else waits has its own time", async () => {
  const { live, time, released } = create();
  live.admit({ clusters: [cluster("served")], endpoints: [endpoints("served")], chains: [chain("s", "served")] });
  live.admit({ clusters: [cluster("old")], chains: [chain("x", "old")] });
  await time.advance(WAIT_MS - 1);
  live.admit({ clusters: [cluster("new")], chains: [chain("y", "new")] });
  // istiod tells of the end of a cluster a moment before that of the chain.
  live.admit({ removedClusters: ["served" as ClusterName] });
  await time.advance(LOOK_MS + 1);
  assert.deepEqual(released.map(names), [{ chains: ["x"], clusters: ["old"], endpoints: [] }]);
  const now = live.admit({ endpoints: [endpoints("new")], removedChains: ["s" as ChainName] });
  assert.deepEqual(names(now), { chains: ["y"], clusters: ["new"], endpoints: ["new"], removedChains: ["s"] });
});

test("live config: a cluster that came back and leaves again has its own time again", async () => {
  const { live, time, released } = create();
  live.admit({ clusters: [cluster("a")], endpoints: [endpoints("a")], chains: [chain("x", "a")] });
  live.admit({ removedClusters: ["a" as ClusterName] });
  await time.advance(WAIT_MS);
  live.admit({ clusters: [cluster("a", 2)] });
  live.admit({ removedClusters: ["a" as ClusterName] });
  await time.advance(WAIT_MS);
  assert.deepEqual(released, []);
  await time.advance(LOOK_MS);
  assert.deepEqual(released.map(names), [{ removedClusters: ["a"] }]);
});

test("live config: a new worker is told all that is in force and nothing that waits", () => {
  const { live } = create();
  live.admit({ clusters: [cluster("a")], endpoints: [endpoints("a")], chains: [chain("x", "a"), chain("z")] });
  live.admit({ clusters: [cluster("b")], chains: [chain("y", "b")], removedChains: ["z" as ChainName] });
  assert.deepEqual(names(live.snapshot()), { chains: ["x"], clusters: ["a"], endpoints: ["a"] });
});
