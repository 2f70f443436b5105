/** Slots of shared memory, and the workers' views of them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { LimitSlots } from "../../../src/waypoint/agent/limit_slots.ts";
import { CHUNK_SLOTS, LimitBoards } from "../../../src/waypoint/worker/limit_places.ts";
import type { ClusterName } from "../../../src/waypoint/spec/mod.ts";

const names = (count: number, from = 0) => Array.from({ length: count }, (_, i) => `c${from + i}` as ClusterName);

test("limit slots: each worker writes its own board and reads the others'", () => {
  const slots = new LimitSlots(3);
  const boards = [0, 1, 2].map((worker) => new LimitBoards(worker, 3));
  const places = slots.take(names(CHUNK_SLOTS + 5))!;
  assert.equal(places.chunks.length, 2);
  for (const each of boards) each.apply(places);
  const last = `c${CHUNK_SLOTS + 4}`;
  for (const [worker, each] of boards.entries()) each.of(last)[0][2] = worker + 1;
  assert.deepEqual(boards[1].of(last).map((board) => board[2]), [2, 1, 3]);
  assert.deepEqual(boards[1].of("c0").map((board) => board[2]), [0, 0, 0]);
  assert.deepEqual(boards[0].of("unknown"), []);
});

test("limit slots: only what is new is told, and a new worker is told all", () => {
  const slots = new LimitSlots(1);
  slots.take(names(2));
  assert.equal(slots.take(names(2)), undefined);
  const places = slots.take(names(3))!;
  assert.deepEqual([Object.keys(places.slots), places.chunks.length, places.firstChunk], [["c2"], 0, 1]);
  const late = new LimitBoards(0, 1);
  late.apply(slots.all());
  assert.equal(late.of("c2").length, 1);
});

test("limit slots: a slot rests before another cluster gets it", () => {
  const slots = new LimitSlots(1);
  const first = slots.take(names(1))!.slots["c0" as ClusterName];
  slots.release(names(1));
  assert.notEqual(slots.take(names(1, 1))!.slots["c1" as ClusterName], first);
  const many = names(2_000, 10);
  slots.take(many);
  slots.release(many);
  assert.equal(slots.take(names(1, 5_000))!.slots["c5000" as ClusterName], first);
});
