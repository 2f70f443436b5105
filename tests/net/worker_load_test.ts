import assert from "node:assert/strict";
import { test } from "node:test";
import { WorkerLoad } from "../../src/net/worker_load.ts";

/** Counts as given; a worker whose count is undefined is not up. */
function loads(...counts: (number | undefined)[]): WorkerLoad {
  const load = WorkerLoad.create(counts.length);
  counts.forEach((count, worker) => {
    if (count === undefined) return;
    load.add(worker, count);
    load.up(worker);
  });
  return load;
}

test("worker_load: who has clearly more than its share gives to who has least", () => {
  assert.equal(loads(20, 9, 4).receiver(0, 4), 2);
  assert.equal(loads(4, 9, 20).receiver(2, 4), 0);
  assert.equal(loads(9, 9, 9).receiver(1, 4), undefined, "an even share");
  assert.equal(loads(2, 9).receiver(0, 4), undefined, "less than its share");
});

test("worker_load: a quarter more than its share and the slack are kept", () => {
  // A share of 10: up to 12.5 and the slack.
  assert.equal(loads(16, 4).receiver(0, 4), undefined);
  assert.equal(loads(17, 3).receiver(0, 4), 1);
  assert.equal(loads(14, 6).receiver(0, 1), 1);
  assert.equal(loads(13, 7).receiver(0, 1), undefined);
});

test("worker_load: nothing is given to a worker that is not up, and it has no part in the share", () => {
  assert.equal(loads(1_000).receiver(0, 1), undefined, "alone");
  assert.equal(loads(1_000, undefined).receiver(0, 1), undefined, "the others have not begun");
  assert.equal(loads(20, 10, undefined).receiver(0, 1), 1);
  assert.equal(loads(16, 14, undefined).receiver(0, 1), undefined);
});

test("worker_load: one that is gone has no connections, and receives when another is up in its place", () => {
  const load = loads(20, 3);
  load.down(1);
  assert.equal(load.total, 20);
  assert.equal(load.receiver(0, 4), undefined);
  load.up(1);
  assert.equal(load.receiver(0, 4), 1);
});

test("worker_load: one that accepts before its confirmation was read counts itself", () => {
  const load = loads(undefined, 2);
  load.add(0, 20);
  assert.equal(load.receiver(0, 4), 1);
});

test("worker_load: every thread sees the same counts", () => {
  const load = WorkerLoad.create(2);
  const other = new WorkerLoad(load.buffer);
  other.add(1, 7);
  other.add(1, -2);
  assert.equal(other.workers, 2);
  assert.equal(load.total, 5);
});
