import { test } from "node:test";
import assert from "node:assert/strict";
import fc from "fast-check";
import { Flag, FrameType, PREFACE } from "../../../src/protocol/http2/constants.ts";
import { FrameReader, type FrameSink, Payload } from "../../../src/protocol/http2/frame_reader.ts";
import { concat, CountingPool, frame, latin1 } from "./harness.ts";

/** Records what the reader says; DATA pieces are joined, since their cuts depend on the chunks. */
class Recorder implements FrameSink {
  readonly lines: string[] = [];
  #data = "";
  constructor(readonly use: (type: number) => number) {}

  begin(type: number, flags: number, streamId: number, length: number): number {
    this.lines.push(`begin ${type} ${flags} ${streamId} ${length}`);
    return this.use(type);
  }
  body(dataBytes: number, paddingBytes: number): void {
    this.lines.push(`body ${dataBytes} ${paddingBytes}`);
  }
  piece(bytes: Uint8Array, start: number, end: number, last: boolean): void {
    this.#data += latin1(bytes.subarray(start, end));
    if (!last) return;
    this.lines.push(`data ${this.#data}`);
    this.#data = "";
  }
  payload(bytes: Uint8Array, start: number, end: number): void {
    this.lines.push(`payload ${latin1(bytes.subarray(start, end))}`);
  }
  badPreface(): void {
    this.lines.push("bad preface");
  }
  badPadding(): void {
    this.lines.push("bad padding");
  }
}

const byType = (type: number): number =>
  type === FrameType.DATA ? Payload.PIECES : type < 0xa ? Payload.WHOLE : Payload.SKIP;

function read(bytes: Uint8Array, cuts: readonly number[], preface = false): { lines: string[]; pool: CountingPool } {
  const pool = new CountingPool();
  const sink = new Recorder(byType);
  const reader = new FrameReader(sink, pool, preface);
  let from = 0;
  for (const cut of [...cuts, bytes.length]) {
    // Each chunk is a copy that is wiped afterwards: a view kept too long would show.
    const chunk = bytes.slice(from, cut);
    reader.read(chunk, 0, chunk.length);
    chunk.fill(0xee);
    from = cut;
  }
  assert.equal(reader.midFrame, false);
  assert.equal(pool.outBytes, 0, "buffers came back");
  reader.close();
  return { lines: sink.lines, pool };
}

const anyFrame = fc.record({
  type: fc.integer({ min: 0, max: 12 }),
  flags: fc.constantFrom(0, 1, 4, 5, 0x20, 0x24),
  streamId: fc.integer({ min: 0, max: 0x7fffffff }),
  payload: fc.oneof(fc.uint8Array({ maxLength: 30 }), fc.uint8Array({ minLength: 250, maxLength: 700 })),
}).map(({ type, flags, streamId, payload }) => frame(type, flags, streamId, payload));

const paddedData = fc.record({
  padding: fc.nat({ max: 40 }),
  data: fc.uint8Array({ maxLength: 40 }),
}).map(({ padding, data }) =>
  frame(FrameType.DATA, Flag.PADDED, 1, concat(new Uint8Array([padding]), data, new Uint8Array(padding)))
);

test("frame_reader: yields the same frames for every split of the stream", () => {
  fc.assert(
    fc.property(fc.array(fc.oneof(anyFrame, paddedData), { minLength: 1, maxLength: 6 }), fc.infiniteStream(fc.nat()), (
      frames,
      random,
    ) => {
      const bytes = concat(PREFACE, ...frames);
      const whole = read(bytes, [], true);
      assert.equal(whole.lines.filter((line) => line.startsWith("begin")).length, frames.length);
      const everyByte = Array.from({ length: bytes.length }, (_, i) => i);
      const some = [...random.take(5)].map((cut) => cut % bytes.length).sort((a, b) => a - b);
      for (const cuts of [everyByte, some]) {
        const split = read(bytes, cuts, true);
        assert.deepEqual(split.lines, whole.lines);
        assert.equal(split.pool.outBytes, 0, "buffers came back");
      }
    }),
  );
});

