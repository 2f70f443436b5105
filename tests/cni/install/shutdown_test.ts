import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { decideShutdown, type ShutdownOptions } from "../../../src/cni/install/mod.ts";
import { schedulingProblem } from "../../../src/cni/install/node_affinity.ts";
import { createKubeClient, type KubeClient } from "../../../src/control/kube/client.ts";
import type { DaemonSet, NodeSelectorRequirement } from "../../../src/control/kube/types.ts";
import { ApiServer, type Handler, sendJson, sendStatus } from "../../control/kube/api_server.ts";
import { until } from "../../control/kube/until.ts";
import { VirtualTime } from "../../ztunnel/virtual_time.ts";

let api: ApiServer;
let client: KubeClient;
let time: VirtualTime;

before(async () => {
  api = await ApiServer.start();
});

after(() => api.stop());

beforeEach(async () => {
  await api.reset();
  time = new VirtualTime();
  client = createKubeClient({ server: api.url, ca: api.ca, token: () => "t", schedule: time.schedule });
});

afterEach(() => client.close());

const OPTIONS: ShutdownOptions = {
  ambientEnabled: true,
  disableSafeUpgrade: false,
  ownedConfig: false,
  podNamespace: "istio-system",
  nodeName: "node-1",
};
const answer = (value: unknown): Handler => (_, response) => sendJson(response, 200, value);
const refuse = (code: number, reason: string): Handler => (_, response) =>
  sendStatus(response, code, reason, "because");
const SET: DaemonSet = { metadata: { name: "istio-cni-node" }, spec: { template: { spec: {} } } };
const NODE = { metadata: { name: "node-1", labels: { zone: "a", size: "7" } } };

async function decide(options: Partial<ShutdownOptions> = {}, withClient = true) {
  const clock = { nowMs: () => time.nowMs, schedule: time.schedule };
  const decided = decideShutdown(withClient ? client : undefined, { ...OPTIONS, ...options, clock });
  let done = false;
  decided.finally(() => done = true);
  // The second between two questions passes.
  await until(() => {
    if (time.nextInMs() === 1_000) time.advanceToNext();
    return done;
  }, "it decides");
  return await decided;
}

describe("shutdown", () => {
  test("keeps everything when another agent will follow", async () => {
    api.faults.push(answer(SET), answer(NODE));
    const { action, reason } = await decide();
    assert.deepEqual([action, reason], [
      "keep",
      "DaemonSet istio-system/istio-cni-node exists: another agent will follow on this node",
    ]);
    assert.deepEqual(api.requests.map(({ path }) => path), [
      "/apis/apps/v1/namespaces/istio-system/daemonsets/istio-cni-node",
      "/api/v1/nodes/node-1",
    ]);
  });

  test("cleans up when none will", async () => {
    const cases: [Handler[], Partial<ShutdownOptions>, RegExp][] = [
      [[], { ambientEnabled: false }, /ambient mode is off/],
      [[], { disableSafeUpgrade: true }, /AMBIENT_DISABLE_SAFE_UPGRADE/],
      [[refuse(404, "NotFound")], {}, /is gone/],
      [[refuse(404, "NotFound")], { ownedConfig: true }, /is gone/],
      [[answer({ ...SET, metadata: { deletionTimestamp: "2026-01-01T00:00:00Z" } })], {}, /is being deleted/],
      [[refuse(401, "Unauthorized")], { ownedConfig: true }, /does not accept the token/],
      [
        [answer(withTerm([{ key: "zone", operator: "In", values: ["b"] }])), answer(NODE)],
        {},
        /no longer covers node node-1/,
      ],
      [[refuse(500, "InternalError")], {}, /no answer: .*because/],
      [[answer(SET), refuse(403, "Forbidden")], {}, /no answer: .*"get" on "nodes"/],
    ];
    for (const [faults, options, expected] of cases) {
      await api.reset();
      api.faults.push(...faults);
      const { action, reason } = await decide(options);
      assert.equal(action, "clean up", reason);
      assert.match(reason, expected);
    }
    assert.equal((await decide({}, false)).action, "clean up");
  });

  test("with a configuration of our own: asks three times, and keeps it in doubt", async () => {
    api.faults.push(refuse(500, ""), refuse(500, ""), refuse(500, ""));
    const { action, reason } = await decide({ ownedConfig: true });
    assert.deepEqual([action, api.requests.length], ["keep", 3]);
    assert.match(reason, /configuration is our own/);
    await api.reset();
    api.faults.push(refuse(500, ""), refuse(500, ""), refuse(404, "NotFound"));
    assert.equal((await decide({ ownedConfig: true })).action, "clean up");
    assert.equal((await decide({ ownedConfig: true }, false)).action, "keep");
  });

  test("an API server that is gone is not waited for", async () => {
    client = createKubeClient({ server: "https://127.0.0.1:1", ca: api.ca, token: () => "t" });
    const { action, reason } = await decide();
    assert.equal(action, "clean up");
    assert.match(reason, /connection refused/);
  });
});

