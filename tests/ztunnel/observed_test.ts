/** What a worker counts and tells of policies, limits, connections, and its own CPU. */
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { createPolicy, identityOf, policyKey } from "../../src/mesh/mod.ts";
import { ConnectionListing } from "../../src/ztunnel/connection_listing.ts";
import type { ConnectionRecord } from "../../src/ztunnel/connection_record.ts";
import type { ConnectionView } from "../../src/ztunnel/messages.ts";
import type { Deferred } from "../../src/net/reactor.ts";
import { CLIENT, type Node, stateOf, TwoPlanes, WEB } from "./two_planes.ts";

let planes: TwoPlanes;
beforeEach(async () => {
  planes = await TwoPlanes.create();
});
afterEach(() => planes.close());

/** Counts of a family by label text, from all that a worker has reported so far. */
function counts(node: Node, family: string): Record<string, number> {
  node.tell({ type: "report", id: 1, connections: false });
  const before = node.said("report").length;
  planes.until(() => node.said("report").length > before, "a report");
  const labels = new Map<number, string>();
  const found: Record<string, number> = {};
  for (const { metrics } of node.said("report")) {
    for (const { slot, family: name, labels: text } of metrics.defined) if (name === family) labels.set(slot, text);
    metrics.slots.forEach((slot, i) => {
      const text = labels.get(slot);
      if (text !== undefined) found[text] = (found[text] ?? 0) + metrics.deltas[i];
    });
  }
  return found;
}

const POLICY = {
  namespace: "default",
  name: "p",
  scope: "Namespace",
  rules: [[[{ namespaces: [{ Exact: "nobody" }] }]], [[{ namespaces: [{ Exact: "default" }] }]]],
} as const;
const SUBJECT = 'destination_workload="web",destination_workload_namespace="default"';

/** The client connects and is refused. */
function refused(): void {
  const peer = planes.connect();
  planes.until(() => {
    peer.read();
    return peer.ended || peer.failure !== 0;
  }, "the refusal");
}

describe("observed: policies", () => {
  test("observed: a refused connection is counted by policy and rule, once, and logged with both", () => {
    planes.server.tell({
      type: "pod_state",
      uid: "web",
      state: stateOf(WEB, [createPolicy({ ...POLICY, action: "Deny" })]),
    });
    refused();
    assert.deepEqual(counts(planes.server, "ambit_authorization_denied"), {
      [`reason="deny_policy",phase="open",policy="default/p",rule="2",${SUBJECT}`]: 1,
    });
    const access = planes.server.lines.find((line) =>
      line.includes("connection complete") || line.includes("connection failed")
    );
    assert.match(
      access ?? "",
      /explicitly denied by: default\/p \(rule 2 of the DENY policy default\/p matches spiffe:/,
    );
    const rbac = planes.server.lines.find((line) => line.includes("\trbac\t"));
    assert.match(
      rbac ?? "",
      new RegExp(`explicitly denied by: default/p\tsource="${identityOf(CLIENT)}" dst\\.port=8080`),
    );
  });

  test("observed: a policy that ends an open connection is counted as a change", () => {
    const client = planes.connect();
    client.send(new Uint8Array(1));
    planes.accept();
    const allow = createPolicy({ ...POLICY, action: "Allow", rules: [[[{ namespaces: [{ Exact: "x" }] }]]] });
    planes.server.tell({ type: "pod_state", uid: "web", state: stateOf(WEB, [allow]) });
    planes.turn();
    assert.deepEqual(counts(planes.server, "ambit_authorization_denied"), {
      [`reason="no_allow_matched",phase="policy_change",policy="",rule="",${SUBJECT}`]: 1,
    });
  });

  test("observed: a dry-run policy is counted when a connection opens, not again when policies change", () => {
    const dry = createPolicy({ ...POLICY, action: "Deny", dryRun: true });
    planes.server.tell({ type: "pod_state", uid: "web", state: stateOf(WEB, [dry]) });
    const client = planes.connect();
    client.send(new Uint8Array(1));
    planes.accept();
    planes.server.tell({ type: "pod_state", uid: "web", state: stateOf(WEB, [dry]) });
    planes.turn();
    const expected = { [`action="deny",policy="default/p",rule="2",${SUBJECT}`]: 1 };
    assert.deepEqual(counts(planes.server, "ambit_authorization_dry_run"), expected);
    assert.match(
      planes.server.lines.find((line) => line.includes("dry-run")) ?? "",
      /would deny\tpolicy="default\/p" rule=2/,
    );
  });

  test("observed: a policy that does not come is a limit that was reached", () => {
    const state = { ...stateOf(WEB), missingPolicies: [policyKey("default", "late")] };
    planes.server.tell({ type: "pod_state", uid: "web", state });
    refused();
    assert.deepEqual(counts(planes.server, "ambit_limit_reached"), { 'limit="missing_policy"': 1 });
    assert.deepEqual(counts(planes.server, "ambit_authorization_denied"), {
      [`reason="missing_policy",phase="open",policy="default/late",rule="",${SUBJECT}`]: 1,
    });
    assert.match(
      planes.server.lines.find((line) => line.includes("\tlimits\t")) ?? "",
      /policy="default\/late" pod="default\/web"/,
    );
  });
});

describe("observed: connections and profiles", () => {
  test("observed: connections are told a slice a turn, without those that ended meanwhile", () => {
    const record = (id: number) => ({ ended: false, view: () => ({ src: String(id) }) });
    const records = Array.from({ length: 600 }, (_, id) => record(id));
    const told: (readonly ConnectionView[])[] = [];
    let next: Deferred | undefined;
    let last = false;
    const listing = new ConnectionListing(new Set(records as unknown as ConnectionRecord[]), {
      listed: (connections, isLast) => {
        told.push(connections);
        last = isLast;
      },
      defer: (work) => next = work,
    });
    listing.flush();
    assert.deepEqual([told[0].length, last], [250, false]);
    for (let id = 300; id < 310; id++) records[id].ended = true;
    while (next !== undefined) {
      const work: Deferred = next;
      next = undefined;
      work.flush();
    }
    assert.equal(last, true);
    assert.equal(told.flat().length, 590);
    assert.ok(told.every((slice) => slice.length <= 250));
  });

  test("observed: a worker that is told to profile itself rests, answers, and serves on", async () => {
    const { plane } = planes.client;
    planes.client.tell({ type: "profile", order: { do: "start", intervalUs: 1000 } });
    plane.run();
    await plane.rest();
    const client = planes.connect();
    client.send(new Uint8Array(1));
    planes.accept();
    planes.client.tell({ type: "profile", order: { do: "stop" } });
    plane.run();
    await plane.rest();
    const [{ answer }] = planes.client.said("profile");
    assert.ok("profile" in answer, JSON.stringify(answer));
    assert.ok(answer.profile.nodes.length > 0);
    planes.connect().send(new Uint8Array(1));
    planes.accept();
  });

  test("observed: a profile that was not begun is an answer too", async () => {
    const { plane } = planes.client;
    planes.client.tell({ type: "profile", order: { do: "stop" } });
    plane.run();
    await plane.rest();
    assert.deepEqual(planes.client.said("profile")[0].answer, { error: "it was not begun" });
  });
});
