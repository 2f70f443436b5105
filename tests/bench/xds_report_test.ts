/** The table of `bench:xds`: medians of the rounds, and which limits hold. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { longestOwn, union } from "../../scripts/bench_xds/waits.ts";
import { type BuildResult, holds, markdown, type SizeResult } from "../../scripts/bench_xds/report.ts";

const stats = (own: number) => ({ count: 10, p50: 0.3, p99: own, max: own + 90, own });
const traffic = (own: number, failures = 0) => ({
  running: stats(own),
  fresh: stats(own),
  failures,
  reasons: [],
  machineMs: 90,
});
const phase = (own: number, failures?: number) => ({
  ms: 100,
  mainCpuMs: 50,
  processCpuMs: 70,
  traffic: traffic(own, failures),
});
const MACHINE = { kernel: "6", cpu: "a CPU", cores: 2, memoryGb: 8, system: "Linux", openssl: "OpenSSL 3" };

function size(workloads: number, fields: Partial<SizeResult> = {}): SizeResult {
  return {
    workloads,
    readyMs: 500,
    startCpuMs: 200,
    meshKib: workloads,
    liveKib: 2000,
    replacedKib: 3000,
    bytes: 1,
    quiet: traffic(1),
    applied: phase(4),
    replaced: phase(4),
    ...fields,
  };
}

const build = (...sizes: SizeResult[]): BuildResult => ({ name: "bun", base: [{ kib: 65_536, readyMs: 300 }], sizes });
const text = (result: BuildResult) => markdown([result], MACHINE, { deno: "deno 2", bun: "1" }, 0.5);

test("xds_report: the median of the rounds counts", () => {
  const rounds = [400, 5000, 500].map((readyMs) => size(10_000, { readyMs }));
  assert.equal(holds([build(...rounds)]), true);
  assert.match(text(build(...rounds)), /ready after its start with the mesh, ms +\| 500 /);
  assert.match(text(build(...rounds)), /bun 64\.0 MB, ready after 300 ms/);
});

test("xds_report: a limit counts at its own size, and a failed connection always", () => {
  assert.equal(holds([build(size(50_000, { readyMs: 2000 }))]), true);
  assert.equal(holds([build(size(10_000, { readyMs: 601 }))]), false);
  assert.equal(holds([build(size(10_000, { meshKib: 20.1 * 1024 }))]), false);
  assert.equal(holds([build(size(50_000, { meshKib: 100_001 }))]), false);
  assert.equal(holds([build(size(1_000, { applied: phase(5.1) }))]), false);
  assert.equal(holds([build(size(1_000, { replaced: phase(1, 1) }))]), false);
  assert.match(text(build(size(1_000, { applied: phase(5.1) }))), /5\.1 \*\*over\*\*/);
});

test("xds_report: what the machine withheld is told, and not judged", () => {
  assert.equal(holds([build(size(1_000))]), true);
  assert.match(text(build(size(1_000))), /longest wait of a running connection meanwhile, ms +\| 4\.0 +\| ≤ 5/);
  assert.match(text(build(size(1_000))), /the same two with the machine's share, ms +\| 94\.0, 94\.0 /);
  assert.match(text(build(size(1_000))), /core withheld by the machine meanwhile, ms +\| 90\.0 /);
});

const span = (beginMs: number, endMs: number) => ({ beginMs, endMs });

test("xds_waits: spans that overlap or touch become one, in order", () => {
  assert.deepEqual(union([]), []);
  assert.deepEqual(union([span(5, 7), span(1, 2), span(6, 9), span(2, 3), span(8, 8.5)]), [span(1, 3), span(5, 9)]);
});

test("xds_waits: only what overlaps a wait is taken off it", () => {
  assert.equal(longestOwn([], [span(0, 10)]), 0);
  assert.equal(longestOwn([span(0, 4), span(10, 13)], []), 4);
  // 8 ms long, of which the machine had 2 at the beginning, 1 within and 1 at the end.
  assert.equal(longestOwn([span(10, 18)], [span(0, 12), span(14, 15), span(17, 30), span(40, 50)]), 4);
  // A shorter wait that is all ambit's own counts more than a long one that is the machine's.
  assert.equal(longestOwn([span(0, 100), span(200, 203)], [span(0, 99)]), 3);
});
