import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { BufferPool } from "../../src/net/buffer_pool.ts";
import { ByteQueue } from "../../src/net/byte_queue.ts";
import { checkPattern, patternAt } from "./support.ts";

const EAGAIN = 11;
const EPIPE = 32;

/** Counts what is out of the pool. */
class CountingPool extends BufferPool {
  out = 0;
  override take(minBytes: number): Uint8Array {
    this.out++;
    return super.take(minBytes).fill(0xee);
  }
  override give(buffer: Uint8Array): void {
    this.out--;
    super.give(buffer);
  }
}

type Step = { readonly push: number; readonly offset: number } | { readonly drain: number };

describe("byte_queue", () => {
  test("byte_queue: any pushes and any partial drains give the same bytes, and all memory back", () => {
    const step: fc.Arbitrary<Step> = fc.oneof(
      fc.record({ push: fc.oneof(fc.nat(50), fc.nat(400_000)), offset: fc.nat(9) }),
      fc.record({ drain: fc.oneof(fc.nat(50), fc.nat(500_000)) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const pool = new CountingPool();
        const queue = new ByteQueue(pool);
        let pushed = 0;
        let drained = 0;
        for (const step of steps) {
          if ("push" in step) {
            const bytes = new Uint8Array(step.offset + step.push + 3);
            bytes.set(patternAt(pushed, step.push, 1), step.offset);
            queue.push(bytes, step.offset, step.offset + step.push);
            bytes.fill(0xff); // The queue has copied them.
            pushed += step.push;
          } else {
            let room = step.drain;
            const taken = queue.drain((bytes, start, end) => {
              const n = Math.min(room, end - start);
              checkPattern(bytes.subarray(start, start + n), drained, 1);
              drained += n;
              room -= n;
              return n;
            });
            assert.equal(taken, step.drain - room);
            assert.equal(taken, Math.min(step.drain, taken + queue.length));
          }
          assert.equal(queue.length, pushed - drained);
          if (queue.length === 0) assert.equal(pool.out, 0, "an empty queue holds memory");
        }
        queue.clear();
        assert.equal(queue.length, 0);
        assert.equal(pool.out, 0);
      }),
      { numRuns: 150 },
    );
  });

  test("byte_queue: holds little more memory than bytes", () => {
    const pool = new CountingPool();
    const queue = new ByteQueue(pool);
    for (let i = 0; i < 1_000; i++) queue.push(new Uint8Array(1_000), 0, 1_000);
    assert.ok(pool.out <= Math.ceil(1_000_000 / (16 * 1024)) + 1, `${pool.out} chunks for 1 MB`);
    queue.clear();
  });

  test("byte_queue: an error of the writer comes out, and loses nothing", () => {
    const queue = new ByteQueue(new CountingPool());
    assert.equal(queue.drain(() => -EPIPE), 0, "nothing to offer");
    queue.push(patternAt(0, 20_000, 2), 0, 20_000);
    assert.equal(queue.drain(() => -EAGAIN), -EAGAIN);
    assert.equal(queue.length, 20_000);
    // A part was taken before the error: the count is what the caller gets now.
    let calls = 0;
    const taken = queue.drain((_bytes, start, end) => ++calls === 1 ? end - start : -EPIPE);
    assert.ok(taken > 0);
    assert.equal(queue.length, 20_000 - taken);
  });

  test("byte_queue: stops when the writer takes less than it was offered", () => {
    const queue = new ByteQueue(new CountingPool());
    queue.push(new Uint8Array(100_000), 0, 100_000);
    let calls = 0;
    assert.equal(
      queue.drain(() => {
        calls++;
        return 10;
      }),
      10,
    );
    assert.equal(calls, 1);
  });
});
