import assert from "node:assert/strict";
import { test } from "node:test";
import { TokenBucket, WorkQueue } from "../../../src/cni/agent/work_queue.ts";
import { ManualClock } from "./fakes.ts";

interface Run {
  readonly item: string;
  readonly atMs: number;
}

function queueOf(clock: ManualClock, handle: (item: string) => Promise<void>, concurrency = 2) {
  const delays: number[] = [];
  const queue = new WorkQueue<string>({
    clock,
    concurrency,
    handle,
    merge: (waiting, incoming) => `${waiting}+${incoming}`,
    retrying: (_item, _error, _attempt, delayMs) => void delays.push(delayMs),
  });
  return { queue, delays };
}

test("work_queue: nothing runs before the start, and what waits for one key is merged", async () => {
  const clock = new ManualClock();
  const done: string[] = [];
  const { queue } = queueOf(clock, async (item) => void done.push(item));
  queue.add("a", "1");
  queue.add("a", "2");
  queue.add("b", "3");
  await clock.settle();
  assert.deepEqual(done, []);
  queue.start();
  await clock.settle();
  assert.deepEqual(done, ["1+2", "3"]);
  assert.equal(queue.size, 0);
});

test("work_queue: one key's items run one after the other, keys side by side up to the limit", async () => {
  const clock = new ManualClock();
  const running = new Set<string>();
  const ended: string[] = [];
  let most = 0;
  const release: (() => void)[] = [];
  const { queue } = queueOf(clock, async (item) => {
    running.add(item);
    most = Math.max(most, running.size);
    await new Promise<void>((resolve) => release.push(resolve));
    running.delete(item);
    ended.push(item);
  });
  queue.start();
  queue.add("a", "a1");
  queue.add("b", "b1");
  queue.add("c", "c1");
  queue.add("a", "a2");
  await clock.settle();
  assert.deepEqual([...running], ["a1", "b1"]);
  while (release.length > 0) {
    release.shift()!();
    await clock.settle();
  }
  assert.equal(most, 2);
  assert.ok(ended.indexOf("a1") < ended.indexOf("a2"));
  assert.equal(ended.length, 4);
});

test("work_queue: a failed item is tried again after 5 ms, doubling to 5 s", async () => {
  const clock = new ManualClock();
  const runs: Run[] = [];
  const { queue, delays } = queueOf(clock, async (item) => {
    runs.push({ item, atMs: clock.nowMs() });
    throw new Error("no");
  });
  queue.start();
  queue.add("a", "x");
  await clock.advance(30_000);
  assert.deepEqual(delays.slice(0, 12), [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5000, 5000]);
  assert.equal(runs[1].atMs, 5);
  assert.ok(runs.every(({ item }) => item === "x"));
});

test("work_queue: all retries together are limited to 10 a second after 100", async () => {
  const clock = new ManualClock();
  let runs = 0;
  const { queue } = queueOf(clock, async () => {
    runs++;
    throw new Error("no");
  }, 8);
  queue.start();
  for (let i = 0; i < 200; i++) queue.add(`k${i}`, "x");
  await clock.advance(10);
  assert.ok(runs >= 300 && runs <= 310, `${runs} runs at first`);
  const before = runs;
  await clock.advance(10_000);
  assert.ok(runs - before >= 90 && runs - before <= 110, `${runs - before} runs in 10 s`);
});

test("work_queue: something new for a failing key is tried at once, as one with what failed", async () => {
  const clock = new ManualClock();
  const runs: Run[] = [];
  let fail = true;
  const { queue } = queueOf(clock, async (item) => {
    runs.push({ item, atMs: clock.nowMs() });
    if (fail) throw new Error("no");
  });
  queue.start();
  queue.add("a", "1");
  await clock.advance(1_000);
  const before = runs.length;
  fail = false;
  queue.add("a", "2");
  await clock.settle();
  assert.deepEqual(runs.slice(before), [{ item: "1+2", atMs: 1_000 }]);
  await clock.advance(60_000);
  assert.equal(runs.length, before + 1);
});

test("work_queue: the back-off begins anew after a success", async () => {
  const clock = new ManualClock();
  let fail = true;
  const { queue, delays } = queueOf(clock, async () => {
    if (fail) throw new Error("no");
  });
  queue.start();
  queue.add("a", "1");
  await clock.advance(100);
  fail = false;
  await clock.advance(10_000);
  fail = true;
  delays.length = 0;
  queue.add("a", "2");
  await clock.settle();
  assert.deepEqual(delays, [5]);
});

test("work_queue: stop waits for what runs and begins nothing more", async () => {
  const clock = new ManualClock();
  const started: string[] = [];
  let release = () => {};
  const { queue } = queueOf(clock, (item) => {
    started.push(item);
    return new Promise<void>((resolve) => release = resolve);
  }, 1);
  queue.start();
  queue.add("a", "1");
  queue.add("b", "2");
  await clock.settle();
  let stopped = false;
  void queue.stop().then(() => stopped = true);
  await clock.settle();
  assert.equal(stopped, false);
  release();
  await clock.settle();
  assert.equal(stopped, true);
  queue.add("c", "3");
  await clock.advance(10_000);
  assert.deepEqual(started, ["1"]);
});

test("work_queue: a token bucket gives its burst, then one at a time", async () => {
  const clock = new ManualClock();
  const bucket = new TokenBucket(clock, 10, 2);
  assert.deepEqual([bucket.take(), bucket.take(), bucket.take(), bucket.take()].map(Math.round), [0, 0, 100, 200]);
  assert.equal(bucket.tryTake(), false);
  await clock.advance(1_000);
  assert.equal(bucket.tryTake(), true);
});
