import assert from "node:assert/strict";
import { test } from "node:test";
import { corpusPath } from "../../../scripts/fuzz.ts";
import { runFuzz } from "../../support/fuzz.ts";
import { targets } from "./fuzz.ts";

for (const target of targets) {
  test(`dns fuzz: ${target.name}: no input breaks an invariant`, () => {
    const report = runFuzz({ ...target, corpusDir: corpusPath(target), seconds: 2, seed: 1 });
    assert.ok(report.runs > report.corpusFiles);
  });
}
