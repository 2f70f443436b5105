/** Who waits for a configuration, and how long. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { EARLY_MS, EarlyComers } from "../../../src/waypoint/worker/early.ts";
import { TestTiming } from "../support/memory_stream.ts";

function create() {
  const timing = new TestTiming();
  const early = new EarlyComers(timing);
  const log: string[] = [];
  const served = new Set<string>();
  const add = (name: string) =>
    early.add({
      attempt() {
        if (served.has(name)) log.push(`${name} served`);
        return served.has(name);
      },
      giveUp: () => void log.push(`${name} gave up`),
    });
  return { timing, early, log, served, add };
}

test("early: who is served by a new configuration waits no more, the others go on", () => {
  const { timing, early, log, served, add } = create();
  add("a");
  add("b");
  early.retry();
  assert.deepEqual(log, []);
  served.add("a");
  early.retry();
  assert.deepEqual(log, ["a served"]);
  timing.advance(EARLY_MS);
  assert.deepEqual(log, ["a served", "b gave up"]);
});

test("early: each waits as long as the other", () => {
  const { timing, log, add } = create();
  add("a");
  timing.advance(EARLY_MS / 2);
  add("b");
  timing.advance(EARLY_MS / 2);
  assert.deepEqual(log, ["a gave up"]);
  timing.advance(EARLY_MS / 2 - 1);
  assert.deepEqual(log, ["a gave up"]);
  timing.advance(1);
  assert.deepEqual(log, ["a gave up", "b gave up"]);
  add("c");
  timing.advance(EARLY_MS);
  assert.equal(log.at(-1), "c gave up");
});

test("early: there is an end to how many wait", () => {
  const { timing, early, log, add } = create();
  for (let i = 0; !early.isFull; i++) add(`${i}`);
  timing.advance(EARLY_MS);
  assert.equal(log.length, 1_000);
  assert.equal(early.isFull, false);
});
