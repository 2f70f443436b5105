import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { jsonPieces } from "../../src/admin/json_stream.ts";
import { lazyMeshDump } from "../../src/admin/mesh_dump.ts";
import { inSlices } from "../../src/admin/slices.ts";
import { MeshStore } from "../../src/mesh/mod.ts";
import { endpointOf, pod, service } from "../mesh/builders.ts";
import { resources } from "../mesh/random_mesh.ts";

test("mesh_dump: any mesh is shown as the store shows it at once", () => {
  fc.assert(fc.property(resources, (mesh) => {
    const store = MeshStore.fromResources(mesh);
    assert.deepEqual(
      JSON.parse([...jsonPieces(lazyMeshDump(store))].join("")),
      JSON.parse(JSON.stringify(store.configDump())),
    );
  }));
});

test("mesh_dump: endpoints of services that are not known are staged", () => {
  const store = MeshStore.fromResources({
    workloads: [pod("b", ["10.0.0.2"], endpointOf("shop")), pod("a", ["10.0.0.1"], endpointOf("shop"))],
    services: [],
    policies: [],
  });
  const dump = JSON.parse([...jsonPieces(lazyMeshDump(store))].join(""));
  assert.deepEqual(Object.keys(dump.stagedServices), ["default/shop.default.svc"]);
  assert.equal(Object.keys(dump.stagedServices["default/shop.default.svc"])[0], "Kubernetes//Pod/default/a");
});

test("mesh_dump: a change while it is written does not tear it", () => {
  const store = MeshStore.fromResources({ workloads: [pod("a", ["10.0.0.1"])], services: [], policies: [] });
  const pieces = jsonPieces(lazyMeshDump(store));
  let text = pieces.next().value as string;
  store.apply({ upsert: { workloads: [pod("b", ["10.0.0.2"])] } });
  for (const piece of pieces) text += piece;
  assert.deepEqual(JSON.parse(text).workloads.map((workload: { name: string }) => workload.name), ["a"]);
});

test("mesh_dump: 50,000 workloads of one service leave the thread free in between", async () => {
  const workloads = Array.from(
    { length: 50_000 },
    (_, i) => pod(`pod-${(i * 7919) % 50_000}`, [`10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`], endpointOf("shop")),
  );
  const store = MeshStore.fromResources({ workloads, services: [service("shop", ["10.1.0.1"])], policies: [] });
  let steps = 0;
  let chars = 0;
  // Each step is measured by what it makes: a machine that is busy says nothing about time.
  let last = 0;
  let longest = 0;
  for (const piece of jsonPieces(lazyMeshDump(store))) {
    steps++;
    longest = Math.max(longest, piece.length);
    last += piece.length;
  }
  chars = last;
  assert.ok(chars > 20_000_000, `${chars} characters`);
  assert.ok(longest < 4_000, `a piece of ${longest} characters`);
  assert.ok(steps > 150_000, `${steps} steps`);

  let pauses = 0;
  let clock = 0;
  const settings = { sliceMs: 2, nowMs: () => clock += 0.002, pause: () => Promise.resolve(void pauses++) };
  for await (const _ of inSlices(jsonPieces(lazyMeshDump(store)), settings));
  assert.ok(pauses > 100, `${pauses} pauses`);
});
