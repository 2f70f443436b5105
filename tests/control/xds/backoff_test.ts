import assert from "node:assert/strict";
import { test } from "node:test";
import { Backoff } from "../../../src/control/xds/backoff.ts";

test("backoff: doubles from 20 ms to 15 s, with jitter down to the half", () => {
  const longest = new Backoff(() => 1);
  const shortest = new Backoff(() => 0);
  for (const expected of [20, 40, 80, 160, 320, 640, 1280, 2560, 5120, 10240, 15_000, 15_000]) {
    assert.equal(longest.after(0), expected);
    assert.equal(shortest.after(0), expected / 2);
  }
});

test("backoff: begins anew after a stream that lived, not after one that ended at once", () => {
  const backoff = new Backoff(() => 1);
  for (let i = 0; i < 5; i++) backoff.after(100);
  assert.equal(backoff.after(100), 640);
  assert.equal(backoff.after(60_000), 20);
  assert.equal(backoff.after(0), 40);
});
