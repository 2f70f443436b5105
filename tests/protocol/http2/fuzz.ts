/**
 * Fuzz targets of HTTP/2: the connection in both roles, the HPACK decoder, and Huffman coding. Run directly:
 * `deno run -A tests/protocol/http2/fuzz.ts [seconds a target] [seed]`.
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { Flag, FrameType, MAX_FRAME_BYTES } from "../../../src/protocol/http2/constants.ts";
import { FieldKind } from "../../../src/protocol/http2/field_kind.ts";
import { HpackDecoder } from "../../../src/protocol/http2/hpack_decoder.ts";
import { HpackEncoder } from "../../../src/protocol/http2/hpack_encoder.ts";
import {
  huffmanDecode,
  huffmanDecodedBound,
  huffmanEncode,
  huffmanEncodedLength,
} from "../../../src/protocol/http2/huffman.ts";
import { Http2Connection, type Http2Stream } from "../../../src/protocol/http2/mod.ts";
import { type FuzzReport, type FuzzTask, type Random, runFuzz } from "../../support/fuzz.ts";
import { CONNECT, CountingPool, GET, latin1, OK, options, parseFrames, POST } from "./harness.ts";

const CORPUS = join(dirname(fileURLToPath(import.meta.url)), "../../corpus");
/** Everything a connection may have in buffers here: output cap and backlog, and a header block. */
const MAX_HELD_BYTES = 4 << 20;
const MAX_LIST_BYTES = 4096;

/** Registered with `deno task fuzz`. */
export const targets: readonly Omit<FuzzTask, "seconds" | "seed">[] = [
  {
    name: "http2 connection",
    corpusDir: join(CORPUS, "http2"),
    target: (bytes, random) => fuzzConnection(bytes, random),
  },
  { name: "hpack decoder", corpusDir: join(CORPUS, "hpack"), target: (bytes, random) => fuzzHpack(bytes, random) },
  { name: "huffman", corpusDir: join(CORPUS, "hpack"), target: (bytes) => fuzzHuffman(bytes) },
];

export const TARGETS: readonly string[] = targets.map((target) => target.name);

/** Runs the targets for `seconds` each. Throws on the first invariant that breaks. */
export function fuzz(seconds: number, seed: number, names: readonly string[] = TARGETS): Map<string, FuzzReport> {
  const reports = new Map<string, FuzzReport>();
  for (const target of targets) {
    if (names.includes(target.name)) reports.set(target.name, runFuzz({ ...target, seconds, seed }));
  }
  return reports;
}

interface Life {
  ended: boolean;
  closed: boolean;
}

/** One connection, its bytes in random pieces, with an owner that acts at random and checks the order of events. */
class Owner {
  readonly connection: Http2Connection<Life>;
  readonly pool = new CountingPool();
  readonly #random: Random;
  readonly #streams: Http2Stream<Life>[] = [];
  #failed = false;
  #nowMs = 0;

