import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { Stopwatch } from "./stopwatch.ts";

function stall(ms: number): void {
  for (const untilMs = performance.now() + ms; performance.now() < untilMs;);
}

test("stopwatch: what stops the test is taken off, a wait is not", async () => {
  const watch = new Stopwatch();
  await delay(100);
  stall(600);
  await delay(100);
  const { ms, wallMs } = watch.stop();
  assert.ok(wallMs >= 790, `${wallMs}`);
  assert.ok(ms >= 190 && ms <= wallMs - 500, `${ms} of ${wallMs}`);
});

test("stopwatch: several run at once, each from its own start", async () => {
  const first = new Stopwatch();
  stall(400);
  const second = new Stopwatch();
  await delay(50);
  first.stop();
  first.stop();
  stall(600);
  await delay(50);
  const { ms, wallMs } = second.stop();
  assert.ok(wallMs >= 690, `${wallMs}`);
  assert.ok(ms >= 90 && ms <= wallMs - 500, `${ms} of ${wallMs}`);
});

test("stopwatch: one that starts later does not see what was before it", async () => {
  new Stopwatch().stop();
  await delay(400);
  const watch = new Stopwatch();
  await delay(20);
  const { ms } = watch.stop();
  assert.ok(ms > 0, `${ms}`);
});
