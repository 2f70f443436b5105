/** The end of a waypoint, in virtual time. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Drain, type DrainEnd, type DrainOptions } from "../../../src/waypoint/agent/drain.ts";
import { VirtualTime } from "./virtual_time.ts";

function begin(options: Partial<DrainOptions>) {
  const time = new VirtualTime();
  const seen: { announced: number; end: DrainEnd | undefined; active: number } = {
    announced: 0,
    end: undefined,
    active: 3,
  };
  const drain = new Drain({
    terminationDrainMs: 5_000,
    exitOnZeroConnections: false,
    minimumDrainMs: 5_000,
    announce: () => seen.announced++,
    active: () => seen.active,
    schedule: time.schedule,
    ...options,
  });
  return { time, seen, drain, run: () => void drain.run().then((end) => seen.end = end) };
}

test("drain: tells everybody at once, and ends after terminationDrainDuration", async () => {
  const { time, seen, run } = begin({});
  run();
  assert.equal(seen.announced, 1);
  await time.advance(4_999);
  assert.equal(seen.end, undefined);
  await time.advance(1);
  assert.equal(seen.end, "time");
});

test("drain: with EXIT_ON_ZERO_ACTIVE_CONNECTIONS it ends with the last connection, and not before the minimum", async () => {
  const { time, seen, run } = begin({ exitOnZeroConnections: true });
  seen.active = 0;
  run();
  await time.advance(4_999);
  assert.equal(seen.end, undefined);
  seen.active = 2;
  await time.advance(60_000);
  assert.equal(seen.end, undefined);
  seen.active = 0;
  await time.advance(1_000);
  assert.equal(seen.end, "no connections");
});

test("drain: after POST /drain the request to stop does not wait again", async () => {
  const { time, seen, drain, run } = begin({});
  drain.announceOnly();
  assert.equal(seen.announced, 1);
  run();
  await time.advance(0);
  assert.equal(seen.end, "drained before");
  assert.equal(seen.announced, 1);
});

test("drain: announced before it runs, it is announced once", () => {
  const { seen, drain, run } = begin({});
  drain.announce();
  run();
  assert.equal(seen.announced, 1);
});
