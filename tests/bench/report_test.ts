import assert from "node:assert/strict";
import { test } from "node:test";
import { allHold, markdownTable, type Results, summarize } from "../../scripts/bench/report.ts";

function cell(results: Results, figure: string, name: string) {
  const row = summarize(results).find((row) => row.figure.key === figure);
  assert.ok(row);
  return row.cells[name];
}

test("report: the better runtime is held to the limit, the other to 1.3 times it", () => {
  const results = {
    envoy: { cpuPerRequest: [20, 20] },
    "ambit-deno": { cpuPerRequest: [25, 25] },
    "ambit-compiled": { cpuPerRequest: [20, 20] },
  };
  assert.deepEqual(cell(results, "cpuPerRequest", "ambit-compiled"), { value: 20, ratio: 1, verdict: "holds" });
  assert.deepEqual(cell(results, "cpuPerRequest", "ambit-deno"), { value: 25, ratio: 1.25, verdict: "holds" });
  assert.ok(allHold(summarize(results)));
});

test("report: the better runtime above the limit fails, however good the other's allowance", () => {
  const results = {
    envoy: { cpuPerRequest: [20] },
    "ambit-deno": { cpuPerRequest: [24] },
    "ambit-compiled": { cpuPerRequest: [22] },
  };
  assert.equal(cell(results, "cpuPerRequest", "ambit-compiled").verdict, "exceeds");
  assert.equal(cell(results, "cpuPerRequest", "ambit-deno").verdict, "holds");
  assert.equal(allHold(summarize(results)), false);
  assert.match(markdownTable(summarize(results), Object.keys(results)), /1\.10 \*\*over\*\*/);
});

test("report: memory has a limit of its own for each runtime", () => {
  const results = {
    envoy: { rssIdle: [100] },
    "ambit-deno": { rssIdle: [130] },
    "ambit-compiled": { rssIdle: [90] },
  };
  assert.equal(cell(results, "rssIdle", "ambit-deno").verdict, "holds");
  assert.equal(cell(results, "rssIdle", "ambit-compiled").verdict, "exceeds");
});

test("report: the ratio is that of the rounds, not of the medians", () => {
  const results = { envoy: { cpuPerGb: [1, 2, 4] }, "ambit-deno": { cpuPerGb: [1, 4, 4] } };
  assert.equal(cell(results, "cpuPerGb", "ambit-deno").ratio, 1);
});

test("report: without Envoy there are values, and nothing to hold", () => {
  const results = { "ambit-deno": { cpuPerRequest: [25] } };
  assert.deepEqual(cell(results, "cpuPerRequest", "ambit-deno"), { value: 25, ratio: undefined, verdict: undefined });
});
