/** The delta xDS state machine: what is said on each event, and what the server is told after a reconnect. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { DeltaProtocol, type NodeInfo } from "../../../src/control/xds/protocol.ts";
import type { Rejection } from "../../../src/control/xds/push.ts";

const ADDRESS = "type.googleapis.com/istio.workload.Address";
const POLICY = "type.googleapis.com/istio.security.Authorization";
const NODE: NodeInfo = { id: "ztunnel~1.2.3.4~a.b~b.svc.cluster.local", metadata: { NAME: "a" } };

function wildcard(): DeltaProtocol {
  return new DeltaProtocol([{ typeUrl: ADDRESS, mode: "wildcard" }, { typeUrl: POLICY, mode: "wildcard" }], NODE);
}

function onDemand(): DeltaProtocol {
  return new DeltaProtocol([{ typeUrl: ADDRESS, mode: "on-demand" }, { typeUrl: POLICY, mode: "wildcard" }], NODE);
}

const response = (nonce: string, removed: string[] = [], typeUrl = ADDRESS) => ({ typeUrl, nonce, removed });

test("protocol: begins each type with the node, and subscribes to everything by naming nothing", () => {
  const [addresses, policies, ...more] = wildcard().open();
  assert.deepEqual(addresses, { typeUrl: ADDRESS, node: NODE, initialVersions: new Map() });
  assert.deepEqual(policies, { typeUrl: POLICY, node: NODE, initialVersions: new Map() });
  assert.deepEqual(more, []);
});

test("protocol: on demand begins with a subscription to everything and to nothing", () => {
  const [addresses] = onDemand().open();
  assert.deepEqual(addresses.subscribe, ["*"]);
  assert.deepEqual(addresses.unsubscribe, ["*"]);
  assert.deepEqual(addresses.node, NODE);
});

test("protocol: acknowledges by type and nonce, without the node", () => {
  const protocol = wildcard();
  protocol.open();
  assert.deepEqual(protocol.applied(response("n1"), []), { typeUrl: ADDRESS, nonce: "n1" });
});

test("protocol: refuses by name with all reasons in one text", () => {
  const protocol = wildcard();
  protocol.open();
  protocol.accepted(ADDRESS, "good", "1");
  const reply = protocol.applied(response("n1"), [{ name: "bad", reason: "no ip" }, {
    name: "worse",
    reason: "no name",
  }]);
  assert.deepEqual(reply, { typeUrl: ADDRESS, nonce: "n1", error: "bad: no ip; worse: no name" });
  assert.deepEqual([...protocol.open()[0].initialVersions!], [["good", "1"]]);
});

test("protocol: a text of refusals is bounded and says how many are left out", () => {
  const protocol = wildcard();
  const many: Rejection[] = Array.from({ length: 10_000 }, (_, i) => ({ name: `w${i}`, reason: "cannot be read" }));
  const { error } = protocol.applied(response("n1"), many);
  assert.ok(error!.length < 17 * 1024);
  const listed = error!.split("; ").length - 1;
  assert.ok(error!.endsWith(`; and ${10_000 - listed} more`), error!.slice(-40));
  const huge = protocol.applied(response("n1"), [{ name: "w", reason: "x".repeat(100_000) }]);
  assert.ok(huge.error!.length < 17 * 1024);
});

test("protocol: after a reconnect tells what is in force in which version, and no more what was removed", () => {
  const protocol = wildcard();
  protocol.open();
  for (const [name, version] of [["a", "1"], ["b", "2"], ["c", "3"]]) protocol.accepted(ADDRESS, name, version);
  protocol.applied(response("n1"), []);
  protocol.accepted(ADDRESS, "a", "9");
  protocol.applied(response("n2", ["b", "unknown"]), []);
  const [addresses, policies] = protocol.open();
  assert.deepEqual([...addresses.initialVersions!].sort(), [["a", "9"], ["c", "3"]]);
  assert.deepEqual([...policies.initialVersions!], []);
});

test("protocol: a refused resource that was never in force is not known after a reconnect", () => {
  const protocol = wildcard();
  protocol.open();
  protocol.applied(response("n1"), [{ name: "bad", reason: "no ip" }]);
  assert.deepEqual([...protocol.open()[0].initialVersions!], []);
});

test("protocol: a refused update is known without a version, so that the server sends it again and tells of its end", () => {
  const protocol = wildcard();
  protocol.open();
  protocol.accepted(ADDRESS, "a", "1");
  protocol.applied(response("n1"), []);
  protocol.applied(response("n2"), [{ name: "a", reason: "no ip" }]);
  assert.deepEqual([...protocol.open()[0].initialVersions!], [["a", ""]]);
  protocol.accepted(ADDRESS, "a", "3");
  protocol.applied(response("n3"), []);
  assert.deepEqual([...protocol.open()[0].initialVersions!], [["a", "3"]]);
});

test("protocol: the last word counts for a name that is both sent and removed", () => {
  const protocol = wildcard();
  protocol.open();
  protocol.accepted(ADDRESS, "a", "1");
  protocol.applied(response("n1", ["a"]), []);
  assert.equal(protocol.known.get(ADDRESS), 0);
});

test("protocol: is synchronised when every wildcard type was acknowledged once as a whole", () => {
  const protocol = wildcard();
  protocol.open();
  assert.deepEqual(protocol.unsynced, [ADDRESS, POLICY]);
  protocol.applied(response("n1"), [{ name: "bad", reason: "no ip" }]);
  protocol.applied(response("n2", [], POLICY), []);
  assert.deepEqual(protocol.unsynced, [ADDRESS]);
  protocol.applied(response("n3"), []);
  assert.deepEqual(protocol.unsynced, []);
  protocol.open();
  assert.deepEqual(protocol.unsynced, []);
  const demanding = onDemand();
  assert.deepEqual(demanding.unsynced, [POLICY]);
});

test("protocol: acknowledges a type that nobody asked for", () => {
  const protocol = wildcard();
  const other = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
  assert.equal(protocol.knows(other), false);
  assert.deepEqual(protocol.applied(response("n1", ["x"], other), []), { typeUrl: other, nonce: "n1" });
  assert.equal(protocol.open().length, 2);
});

test("protocol: asks for a name, and asks again on a new stream until it is settled", () => {
  const protocol = onDemand();
  protocol.open();
  assert.deepEqual(protocol.demand(ADDRESS, "net/1.2.3.4"), { typeUrl: ADDRESS, subscribe: ["net/1.2.3.4"] });
  let [addresses] = protocol.open();
  assert.deepEqual(addresses.subscribe, ["*", "net/1.2.3.4"]);
  assert.deepEqual([...addresses.initialVersions!], [["net/1.2.3.4", ""]]);
  // It comes under its own name.
  protocol.accepted(ADDRESS, "uid", "7");
  protocol.settled(ADDRESS, "net/1.2.3.4");
  [addresses] = protocol.open();
  assert.deepEqual(addresses.subscribe, ["*", "uid"]);
  assert.deepEqual(addresses.unsubscribe, ["*"]);
  assert.deepEqual([...addresses.initialVersions!], [["uid", "7"]]);
  assert.throws(() => protocol.demand(POLICY, "x"), /not subscribed to on demand/);
});

const CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
const ENDPOINTS = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";

function named(): DeltaProtocol {
  return new DeltaProtocol([{ typeUrl: CLUSTER, mode: "wildcard" }, { typeUrl: ENDPOINTS, mode: "named" }], NODE);
}

test("protocol: by name nothing is asked for before there is a name, and then the type begins with the node", () => {
  const protocol = named();
  assert.deepEqual(protocol.open().map(({ typeUrl }) => typeUrl), [CLUSTER]);
  assert.equal(protocol.watch(ENDPOINTS, new Set()), undefined);
  assert.deepEqual(protocol.watch(ENDPOINTS, new Set(["a", "b"])), {
    typeUrl: ENDPOINTS,
    node: NODE,
    subscribe: ["a", "b"],
    initialVersions: new Map(),
  });
});

test("protocol: names come and go by what changed alone", () => {
  const protocol = named();
  protocol.open();
  protocol.watch(ENDPOINTS, new Set(["a", "b"]));
  assert.equal(protocol.watch(ENDPOINTS, new Set(["b", "a"])), undefined);
  assert.deepEqual(protocol.watch(ENDPOINTS, new Set(["b", "c"])), {
    typeUrl: ENDPOINTS,
    subscribe: ["c"],
    unsubscribe: ["a"],
  });
  assert.deepEqual(protocol.watch(ENDPOINTS, new Set()), {
    typeUrl: ENDPOINTS,
    subscribe: [],
    unsubscribe: ["b", "c"],
  });
});

test("protocol: a new stream asks for all names with the versions held, and not for what is not watched any more", () => {
  const protocol = named();
  protocol.open();
  protocol.watch(ENDPOINTS, new Set(["a", "b"]));
  protocol.accepted(ENDPOINTS, "a", "1");
  protocol.accepted(ENDPOINTS, "b", "2");
  protocol.watch(ENDPOINTS, new Set(["b", "c"]));
  // It was on its way when nobody wanted it any more.
  protocol.accepted(ENDPOINTS, "a", "3");
  const [, endpoints] = protocol.open();
  assert.deepEqual(endpoints, {
    typeUrl: ENDPOINTS,
    node: NODE,
    subscribe: ["b", "c"],
    initialVersions: new Map([["b", "2"]]),
  });
});

test("protocol: names that change without a stream are asked for on the next one, once", () => {
  const protocol = named();
  assert.equal(protocol.watch(ENDPOINTS, new Set(["a"]), false), undefined);
  assert.deepEqual(protocol.open()[1].subscribe, ["a"]);
  assert.deepEqual(protocol.watch(ENDPOINTS, new Set(["a", "b"])), {
    typeUrl: ENDPOINTS,
    subscribe: ["b"],
    unsubscribe: [],
  });
  assert.throws(() => protocol.watch(CLUSTER, new Set(["x"])), /not subscribed to by name/);
});

test("protocol: what the server is told is what is in force, whatever came in which order and split", () => {
  const name = fc.constantFrom("a", "b", "c", "d", "__proto__", "x; y: z");
  const push = fc.record({
    sent: fc.uniqueArray(fc.record({ name, version: fc.string(), bad: fc.boolean() }), { selector: (r) => r.name }),
    removed: fc.uniqueArray(name),
    cut: fc.boolean(),
  });
  fc.assert(fc.property(fc.array(push, { maxLength: 30 }), (pushes) => {
    const protocol = wildcard();
    protocol.open();
    const inForce = new Map<string, string>();
    pushes.forEach(({ sent, removed, cut }, i) => {
      const rejections: Rejection[] = [];
      for (const { name, version, bad } of sent) {
        if (bad) {
          rejections.push({ name, reason: "bad" });
          if (inForce.has(name)) inForce.set(name, "");
        } else {
          protocol.accepted(ADDRESS, name, version);
          inForce.set(name, version);
        }
      }
      for (const name of removed) inForce.delete(name);
      const reply = protocol.applied(response(`n${i}`, removed), rejections);
      assert.equal(reply.nonce, `n${i}`);
      assert.equal(reply.error === undefined, rejections.length === 0);
      assert.equal("node" in reply, false);
      if (cut) assert.deepEqual(new Map(protocol.open()[0].initialVersions), inForce);
    });
    assert.deepEqual(new Map(protocol.open()[0].initialVersions), inForce);
  }));
});
