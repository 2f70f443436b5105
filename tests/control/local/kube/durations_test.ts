import assert from "node:assert/strict";
import { test } from "node:test";
import { parseDuration } from "../../../../src/control/local/kube/durations.ts";

const GOOD: readonly (readonly [string, number])[] = [
  ["0s", 0],
  ["0h0m0s0ms", 0],
  ["1h", 3_600_000],
  ["30m", 1_800_000],
  ["10s", 10_000],
  ["500ms", 500],
  ["2h30m", 9_000_000],
  ["1h30m10s", 5_410_000],
  ["10s30m1h", 5_410_000],
  ["99999h", 359_996_400_000],
  ["1s1s", 2000],
];

/** GEP-2257's own list, and more. */
const BAD = [
  "",
  "1",
  "1d",
  "1us",
  "1.5h",
  "-1h",
  "100000h",
  "1h 30m",
  "s",
  "1S",
  "1h1h1h1h1h",
  "1ms2",
  "٣s",
  " 1s",
  "1s\n",
];

test("durations: GEP-2257's durations in milliseconds", () => {
  for (const [text, ms] of GOOD) assert.equal(parseDuration(text), ms, text);
});

test("durations: anything else is none", () => {
  for (const text of BAD) assert.equal(parseDuration(text), undefined, JSON.stringify(text));
});
