/** The table of `bench:xds`: medians of the rounds, and which limits hold. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type BuildResult, holds, markdown, type SizeResult } from "../../scripts/bench_xds/report.ts";

const stats = (max: number) => ({ count: 10, p50: 0.3, p99: max, max });
const traffic = (max: number, failures = 0) => ({ running: stats(max), fresh: stats(max), failures });
const phase = (max: number, failures?: number) => ({
  ms: 100,
  mainCpuMs: 50,
  processCpuMs: 70,
  traffic: traffic(max, failures),
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

test("xds_report: says when the machine was too busy to tell", () => {
  assert.doesNotMatch(text(build(size(1_000))), /busy with other things/);
  assert.match(text(build(size(1_000, { quiet: traffic(5.1) }))), /busy with other things/);
});
