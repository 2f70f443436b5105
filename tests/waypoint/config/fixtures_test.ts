import assert from "node:assert/strict";
import { test } from "node:test";
import { pushes, replay, type Scenario, SCENARIOS } from "./fixtures.ts";

const WHOLE: readonly Scenario[] = ["plain", "routes", "authz", "traffic", "forall", "benchlog", "benchl7"];

for (const scenario of WHOLE) {
  test(`waypoint intake: ${scenario}, as a real istiod sent it, is taken whole`, () => {
    const { rejections, warnings, updates } = replay(scenario);
    assert.deepEqual(rejections, []);
    assert.deepEqual(warnings, []);
    for (const { chains = [] } of updates) {
      for (const chain of chains) assert.notEqual(chain.kind, "refused", chain.name);
    }
  });
}

test("waypoint intake: of telemetry only Lua and Wasm are refused", () => {
  const { rejections } = replay("telemetry");
  assert.ok(rejections.length > 0);
  for (const rejection of rejections) assert.match(rejection, /lua|Lua|Wasm|has not come/, rejection);
});

test("waypoint intake: of envoyfilter only the rate limit is refused, CONNECT and all chains that have it with it", () => {
  const { rejections, updates } = replay("envoyfilter");
  assert.ok(rejections.length > 0);
  for (const rejection of rejections) assert.match(rejection, /local_ratelimit/, rejection);
  assert.match(updates.findLast(({ terminate }) => terminate)?.terminate?.refusal ?? "", /LocalRateLimit/);
});

for (const scenario of SCENARIOS) {
  test(`waypoint intake: ${scenario} once more changes nothing`, () => {
    const { intake } = replay(scenario);
    for (const push of pushes(scenario)) {
      const { update } = intake.apply(push);
      const { workloads: _, removedWorkloads: __, ...rest } = update ?? {};
      assert.deepEqual(rest, {});
    }
  });
}