  constructor(random: Random, role: "client" | "server") {
    this.#random = random;
    const known = (stream: Http2Stream<Life>): Life => {
      assert.ok(stream.user !== undefined, "an event for a stream that was not announced");
      assert.ok(!stream.user.closed, "an event after closed");
      assert.ok(!this.#failed, "an event after failed");
      return stream.user;
    };
    this.connection = new Http2Connection<Life>(
      options(role, {
        bufferPool: this.pool,
        maxHeaderListBytes: MAX_LIST_BYTES,
        maxConcurrentStreams: 20,
        initialWindowBytes: random.oneIn(2) ? 65_535 : 1000,
        maxOutputBytes: 32_768,
        pingIntervalMs: 50,
        settingsTimeoutMs: 500,
        zeroWindowTimeoutMs: random.oneIn(2) ? 100 : 0,
        enableConnectProtocol: random.oneIn(2),
        flood: random.oneIn(4) ? { overheadBurst: 5, resetBurst: 3 } : {},
      }),
      {
        headers: (stream, fields, endStream) => {
          if (stream.user === undefined) {
            assert.equal(role, "server");
            stream.user = { ended: false, closed: false };
            this.#streams.push(stream);
          }
          this.#checkFields(fields);
          this.#end(known(stream), endStream);
          this.#act(stream);
        },
        trailers: (stream, fields) => {
          this.#checkFields(fields);
          this.#end(known(stream), true);
          this.#act(stream);
        },
        data: (stream, bytes, start, end, endStream) => {
          assert.ok(start <= end && end <= bytes.length && (start < end || endStream));
          this.#end(known(stream), endStream);
          if (random.oneIn(2)) stream.consume(end - start);
          this.#act(stream);
        },
        writable: (stream) => {
          known(stream);
          assert.ok(!stream.localEnded, "writable after the end of our half");
          this.#act(stream);
        },
        reset: (stream) => void known(stream),
        closed: (stream) => {
          known(stream).closed = true;
          assert.ok(stream.isClosed);
        },
        goaway: () => {},
        settings: () => {},
        failed: () => {
          assert.ok(!this.#failed, "failed twice");
          assert.ok(this.#streams.every((stream) => stream.user.closed), "failed with a stream that was not closed");
          this.#failed = true;
        },
      },
      0,
    );
    if (role === "server") return;
    for (const [request, end] of [[GET, true], [CONNECT, false], [POST, false]] as [string[], boolean][]) {
      const stream = this.connection.openStream(request, end, { ended: false, closed: false });
      if (stream !== undefined) this.#streams.push(stream);
    }
  }

  #end(life: Life, endStream: boolean): void {
    assert.ok(!life.ended, "an event after the end of the peer's half");
    life.ended = endStream;
  }

  #checkFields(fields: readonly string[]): void {
    assert.equal(fields.length % 2, 0);
    let bytes = 0;
    for (const text of fields) bytes += text.length + 16;
    assert.ok(bytes <= MAX_LIST_BYTES, "a list above the limit");
    for (let i = 0; i < fields.length; i += 2) {
      assert.ok(/^:?[a-z0-9!#$%&'*+.^_`|~-]+$/.test(fields[i]), `name ${JSON.stringify(fields[i])}`);
      assert.ok(!/[\0\r\n]/.test(fields[i + 1]), "a value with a line break");
    }
  }

  /** Something an owner might do, right inside an event. */
  #act(stream: Http2Stream<Life>): void {
    const { connection } = this;
    const answered = (stream.flags & 8) !== 0;
    switch (this.#random.below(12)) {
      case 0:
        return connection.resetStream(stream, 8);
      case 1:
      case 2:
        if (!answered) connection.respond(stream, OK, this.#random.oneIn(3));
        return;
      case 3:
        if (answered) connection.sendTrailers(stream, ["x-end", "1"]);
        return;
      case 4:
        if (answered) connection.endStream(stream);
        return;
      case 5:
      case 6:
      case 7:
        if (answered) connection.sendData(stream, BODY, 0, this.#random.below(BODY.length), this.#random.oneIn(4));
        return;
      case 8:
        if (!answered) connection.informational(stream, [":status", "103"]);
        return;
      case 9:
        if (this.#random.oneIn(20)) connection.drain();
        return;
      case 10:
        if (this.#random.oneIn(20)) connection.goaway(0, "bye");
        return;
    }
  }

  feed(bytes: Uint8Array): void {
    const random = this.#random;
    const sent: Uint8Array[] = [];
    for (let pos = 0; pos < bytes.length;) {
      const end = Math.min(bytes.length, pos + 1 + random.below(random.oneIn(2) ? 4 : 2000));
      // A copy that is wiped afterwards: a view that was kept would show.
      const chunk = bytes.slice(pos, end);
      this.connection.receive(chunk, 0, chunk.length, this.#nowMs);
      chunk.fill(0xaa);
      pos = end;
      if (random.oneIn(4)) this.#send(sent);
      if (random.oneIn(8)) this.connection.tick(this.#nowMs += random.below(40));
      assert.ok(this.pool.outBytes < MAX_HELD_BYTES, `${this.pool.outBytes} bytes held`);
    }
    this.connection.receivedEof();
    this.#send(sent, true);
    assert.ok(this.#streams.every((stream) => stream.user.closed), "a stream was never closed");
    assert.equal(this.connection.openStreams, 0);
    assert.equal(this.pool.outBytes, 0, "buffers never came back");
    checkOutput(Buffer.concat(sent));
  }

  #send(sent: Uint8Array[], all = this.#random.oneIn(3)): void {
    const { output } = this.connection;
    const queued = output.end - output.start;
    const taken = all ? queued : this.#random.below(queued + 1);
    sent.push(output.bytes.slice(output.start, output.start + taken));
    this.connection.sent(taken);
  }
}

const BODY = new Uint8Array(40_000);
const FIXED_SIZES = new Map<number, number>([
  [FrameType.RST_STREAM, 4],
  [FrameType.PING, 8],
  [FrameType.WINDOW_UPDATE, 4],
]);

/** What we sent is whole frames of legal sizes, header blocks decode, and nothing follows a stream's end. */
function checkOutput(bytes: Uint8Array): void {
  const decoder = new HpackDecoder();
  const ended = new Set<number>();
  for (const { type, flags, streamId, payload } of parseFrames(new Uint8Array(bytes))) {
    assert.ok(payload.length <= MAX_FRAME_BYTES && type <= FrameType.CONTINUATION);
    const size = FIXED_SIZES.get(type);
    if (size !== undefined) assert.equal(payload.length, size);
    if (type === FrameType.WINDOW_UPDATE) assert.ok(payload.some((byte) => byte !== 0), "an update of 0");
    if (type === FrameType.HEADERS) {
      assert.ok((flags & Flag.END_HEADERS) !== 0);
      assert.ok(decoder.decode(payload, 0, payload.length, { field: () => {} }), decoder.error);
    }
    if (type !== FrameType.HEADERS && type !== FrameType.DATA) continue;
    assert.ok(!ended.has(streamId), "a frame after the end of its stream");
    if ((flags & Flag.END_STREAM) !== 0) ended.add(streamId);
  }
}

function fuzzConnection(bytes: Uint8Array, random: Random): void {
  new Owner(random, random.oneIn(3) ? "client" : "server").feed(bytes);
}

/** Blocks of one connection: never throws, the table keeps its limit, and what decodes survives our encoder. */
function fuzzHpack(bytes: Uint8Array, random: Random): void {
  const decoder = new HpackDecoder();
  const encoder = new HpackEncoder();
  const mirror = new HpackDecoder();
  for (let pos = 0; pos < bytes.length;) {
    const end = Math.min(bytes.length, pos + 1 + random.below(bytes.length));
    const fields: string[] = [];
    const kinds: number[] = [];
    const good = decoder.decode(bytes, pos, end, {
      field(name, value, kind) {
        fields.push(name, value);
        kinds.push(kind);
      },
    });
    pos = end;
    assert.ok(decoder.tableBytes <= 4096);
    assert.ok(kinds.every((kind) => kind >= FieldKind.REGULAR && kind <= FieldKind.MALFORMED));
    if (random.oneIn(8)) encoder.setPeerLimit(random.below(5000));
    const out = new Uint8Array(encoder.bound(fields));
    const length = encoder.encode(fields, out, 0);
    assert.ok(length <= out.length);
    const again: string[] = [];
    assert.ok(mirror.decode(out, 0, length, { field: (name, value) => void again.push(name, value) }), mirror.error);
    assert.deepEqual(again, fields);
    assert.equal(mirror.tableBytes, encoder.tableBytes);
    if (!good) return;
  }
}

function fuzzHuffman(bytes: Uint8Array): void {
  const decoded = new Uint8Array(huffmanDecodedBound(bytes.length) + 1).fill(0x55);
  const length = huffmanDecode(bytes, 0, bytes.length, decoded);
  assert.ok(length >= -1 && length < decoded.length);
  assert.equal(decoded[decoded.length - 1], 0x55, "wrote past its bound");
  // Whatever decodes is the only coding of its text; and any text comes back.
  if (length >= 0) assert.deepEqual(encode(latin1(decoded.subarray(0, length))), bytes);
  const text = latin1(bytes);
  const coded = encode(text);
  const back = new Uint8Array(huffmanDecodedBound(coded.length));
  assert.equal(latin1(back.subarray(0, huffmanDecode(coded, 0, coded.length, back))), text);
}

function encode(text: string): Uint8Array {
  const out = new Uint8Array(huffmanEncodedLength(text));
  assert.equal(huffmanEncode(text, out, 0), out.length);
  return out;
}

if (import.meta.main) {
  const seconds = Number(process.argv[2] ?? 60);
  const seed = Number(process.argv[3] ?? Date.now() % 0x1_0000_0000);
  process.stdout.write(`seed ${seed}, ${seconds} s a target\n`);
  for (const [name, { runs, corpusFiles }] of fuzz(seconds, seed)) {
    process.stdout.write(`${name}: ${runs} runs from ${corpusFiles} seeds\n`);
  }
}
