import assert from "node:assert/strict";
import { test } from "node:test";
import { failureReport, readTotals } from "../../scripts/support/totals.ts";

test("totals: reads the summary of deno", () => {
  const text =
    "a ... \x1b[32mok\x1b[0m\n\n\x1b[32mok\x1b[0m | 107 passed (3 steps) | 0 failed \x1b[90m(656ms)\x1b[0m\n";
  assert.deepEqual(readTotals("deno", text, 0), { passed: 107, failed: 0 });
  assert.deepEqual(readTotals("deno", "FAILED | 103 passed | 4 failed (1s)\n", 1), { passed: 103, failed: 4 });
});

test("totals: reads the summary of bun", () => {
  assert.deepEqual(readTotals("bun", "\n 98 pass\n 9 fail\nRan 107 tests\n", 1), { passed: 98, failed: 9 });
});

test("totals: crashes, empty runs and skipped tests are failures", () => {
  assert.deepEqual(readTotals("deno", "Segmentation fault\n", 139), { passed: 0, failed: 1 });
  assert.deepEqual(readTotals("deno", "ok | 3 passed | 0 failed\npanic\n", 101), { passed: 3, failed: 1 });
  assert.deepEqual(readTotals("deno", "ok | 0 passed | 0 failed (1ms)\n", 0), { passed: 0, failed: 1 });
  assert.deepEqual(readTotals("deno", "ok | 2 passed | 0 failed | 1 ignored (1s)\n", 0), { passed: 2, failed: 1 });
  assert.deepEqual(readTotals("bun", " 5 pass\n 2 skip\n 0 fail\n", 0), { passed: 5, failed: 2 });
});

test("totals: a report of failures holds the error and the name, and nothing of the tests that passed", () => {
  const bun = ["(pass) first", "AssertionError: 1 != 2", "    at x.ts:3", "(fail) second [1.00ms]", "(pass) third"];
  assert.deepEqual(failureReport("bun", bun.join("\n")), bun.slice(1, 4));
  const deno = ["first ... ok (1ms)", " ERRORS ", "", "second => ./x_test.ts:1:1", "error: 1 != 2", " FAILURES "];
  assert.deepEqual(failureReport("deno", deno.join("\n")), deno.slice(1));
});

test("totals: a run that names no failure is shown by its last lines", () => {
  assert.deepEqual(failureReport("bun", "Segmentation fault"), ["Segmentation fault"]);
  assert.deepEqual(failureReport("deno", "error: Module not found"), ["error: Module not found"]);
});
