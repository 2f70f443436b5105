/** A push taken in step by step, so that what else the main thread has to do goes on in between. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fromBinary } from "@bufbuild/protobuf";
import { openResource } from "../../../src/control/xds/resource.ts";
import { DeltaDiscoveryResponseSchema } from "../../../src/gen/xds/delta_discovery_pb.ts";
import { TYPES, WaypointIntake } from "../../../src/waypoint/config/mod.ts";

for (const [file, type] of [["cds", TYPES.clusters], ["eds", TYPES.endpoints], ["lds", TYPES.listeners]] as const) {
  test(`intake steps: ${file} can be interrupted after each resource and chain, and comes to the same`, () => {
    const url = new URL(`../../fixtures/waypoint/routes/${file}.binpb`, import.meta.url);
    const { resources } = fromBinary(DeltaDiscoveryResponseSchema, readFileSync(url));
    const push = { type, resources: resources.map((bytes) => openResource(bytes)), removed: [] };
    const whole = new WaypointIntake(() => {}).apply(push);
    const steps = new WaypointIntake(() => {}).steps(push);
    let interruptions = 0;
    let last = steps.next();
    for (; last.done !== true; last = steps.next()) interruptions++;
    assert.deepEqual(last.value, whole);
    assert.equal(interruptions, resources.length + (whole.update?.chains?.length ?? 0));
  });
}