test("frame_reader: every single cut of a short stream gives the same frames", () => {
  const bytes = concat(
    PREFACE,
    frame(FrameType.SETTINGS, 0, 0, [0, 4, 0, 1, 0, 0]),
    frame(FrameType.DATA, Flag.PADDED | Flag.END_STREAM, 1, [3, 104, 105, 0, 0, 0]),
    frame(FrameType.DATA, Flag.PADDED, 1, [2, 0, 0]),
    frame(FrameType.DATA, 0, 1, []),
    frame(0xee, 0, 1, [1, 2, 3]),
    frame(FrameType.PING, 0, 0, [1, 2, 3, 4, 5, 6, 7, 8]),
  );
  const whole = read(bytes, [], true).lines;
  assert.deepEqual(whole, [
    "begin 4 0 0 6",
    "payload \0\x04\0\x01\0\0",
    "begin 0 9 1 6",
    "body 2 4",
    "data hi",
    "begin 0 8 1 3",
    "body 0 3",
    "data ",
    "begin 0 0 1 0",
    "body 0 0",
    "data ",
    "begin 238 0 1 3",
    "begin 6 0 0 8",
    "payload \x01\x02\x03\x04\x05\x06\x07\x08",
  ]);
  for (let cut = 0; cut < bytes.length; cut++) assert.deepEqual(read(bytes, [cut], true).lines, whole, `cut at ${cut}`);
});

test("frame_reader: a DATA frame of 1 MiB goes out as it comes, and nothing of it is held", () => {
  const pool = new CountingPool();
  const sizes: number[] = [];
  const sink = new Recorder(byType);
  sink.piece = (_bytes, start, end) => void sizes.push(end - start);
  const reader = new FrameReader(sink, pool, false);
  const bytes = frame(FrameType.DATA, 0, 1, new Uint8Array(1 << 20));
  for (let pos = 0; pos < bytes.length; pos += 65_536) {
    reader.read(bytes, pos, Math.min(pos + 65_536, bytes.length));
    assert.equal(pool.peakBytes, 0);
  }
  assert.equal(sizes.reduce((sum, size) => sum + size, 0), 1 << 20);
  assert.equal(sizes.length, 17);
});

test("frame_reader: refuses bytes that are not the preface at the first wrong one", () => {
  const sink = new Recorder(byType);
  const reader = new FrameReader(sink, new CountingPool(), true);
  const request = new TextEncoder().encode("PRI / HTTP/1.1\r\n\r\n");
  reader.read(request, 0, 4);
  assert.deepEqual(sink.lines, []);
  reader.read(request, 4, 5);
  assert.deepEqual(sink.lines, ["bad preface"]);
});

test("frame_reader: says when padding does not fit its frame", () => {
  for (const payload of [[], [1], [4, 0, 0, 0]]) {
    const sink = new Recorder(byType);
    const reader = new FrameReader(sink, new CountingPool(), false);
    sink.badPadding = () => {
      sink.lines.push("bad padding");
      reader.stopped = true;
    };
    const bytes = frame(FrameType.DATA, Flag.PADDED, 1, payload);
    reader.read(bytes, 0, bytes.length);
    assert.equal(sink.lines.at(-1), "bad padding");
  }
});

test("frame_reader: reads nothing more once it is stopped", () => {
  const sink = new Recorder(byType);
  const reader = new FrameReader(sink, new CountingPool(), false);
  sink.payload = () => void (reader.stopped = true);
  const bytes = concat(frame(FrameType.PING, 0, 0, new Uint8Array(8)), frame(FrameType.PING, 0, 0, new Uint8Array(8)));
  reader.read(bytes, 0, bytes.length);
  assert.equal(sink.lines.length, 1);
});
