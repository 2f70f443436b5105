/** Fuzz targets of the DNS codec: messages, and TCP's framing. */
import assert from "node:assert/strict";
import { decodeMessage, encodeMessage, frame, FrameReader } from "../../../src/protocol/dns/mod.ts";
import type { Random } from "../../support/fuzz.ts";

/** What is read is written, and read again as the same; within a limit it is still readable. */
function fuzzMessage(input: Uint8Array, random: Random): void {
  const message = decodeMessage(input);
  if (message === undefined) return;
  for (const { name } of [...message.questions, ...message.answers]) assert.ok(name.length <= 4 * 255);
  const encoded = encodeMessage(message);
  const again = decodeMessage(encoded);
  assert.notEqual(again, undefined);
  // A message whose names were written out may be longer than one can be: then the rest is cut, and says so.
  if (!again!.truncated || message.truncated) {
    assert.deepEqual({ ...again, additionals: [] }, { ...message, additionals: [] });
  }
  const questions = encodeMessage({ ...message, answers: [], authorities: [], additionals: [] }).length;
  const limit = questions + random.below(1024);
  const cut = encodeMessage(message, limit);
  assert.ok(cut.length <= limit);
  assert.notEqual(decodeMessage(cut), undefined);
}

/** The same messages whole and in pieces. */
function fuzzFrames(input: Uint8Array, random: Random): void {
  const whole: Uint8Array[] = [];
  new FrameReader((message) => void whole.push(message.slice())).push(input);
  const pieces: Uint8Array[] = [];
  const reader = new FrameReader((message) => void pieces.push(message.slice()));
  for (let at = 0; at < input.length;) {
    const end = at + 1 + random.below(16);
    // Like a read buffer: the piece's memory is used again.
    const piece = input.slice(at, end);
    reader.push(piece);
    piece.fill(0xee);
    at = end;
  }
  assert.deepEqual(pieces, whole);
  const taken = whole.reduce((sum, message) => sum + frame(message).length, 0);
  assert.equal(reader.pending, input.length - taken);
}

export const targets = [
  { name: "dns message", corpusDir: "tests/corpus/dns_message", target: fuzzMessage, maxBytes: 2048 },
  { name: "dns frames", corpusDir: "tests/corpus/dns_frames", target: fuzzFrames, maxBytes: 512 },
];
