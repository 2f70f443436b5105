import fc from "fast-check";
import assert from "node:assert/strict";
import { test } from "node:test";
import { LineReader } from "../../../src/control/local/line_reader.ts";

function readAll(chunks: readonly Uint8Array[], maxBytes = 1000): string[] {
  const lines: string[] = [];
  const reader = new LineReader(maxBytes);
  for (const chunk of chunks) reader.push(chunk, (line) => lines.push(line));
  return lines;
}

function split(bytes: Uint8Array, cuts: readonly number[]): Uint8Array[] {
  const edges = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  return edges.slice(1).map((end, i) => bytes.slice(edges[i]!, end));
}

test("line_reader: yields the same lines for every split of the stream", () => {
  const bytes = new TextEncoder().encode(`{"a":1}\n\nßäü€𝄞 two\r\nthree\nunfinished`);
  const expected = [`{"a":1}`, "", "ßäü€𝄞 two\r", "three"];
  for (let cut = 0; cut <= bytes.length; cut++) assert.deepEqual(readAll(split(bytes, [cut])), expected);
  assert.deepEqual(readAll([...bytes].map((byte) => Uint8Array.of(byte))), expected);
});

test("line_reader: any text in any split comes out as it went in", () => {
  const line = fc.string({ unit: "grapheme", maxLength: 40 }).map((text) => text.replaceAll("\n", ""));
  fc.assert(fc.property(fc.array(line), fc.array(fc.nat()), (lines, cuts) => {
    const bytes = new TextEncoder().encode(lines.map((text) => text + "\n").join(""));
    assert.deepEqual(readAll(split(bytes, cuts)), lines);
  }));
});

test("line_reader: keeps no view into the caller's buffer", () => {
  const reader = new LineReader(100);
  const buffer = new TextEncoder().encode("first ");
  const lines: string[] = [];
  reader.push(buffer, (line) => lines.push(line));
  buffer.fill(0x78);
  reader.push(new TextEncoder().encode("half\n"), (line) => lines.push(line));
  assert.deepEqual(lines, ["first half"]);
});

test("line_reader: a line of the limit passes, one byte more is refused before it is whole", () => {
  assert.deepEqual(readAll([new Uint8Array(10).fill(0x61), Uint8Array.of(0x0a)], 10), ["a".repeat(10)]);
  assert.throws(() => readAll([new Uint8Array(6).fill(0x61), new Uint8Array(5).fill(0x61)], 10), RangeError);
  assert.throws(() => readAll([new Uint8Array(11).fill(0x61), Uint8Array.of(0x0a)], 10), RangeError);
});

test("line_reader: refuses what is not UTF-8", () => {
  assert.throws(() => readAll([Uint8Array.of(0xff, 0x0a)]), TypeError);
});
