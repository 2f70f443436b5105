import assert from "node:assert/strict";
import { test } from "node:test";
import { attributeCpu, type InspectorProfile, ThreadProfiler } from "../../src/platform/profiler.ts";

function profile(
  seen: Readonly<Record<string, number>>,
  below: Readonly<Record<string, string>> = {},
): InspectorProfile {
  const names = Object.keys(seen);
  return {
    nodes: names.map((name, i) => ({
      id: i + 10,
      callFrame: {
        functionName: name === "anonymous" ? "" : name,
        url: name === "anonymous" ? "" : "file:///x.ts",
        lineNumber: 4,
      },
      children: names.flatMap((other, j) => below[other] === name ? [j + 10] : []),
    })),
    samples: names.map((_, i) => i + 10),
    timeDeltas: names.map((name) => seen[name]),
  };
}

const cpuOf = (found: ReturnType<typeof attributeCpu>) =>
  Object.fromEntries(found.map((node) => [node.name, node.cpuNs]));

test("profiler: a wait costs only the CPU that nothing else had", () => {
  // 1 s of wall time, of which the thread had 300 ms.
  const found = attributeCpu(profile({ wait: 750_000, run: 250_000 }), 300e6);
  assert.deepEqual(cpuOf(found), { wait: 50e6, run: 250e6 });
});

test("profiler: what is below a wait waits too", () => {
  const found = attributeCpu(profile({ wait: 0, anonymous: 900_000, run: 100_000 }, { anonymous: "wait" }), 100e6);
  assert.deepEqual(cpuOf(found), { wait: 0, "(native)": 0, run: 100e6 });
  assert.equal(found[1].parent, 0);
  assert.equal(found[2].parent, -1);
});

test("profiler: a thread that was not always let run is scaled to what it had", () => {
  assert.deepEqual(cpuOf(attributeCpu(profile({ a: 600_000, b: 200_000 }), 400e6)), { a: 300e6, b: 100e6 });
});

test("profiler: CPU that no sample saw is the runtime's; negative deltas count nothing", () => {
  assert.deepEqual(cpuOf(attributeCpu(profile({ a: 100_000, b: -50_000 }), 150e6)), {
    a: 100e6,
    b: 0,
    "(runtime)": 50e6,
  });
});

test("profiler: names the function that is busy, and knows about how long it was", async () => {
  const profiler = await ThreadProfiler.start(1000);
  const end = performance.now() + 300;
  let x = 0;
  function burnForTheProfiler() {
    while (performance.now() < end) for (let i = 0; i < 1000; i++) x += Math.sqrt(i + x);
  }
  burnForTheProfiler();
  const { nodes, cpuNs } = await profiler.stop();
  const sum = nodes.reduce((total, node) => total + node.cpuNs, 0);
  assert.ok(Math.abs(sum - cpuNs) < 0.02 * cpuNs, `${sum} of ${cpuNs}`);
  const own = nodes.filter((node) => node.name === "burnForTheProfiler").reduce((total, node) => total + node.cpuNs, 0);
  assert.ok(own > 0.3 * cpuNs, `${own} of ${cpuNs}`);
});
