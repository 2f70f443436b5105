import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { jsonPieces, LazyArray, LazyObject, sortedInSlices, TICK } from "../../src/admin/json_stream.ts";
import { inSlices } from "../../src/admin/slices.ts";

/** A value and the same with lazy parts in place of lists and objects, which is what a dump is made of. */
function lazily(value: unknown, depth = 0): unknown {
  if (depth > 2 || value === null || typeof value !== "object") return value;
  if (Array.isArray(value)) {
    return new LazyArray(function* () {
      for (const item of value) {
        yield TICK;
        yield lazily(item, depth + 1);
      }
    });
  }
  const entries = Object.entries(value);
  return new LazyObject(function* () {
    for (const [key, item] of entries) {
      yield [key, lazily(item, depth + 1)] as const;
      yield TICK;
    }
  });
}

test("json_stream: the pieces together are what JSON.stringify writes, lazy or not", () => {
  fc.assert(fc.property(fc.jsonValue(), (value) => {
    const expected = JSON.stringify(value, null, 2);
    assert.equal([...jsonPieces(value)].join(""), expected);
    assert.equal([...jsonPieces(lazily(value))].join(""), expected);
    assert.equal(JSON.stringify(lazily(value), null, 2), expected);
  }));
});

test("json_stream: lazy parts inside of plain ones, empty ones and undefined fields", () => {
  const plain = { a: [1, { b: 2 }], c: {}, d: [], e: { f: { g: ["x"] } } };
  const lazy = {
    a: new LazyArray(() => [1, { b: 2 }]),
    c: new LazyObject(() => []),
    d: new LazyArray(() => []),
    absent: undefined,
    e: { f: { g: new LazyArray(() => ["x"]) } },
  };
  assert.equal([...jsonPieces(lazy)].join(""), JSON.stringify(plain, null, 2));
});

test("json_stream: sorting in slices sorts as sorting does, stably, and never works long without a tick", () => {
  fc.assert(fc.property(fc.array(fc.tuple(fc.nat(50), fc.nat()), { maxLength: 3000 }), (items) => {
    const compare = (a: [number, number], b: [number, number]) => a[0] - b[0];
    const sorted = [...sortedInSlices(items, compare)].filter((item) => item !== TICK);
    assert.deepEqual(sorted, [...items].sort(compare));
  }));
  const many = Array.from({ length: 20_000 }, (_, i) => (i * 7919) % 20_000);
  let comparisons = 0;
  let worst = 0;
  for (
    const item of sortedInSlices(many, (a, b) => {
      comparisons++;
      return a - b;
    })
  ) {
    if (item !== TICK) break;
    worst = Math.max(worst, comparisons);
    comparisons = 0;
  }
  assert.ok(worst <= 6000, `${worst} comparisons in one go`);
});

test("json_stream: pauses whenever a slice is over", async () => {
  let nowMs = 0;
  let pauses = 0;
  const pieces = function* () {
    for (let i = 0; i < 10; i++) {
      nowMs++;
      yield "x";
    }
  };
  const chunks: string[] = [];
  const settings = { sliceMs: 2, nowMs: () => nowMs, pause: () => Promise.resolve(void pauses++) };
  for await (const chunk of inSlices(pieces(), settings)) chunks.push(chunk);
  assert.equal(chunks.join(""), "x".repeat(10));
  assert.equal(pauses, 5);
});

test("json_stream: a long text comes in chunks", async () => {
  const settings = { sliceMs: 1e9, nowMs: () => 0, pause: () => Promise.resolve() };
  const sizes: number[] = [];
  const pieces = Array.from({ length: 300 }, () => "x".repeat(1000));
  for await (const chunk of inSlices(pieces, settings)) sizes.push(chunk.length);
  assert.equal(sizes.reduce((a, b) => a + b), 300_000);
  assert.ok(sizes.length >= 4 && Math.max(...sizes) < 70_000, String(sizes));
});
