import { test } from "node:test";
import assert from "node:assert/strict";
import { fuzz, TARGETS } from "./fuzz.ts";

for (const name of TARGETS) {
  test(`http2 fuzz: ${name}: no input breaks an invariant`, () => {
    // Two seconds from a fixed seed; a long run with other seeds is `fuzz.ts` itself.
    const report = fuzz(2, 1, [name]).get(name);
    assert.ok(report !== undefined && report.runs > report.corpusFiles);
  });
}