function withTerm(matchExpressions: NodeSelectorRequirement[], matchFields: NodeSelectorRequirement[] = []): DaemonSet {
  const nodeSelectorTerms = [{ matchExpressions: [{ key: "no", operator: "Exists" }] }, {
    matchExpressions,
    matchFields,
  }];
  const nodeAffinity = { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms } };
  return { metadata: {}, spec: { template: { spec: { affinity: { nodeAffinity } } } } };
}

describe("node affinity", () => {
  test("terms as the scheduler reads them", () => {
    const cases: [NodeSelectorRequirement, boolean][] = [
      [{ key: "zone", operator: "In", values: ["a", "b"] }, true],
      [{ key: "zone", operator: "In", values: ["b"] }, false],
      [{ key: "none", operator: "In", values: ["a"] }, false],
      [{ key: "zone", operator: "NotIn", values: ["b"] }, true],
      [{ key: "zone", operator: "NotIn", values: ["a"] }, false],
      [{ key: "none", operator: "NotIn", values: ["a"] }, true],
      [{ key: "zone", operator: "Exists" }, true],
      [{ key: "none", operator: "Exists" }, false],
      [{ key: "zone", operator: "DoesNotExist" }, false],
      [{ key: "none", operator: "DoesNotExist" }, true],
      [{ key: "size", operator: "Gt", values: ["6"] }, true],
      [{ key: "size", operator: "Gt", values: ["7"] }, false],
      [{ key: "size", operator: "Lt", values: ["8"] }, true],
      [{ key: "zone", operator: "Gt", values: ["1"] }, false],
      [{ key: "size", operator: "Gt", values: ["x"] }, false],
      [{ key: "zone", operator: "Near", values: ["a"] }, false],
    ];
    for (const [requirement, expected] of cases) {
      assert.equal(
        schedulingProblem(withTerm([requirement]), NODE, "node-1") === undefined,
        expected,
        JSON.stringify(requirement),
      );
    }
    const byName = (operator: string, name: string) =>
      withTerm([], [{ key: "metadata.name", operator, values: [name] }]);
    assert.equal(schedulingProblem(byName("In", "node-1"), NODE, "node-1"), undefined);
    assert.notEqual(schedulingProblem(byName("In", "node-2"), NODE, "node-1"), undefined);
    assert.notEqual(schedulingProblem(withTerm([]), NODE, "node-1"), undefined, "an empty term matches nothing");
  });

  test("a node selector counts as well", () => {
    const set = (nodeSelector: Record<string, string>): DaemonSet => ({
      metadata: {},
      spec: { template: { spec: { nodeSelector } } },
    });
    assert.equal(schedulingProblem(set({ zone: "a" }), NODE, "node-1"), undefined);
    assert.match(schedulingProblem(set({ zone: "b" }), NODE, "node-1") ?? "", /zone=b/);
    assert.equal(schedulingProblem(SET, NODE, "node-1"), undefined);
  });
});
