/** When a waypoint is ready. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { WaypointReadiness } from "../../../src/waypoint/agent/readiness.ts";

const ALL = {
  certified: true,
  arrived: new Set(["clusters", "listeners"] as const),
  missingEndpoints: 0,
  missingFilters: 0,
  serving: true,
};

test("readiness: asks for the certificate, clusters, all endpoints, listeners, filters and workers, each by its name", () => {
  const cases: [Partial<typeof ALL> | { arrived: Set<"clusters"> }, RegExp][] = [
    [{ certified: false }, /no certificate yet/],
    [{ arrived: new Set() }, /no clusters from istiod yet/],
    [{ missingEndpoints: 2 }, /endpoints of 2 clusters/],
    [{ arrived: new Set(["clusters"] as const) }, /no listeners from istiod yet/],
    [{ missingFilters: 1 }, /1 filters have not come/],
    [{ serving: false }, /workers are not up/],
  ];
  for (const [lack, reason] of cases) {
    const readiness = new WaypointReadiness(() => assert.fail("ready"));
    readiness.observe({ ...ALL, ...lack });
    assert.equal(readiness.ready, false);
    assert.match(readiness.reason, reason);
  }
});

test("readiness: a waypoint for which there is nothing to do becomes ready, once", () => {
  let calls = 0;
  const readiness = new WaypointReadiness(() => calls++);
  readiness.observe(ALL);
  readiness.observe(ALL);
  assert.deepEqual([readiness.ready, readiness.reason, calls], [true, "", 1]);
});

test("readiness: stays when istiod asks for more, and ends with the drain", () => {
  const readiness = new WaypointReadiness(() => {});
  readiness.observe(ALL);
  readiness.observe({ missingEndpoints: 5 });
  assert.equal(readiness.ready, true);
  readiness.drain();
  assert.deepEqual([readiness.ready, readiness.reason], [false, "not ready: draining"]);
});

test("readiness: says what the way to istiod came to", () => {
  const readiness = new WaypointReadiness(() => {});
  readiness.explain("connection refused");
  assert.match(readiness.reason, /no certificate yet \(connection refused\)/);
});
