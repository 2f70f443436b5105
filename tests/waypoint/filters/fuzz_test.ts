import assert from "node:assert/strict";
import { test } from "node:test";
import { runFuzz } from "../../support/fuzz.ts";
import { targets } from "./fuzz.ts";

for (const target of targets) {
  test(`filters fuzz: ${target.name}: no input breaks an invariant`, () => {
    const report = runFuzz({ ...target, seconds: 1, seed: 1 });
    assert.ok(report.runs > report.corpusFiles && report.corpusFiles > 0);
  });
}
