import { test } from "node:test";
import assert from "node:assert/strict";
import fc from "fast-check";
import { HpackDecoder } from "../../../src/protocol/http2/hpack_decoder.ts";
import { HpackEncoder } from "../../../src/protocol/http2/hpack_encoder.ts";
import { decodeBlock, latin1 } from "./harness.ts";

function encode(encoder: HpackEncoder, fields: readonly string[]): Uint8Array {
  const bound = encoder.bound(fields);
  const out = new Uint8Array(bound);
  const end = encoder.encode(fields, out, 0);
  assert.ok(end <= bound, "the bound holds");
  return out.subarray(0, end);
}

const NAMES = [":path", ":method", "cookie", "x-a", "x-b", "baggage", "user-agent", "authorization", "te", ":status"];
const field = fc.tuple(
  fc.oneof(fc.constantFrom(...NAMES), fc.stringMatching(/^[a-z-]{1,12}$/)),
  fc.oneof(
    fc.constantFrom("a", "200", "GET", "/", "x".repeat(900)),
    fc.uint8Array({ maxLength: 60 }).map((bytes) => latin1(bytes)),
  ),
);
const list = fc.array(field, { maxLength: 12 }).map((fields) => fields.flat());

test("hpack_encoder: a decoder gets back any lists, through table changes by its owner", () => {
  const step = fc.oneof(
    list,
    fc.integer({ min: 0, max: 8192 }),
  );
  fc.assert(fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
    const encoder = new HpackEncoder();
    const decoder = new HpackDecoder();
    for (const next of steps) {
      if (typeof next === "number") {
        encoder.setPeerLimit(next);
      } else {
        assert.deepEqual(decodeBlock(decoder, encode(encoder, next)), next);
        assert.equal(decoder.tableBytes, encoder.tableBytes);
        assert.ok(encoder.tableBytes <= 4096);
      }
    }
  }));
});

test("hpack_encoder: fields that repeat cost a byte each", () => {
  const encoder = new HpackEncoder();
  const fields = [":method", "CONNECT", ":authority", "10.0.0.1:8080", "baggage", "k8s.cluster.name=a"];
  const first = encode(encoder, fields);
  assert.ok(first.length > 30);
  assert.equal(encode(encoder, fields).length, 3);
  assert.equal(encode(encoder, [":method", "GET", ":scheme", "https", ":path", "/", ":status", "404"]).length, 4);
});

test("hpack_encoder: what goes into the table is Huffman coded, what does not is raw", () => {
  const text = "aaaaaaaaaaaaaaaaaaaaaaaa";
  assert.equal(encode(new HpackEncoder(), ["x-kept", text]).length, 1 + 1 + 5 + 1 + 15);
  assert.equal(encode(new HpackEncoder(), ["traceparent", text]).length, 1 + 1 + 11 + 1 + text.length);
});

test("hpack_encoder: secrets are never indexed, on the wire and in the table", () => {
  for (const name of ["authorization", "proxy-authorization", "cookie", "set-cookie"]) {
    const encoder = new HpackEncoder();
    const never: boolean[] = [];
    for (let i = 0; i < 2; i++) {
      const bytes = encode(encoder, [name, "secret"]);
      new HpackDecoder().decode(bytes, 0, bytes.length, { field: (_n, _v, _k, flag) => void never.push(flag) });
    }
    assert.deepEqual(never, [true, true], name);
    assert.equal(encoder.tableBytes, 0);
  }
});

test("hpack_encoder: names marked as sensitive are never indexed; too many of them end indexing", () => {
  const encoder = new HpackEncoder();
  encoder.markSensitive("x-key");
  encode(encoder, ["x-key", "1"]);
  assert.equal(encoder.tableBytes, 0);
  encode(encoder, ["x-other", "1"]);
  assert.ok(encoder.tableBytes > 0);
  const kept = encoder.tableBytes;
  for (let i = 0; i < 64; i++) encoder.markSensitive(`x-${i}`);
  encode(encoder, ["x-new", "1"]);
  assert.equal(encoder.tableBytes, kept);
});

test("hpack_encoder: announces the smallest and the last table size of its owner's changes", () => {
  const encoder = new HpackEncoder();
  encode(encoder, ["x-a", "b"]);
  encoder.setPeerLimit(100);
  encoder.setPeerLimit(0);
  encoder.setPeerLimit(4096);
  assert.equal(encoder.tableBytes, 0);
  assert.deepEqual([...encode(encoder, [":method", "GET"])], [0x20, 0x3f, 0xe1, 0x1f, 0x82]);
  assert.deepEqual([...encode(encoder, [":method", "GET"])], [0x82]);
});

test("hpack_encoder: a field whose values never repeat stops pushing others out", () => {
  const encoder = new HpackEncoder();
  const decoder = new HpackDecoder();
  const constant = ["x-constant", "the same every time"];
  for (let i = 0; i < 500; i++) {
    const fields = [...constant, "x-unique", `value ${i}`];
    assert.deepEqual(decodeBlock(decoder, encode(encoder, fields)), fields);
  }
  assert.equal(encode(encoder, constant).length, 1);
  assert.ok(encoder.tableBytes < 2000);
});

test("hpack_encoder: a name is taken from an entry that is still there", () => {
  const encoder = new HpackEncoder();
  const decoder = new HpackDecoder();
  // Four of these fill the table, so that the first is gone when the sixth comes.
  for (let i = 0; i < 12; i++) {
    const fields = ["x-own-name", String.fromCharCode(0x61 + i).repeat(950)];
    const bytes = encode(encoder, fields);
    assert.ok(i === 0 || bytes[0] !== 0x40, "the name is not spelled out again");
    assert.deepEqual(decodeBlock(decoder, bytes), fields);
  }
});

test("hpack_encoder: a huge value does not empty the table", () => {
  const encoder = new HpackEncoder();
  encode(encoder, ["x-a", "b"]);
  const before = encoder.tableBytes;
  encode(encoder, ["x-huge", "y".repeat(3000)]);
  assert.equal(encoder.tableBytes, before);
});
