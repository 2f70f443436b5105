import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { frame, FrameReader } from "../../../src/protocol/dns/mod.ts";

function read(chunks: readonly Uint8Array[]): { readonly messages: number[][]; readonly pending: number } {
  const messages: number[][] = [];
  const reader = new FrameReader((message) => void messages.push([...message]));
  for (const chunk of chunks) reader.push(chunk);
  return { messages, pending: reader.pending };
}

function join(...parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

test("dns framing: the same messages for every cut of the stream into two, three, or single bytes", () => {
  const sent = [[1, 2, 3], [], [4], Array.from({ length: 300 }, (_, i) => i & 0xff)];
  const stream = join(...sent.map((message) => frame(Uint8Array.from(message))));
  for (let cut = 0; cut <= stream.length; cut++) {
    assert.deepEqual(read([stream.subarray(0, cut), stream.subarray(cut)]).messages, sent, `cut at ${cut}`);
  }
  for (let cut = 0; cut < 12; cut++) {
    for (let second = cut; second < 14; second++) {
      assert.deepEqual(
        read([stream.subarray(0, cut), stream.subarray(cut, second), stream.subarray(second)]).messages,
        sent,
      );
    }
  }
  const single = read(Array.from(stream, (byte) => Uint8Array.of(byte)));
  assert.deepEqual(single, { messages: sent, pending: 0 });
});

test("dns framing: the same messages for any split", () => {
  const message = fc.uint8Array({ maxLength: 40 });
  fc.assert(fc.property(fc.array(message), fc.array(fc.nat(50)), (messages, cuts) => {
    const stream = join(...messages.map(frame));
    const chunks: Uint8Array[] = [];
    let at = 0;
    for (const cut of cuts) chunks.push(stream.subarray(at, at += cut));
    chunks.push(stream.subarray(at));
    assert.deepEqual(read(chunks).messages, messages.map((bytes) => [...bytes]));
  }));
});

test("dns framing: a frame that has begun is pending", () => {
  assert.equal(read([Uint8Array.of(0)]).pending, 1);
  assert.equal(read([Uint8Array.of(0, 5, 1, 2)]).pending, 4);
});
