/** Pushes of a real istiod (tests/fixtures/waypoint) through the sink: what is asked for, what comes into force, what is answered. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fromBinary } from "@bufbuild/protobuf";
import { DeltaDiscoveryResponseSchema } from "../../../src/gen/xds/delta_discovery_pb.ts";
import { type Change, LiveConfig } from "../../../src/waypoint/agent/live_config.ts";
import { createWaypointSink, TYPE_URLS } from "../../../src/waypoint/agent/sink.ts";
import { StateRecorder } from "../../../src/waypoint/agent/state.ts";
import { WaypointIntake } from "../../../src/waypoint/config/mod.ts";
import { VirtualTime } from "./virtual_time.ts";

function create() {
  const time = new VirtualTime();
  const delivered: Change[] = [];
  const watched = new Map<string, ReadonlySet<string>>();
  const recorder = new StateRecorder(() => 7);
  const live = new LiveConfig({ schedule: time.schedule, released: (change) => delivered.push(change) });
  const progress: { type: string; missingFilters: number }[] = [];
  let local: ReadonlySet<string> = new Set();
  const sink = createWaypointSink({
    intake: new WaypointIntake(() => {}),
    live,
    recorder,
    deliver: (change) => {
      delivered.push(change);
      return Promise.resolve();
    },
    watch: (type, names) => watched.set(type, names),
    wantLocal: (names) => local = names,
    progress: (step) => progress.push(step),
  });
  const push = async (scenario: string, file: string, typeUrl: string) => {
    const url = new URL(`../../fixtures/waypoint/${scenario}/${file}.binpb`, import.meta.url);
    const { resources } = fromBinary(DeltaDiscoveryResponseSchema, readFileSync(url));
    const accepted: string[] = [];
    const rejections = await sink.apply({ typeUrl, resources, removed: [] }, (name) => accepted.push(name));
    return { rejections, accepted, count: resources.length };
  };
  return { sink, live, recorder, delivered, watched, progress, push, local: () => local };
}

test("sink: clusters lead to their endpoints, and come into force with them; nothing is refused", async () => {
  const { push, watched, delivered, live, progress } = create();
  const clusters = await push("plain", "cds", TYPE_URLS.clusters);
  assert.deepEqual(clusters.rejections, []);
  assert.equal(clusters.accepted.length, clusters.count);
  const wanted = watched.get(TYPE_URLS.endpoints)!;
  assert.ok(wanted.size > 0);
  assert.deepEqual([...wanted].sort(), [...live.missingEndpoints].sort());
  assert.ok((delivered.at(-1)?.clusters ?? []).every(({ discovery }) => discovery.kind !== "eds"));
  await push("plain", "eds", TYPE_URLS.endpoints);
  assert.deepEqual(live.missingEndpoints, []);
  assert.ok((delivered.at(-1)?.clusters ?? []).some(({ discovery }) => discovery.kind === "eds"));
  const listeners = await push("plain", "lds", TYPE_URLS.listeners);
  assert.deepEqual(listeners.rejections, []);
  assert.ok(delivered.at(-1)?.terminate !== undefined && delivered.at(-1)?.selection !== undefined);
  assert.equal(progress.length, 3);
});

test("sink: the same push again changes nothing for a worker", async () => {
  const { push, delivered } = create();
  for (
    const [file, type] of [["cds", TYPE_URLS.clusters], ["eds", TYPE_URLS.endpoints], ["lds", TYPE_URLS.listeners]]
  ) {
    await push("plain", file, type);
  }
  const before = delivered.length;
  await push("plain", "cds", TYPE_URLS.clusters);
  await push("plain", "lds", TYPE_URLS.listeners);
  assert.equal(delivered.length, before);
});

test("sink: endpoints that no cluster wants any more are forgotten, and taken anew when one does", async () => {
  const { push, sink, watched, delivered, live } = create();
  await push("plain", "cds", TYPE_URLS.clusters);
  await push("plain", "eds", TYPE_URLS.endpoints);
  const [name] = watched.get(TYPE_URLS.endpoints)!;
  await sink.apply({ typeUrl: TYPE_URLS.clusters, resources: [], removed: [name] }, () => {});
  assert.equal(watched.get(TYPE_URLS.endpoints)!.has(name), false);
  assert.deepEqual(delivered.at(-1)?.removedEndpoints, [name]);
  await push("plain", "cds", TYPE_URLS.clusters);
  assert.deepEqual(live.missingEndpoints, [name]);
  await push("plain", "eds", TYPE_URLS.endpoints);
  assert.deepEqual(live.missingEndpoints, []);
});

test("sink: what is refused is named, kept with its reason, and the rest is in force", async () => {
  const { push, recorder, delivered } = create();
  const { rejections, accepted, count } = await push("envoyfilter", "lds", TYPE_URLS.listeners);
  assert.ok(rejections.length > 0);
  assert.equal(accepted.length, count);
  const resource = recorder.resources.get(TYPE_URLS.listeners)!.get(rejections[0].name)!;
  assert.ok(resource.error?.includes(rejections[0].reason));
  assert.equal(resource.updatedMs, 7);
  assert.equal(recorder.types.get(TYPE_URLS.listeners)!.rejected, 1);
  assert.ok((delivered.at(-1)?.chains ?? []).length > 0);
});

test("sink: bytes that are no resource are refused without ending anything", async () => {
  const { sink } = create();
  const rejections = await sink.apply(
    { typeUrl: TYPE_URLS.clusters, resources: [Uint8Array.of(0xff, 0xff)], removed: [] },
    () => assert.fail("accepted"),
  );
  assert.equal(rejections.length, 1);
});
