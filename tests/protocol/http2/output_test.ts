import { test } from "node:test";
import assert from "node:assert/strict";
import fc from "fast-check";
import { Output } from "../../../src/protocol/http2/output.ts";
import { CountingPool } from "./harness.ts";

function append(output: Output, bytes: Uint8Array): void {
  output.ensure(bytes.length);
  output.bytes.set(bytes, output.end);
  output.end += bytes.length;
}

test("output: what goes in comes out in order, however it is appended and taken", () => {
  const step = fc.record({ add: fc.nat({ max: 9000 }), takeShare: fc.double({ min: 0, max: 1, noNaN: true }) });
  fc.assert(fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
    const pool = new CountingPool();
    const output = new Output(pool);
    let [written, read] = [0, 0];
    const take = (n: number): void => {
      for (let i = 0; i < n; i++) assert.equal(output.bytes[output.start + i], read++ & 0xff);
      output.sent(n);
    };
    for (const { add, takeShare } of steps) {
      append(output, Uint8Array.from({ length: add }, () => written++));
      take(Math.floor((output.end - output.start) * takeShare));
      assert.equal(output.end - output.start, written - read);
    }
    take(output.end - output.start);
    assert.equal(pool.outBytes, 0);
  }));
});

test("output: makes room by moving what is left, once most of it was sent", () => {
  const pool = new CountingPool();
  const output = new Output(pool);
  append(output, new Uint8Array(4000).fill(1));
  append(output, new Uint8Array(96).fill(2));
  const buffer = output.bytes;
  output.sent(4000);
  output.ensure(1000);
  assert.equal(output.bytes, buffer);
  assert.deepEqual([output.start, output.end], [0, 96]);
  assert.deepEqual(output.bytes.slice(0, 96), new Uint8Array(96).fill(2));
});

test("output: does not move what is left again and again", () => {
  const output = new Output(new CountingPool());
  append(output, new Uint8Array(4096));
  output.sent(10);
  output.ensure(10);
  assert.ok(output.bytes.length >= 8172, "grown, since moving 4,086 bytes for 10 would not pay");
});

test("output: starts as large as the last bursts needed, and forgets them", () => {
  const pool = new CountingPool();
  const output = new Output(pool);
  const burst = (bytes: number): number => {
    append(output, new Uint8Array(bytes));
    const { length } = output.bytes;
    output.sent(bytes);
    return length;
  };
  burst(100_000);
  assert.ok(burst(10) >= 100_000);
  for (let i = 0; i < 10; i++) burst(10);
  assert.equal(burst(10), 4096);
  assert.equal(pool.outBytes, 0);
});

test("output: counts replies until they are sent, and no longer", () => {
  const output = new Output(new CountingPool());
  let counted = 0;
  for (let i = 0; i < 10; i++) {
    counted = output.countReply(100);
    append(output, new Uint8Array(100));
  }
  assert.equal(counted, 1000);
  for (let i = 0; i < 1000; i++) {
    output.sent(100);
    counted = output.countReply(100);
    append(output, new Uint8Array(100));
    assert.ok(counted >= 1000 && counted <= 2200, `${counted}`);
  }
});
