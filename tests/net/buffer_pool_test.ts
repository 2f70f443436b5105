import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { BufferPool } from "../../src/net/buffer_pool.ts";

const KEPT_PER_STEP = 512 * 1024;
const STEPS = [16 * 1024, 80 * 1024, 320 * 1024, 1280 * 1024, 5 * 1024 * 1024];

describe("buffer_pool", () => {
  test("buffer_pool: gives the smallest step that is enough", () => {
    const pool = new BufferPool();
    assert.equal(pool.take(0).length, STEPS[0]);
    for (const [i, step] of STEPS.entries()) {
      assert.equal(pool.take(step).length, step);
      if (i + 1 < STEPS.length) assert.equal(pool.take(step + 1).length, STEPS[i + 1]);
    }
  });

  test("buffer_pool: what is given back is used again", () => {
    const pool = new BufferPool();
    const buffer = pool.take(100);
    pool.give(buffer);
    assert.equal(pool.idleBytes, STEPS[0]);
    assert.equal(pool.take(200), buffer);
    assert.equal(pool.idleBytes, 0);
    assert.notEqual(pool.take(200), buffer);
  });

  test("buffer_pool: larger than any step is made to measure and not kept", () => {
    const pool = new BufferPool();
    const huge = pool.take(6 * 1024 * 1024);
    assert.equal(huge.length, 6 * 1024 * 1024);
    pool.give(huge);
    assert.equal(pool.idleBytes, 0);
  });

  test("buffer_pool: a burst's memory is given up by halves, down to what is kept", () => {
    const pool = new BufferPool();
    const burst: Uint8Array[] = [];
    for (const step of STEPS) {
      for (let i = 0; i < 64; i++) burst.push(pool.take(step));
    }
    for (const buffer of burst) pool.give(buffer);
    const full = pool.idleBytes;
    assert.equal(full, 64 * STEPS.reduce((sum, step) => sum + step, 0));
    pool.shrink();
    assert.ok(pool.idleBytes <= full / 2 + STEPS.length * KEPT_PER_STEP);
    for (let i = 0; i < 8; i++) pool.shrink();
    assert.ok(pool.idleBytes <= STEPS.length * KEPT_PER_STEP);
    const rest = pool.idleBytes;
    assert.ok(rest > 0, "what an ordinary turn needs stays");
    pool.shrink();
    assert.equal(pool.idleBytes, rest);
  });
});
