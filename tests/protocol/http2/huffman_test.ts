import { test } from "node:test";
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import fc from "fast-check";
import {
  huffmanDecode,
  huffmanDecodedBound,
  huffmanEncode,
  huffmanEncodedLength,
} from "../../../src/protocol/http2/huffman.ts";
import { latin1 } from "./harness.ts";

function encode(text: string): Uint8Array {
  const out = new Uint8Array(huffmanEncodedLength(text));
  assert.equal(huffmanEncode(text, out, 0), out.length);
  return out;
}

/** The decoded text, or undefined when the code is refused. */
function decode(bytes: Uint8Array): string | undefined {
  const out = new Uint8Array(huffmanDecodedBound(bytes.length));
  const length = huffmanDecode(bytes, 0, bytes.length, out);
  assert.ok(length <= out.length);
  return length < 0 ? undefined : latin1(out.subarray(0, length));
}

const hex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, "hex"));

test("huffman: codes the strings of RFC 7541 appendix C", () => {
  const vectors: [string, string][] = [
    ["www.example.com", "f1e3c2e5f23a6ba0ab90f4ff"],
    ["no-cache", "a8eb10649cbf"],
    ["custom-key", "25a849e95ba97d7f"],
    ["custom-value", "25a849e95bb8e8b4bf"],
    ["302", "6402"],
    ["private", "aec3771a4b"],
    ["Mon, 21 Oct 2013 20:13:21 GMT", "d07abe941054d444a8200595040b8166e082a62d1bff"],
    ["https://www.example.com", "9d29ad171863c78f0b97c8e9ae82ae43d3"],
    ["gzip", "9bd9ab"],
  ];
  for (const [text, coded] of vectors) {
    assert.deepEqual(encode(text), hex(coded), text);
    assert.equal(decode(hex(coded)), text);
  }
});

test("huffman: every byte has the code that its neighbours leave room for", () => {
  for (let byte = 0; byte < 256; byte++) {
    for (const text of [String.fromCharCode(byte), `a${String.fromCharCode(byte)}~`]) {
      assert.equal(decode(encode(text)), text);
    }
  }
});

test("huffman: decodes what it encodes, for any bytes", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
    const text = latin1(bytes);
    assert.equal(decode(encode(text)), text);
  }));
});

test("huffman: whatever decodes is the only coding of its text", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
      const text = decode(bytes);
      if (text !== undefined) assert.deepEqual(encode(text), bytes);
    }),
    { numRuns: 2000 },
  );
});

test("huffman: refuses EOS, padding of 8 bits or more, and padding that is not ones", () => {
  assert.equal(decode(hex("ffffffff")), undefined, "EOS");
  assert.equal(decode(hex("1fffffffffff")), undefined, "EOS inside");
  assert.equal(decode(hex("1fff")), undefined, "a whole byte of padding");
  assert.equal(decode(hex("ff")), undefined, "nothing but padding, 8 bits of it");
  assert.equal(decode(hex("18")), undefined, "zeros as padding");
  assert.equal(decode(hex("1f")), "a");
  assert.equal(decode(hex("")), "");
  assert.equal(decode(hex("fffffe")), undefined, "a long code cut short");
});
