/** Every registered fuzz target runs over its corpus and a little beyond; CI fuzzes for longer. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { corpusPath, loadTargets, targetFiles } from "../../scripts/fuzz.ts";
import { runFuzz } from "../support/fuzz.ts";

const SECONDS = 0.2;
const SEED = 20260101;

for (const file of targetFiles()) {
  test(`fuzz: the targets of ${file} hold for a moment`, async () => {
    for (const target of await loadTargets(file)) {
      const report = runFuzz({ ...target, corpusDir: corpusPath(target), seconds: SECONDS, seed: SEED });
      assert.ok(report.corpusFiles > 0 && report.runs > report.corpusFiles, target.name);
    }
  });
}
