import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { Stopwatch } from "./stopwatch.ts";

test("stopwatch: what stops the test is taken off, a wait is not", async () => {
  const watch = new Stopwatch();
  await delay(100);
  for (const untilMs = performance.now() + 600; performance.now() < untilMs;);
  await delay(100);
  const { ms, wallMs } = watch.stop();
  assert.ok(wallMs >= 790, `${wallMs}`);
  assert.ok(ms >= 190 && ms <= wallMs - 500, `${ms} of ${wallMs}`);
});
