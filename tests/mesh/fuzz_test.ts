import assert from "node:assert/strict";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { runFuzz } from "../support/fuzz.ts";
import { MESH_FUZZ_TARGETS } from "./fuzz.ts";

/** CI sets more; one second keeps every test run honest. */
const seconds = Number(process.env.FUZZ_SECONDS ?? 1);

for (const [name, target] of Object.entries(MESH_FUZZ_TARGETS)) {
  test(`fuzz: mesh ${name}`, () => {
    const corpusDir = fileURLToPath(new URL(`../corpus/mesh/${name}`, import.meta.url));
    const report = runFuzz({
      name,
      corpusDir,
      seconds,
      seed: Number(process.env.FUZZ_SEED ?? 1),
      maxBytes: 4096,
      target,
    });
    assert.ok(report.runs > report.corpusFiles);
  });
}
