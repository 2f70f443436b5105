/** A whole session in every split: the events and the output must not depend on how the bytes were cut. */
import { test } from "node:test";
import assert from "node:assert/strict";
import fc from "fast-check";
import { ErrorCode } from "../../../src/protocol/http2/mod.ts";
import { Flag, FrameType, PREFACE, Setting } from "../../../src/protocol/http2/constants.ts";
import {
  ascii,
  block,
  concat,
  CONNECT,
  END,
  frame,
  GET,
  headers,
  OK,
  options,
  Peer,
  POST,
  setting,
  SETTINGS_ACK,
} from "./harness.ts";

const server = (): Uint8Array =>
  concat(
    PREFACE,
    frame(FrameType.SETTINGS, 0, 0, setting(Setting.INITIAL_WINDOW_SIZE, 100_000)),
    SETTINGS_ACK,
    frame(FrameType.HEADERS, 0, 1, block(...POST).slice(0, 3)),
    frame(FrameType.CONTINUATION, Flag.END_HEADERS, 1, block(...POST).slice(3)),
    frame(FrameType.DATA, 0, 1, ascii("body of ")),
    headers(3, CONNECT),
    frame(
      FrameType.DATA,
      Flag.PADDED | Flag.END_STREAM,
      1,
      concat(new Uint8Array([5]), ascii("one"), new Uint8Array(5)),
    ),
    frame(FrameType.PING, 0, 0, new Uint8Array(8)),
    frame(FrameType.DATA, 0, 3, ascii("tunnel")),
    frame(FrameType.WINDOW_UPDATE, 0, 3, [0, 0, 1, 0]),
    frame(FrameType.RST_STREAM, 0, 3, [0, 0, 0, 8]),
    headers(5, GET, END),
    frame(FrameType.DATA, Flag.END_STREAM, 7, ascii("idle")),
  );

function run(bytes: Uint8Array, cuts: readonly number[]): { events: string[]; output: Uint8Array; data: string } {
  const peer = new Peer(options("server"));
  peer.on.headers = (stream) => peer.connection.respond(stream, OK, false);
  peer.on.data = (stream, _bytes, _start, _end, endStream) => {
    if (endStream) peer.connection.endStream(stream);
  };
  let from = 0;
  for (const cut of [...cuts, bytes.length]) {
    const chunk = bytes.slice(from, cut);
    peer.receive(chunk);
    chunk.fill(0xee);
    from = cut;
  }
  const output = peer.take();
  assert.equal(peer.pool.outBytes, 0);
  return { events: peer.events, output, data: peer.stream(1).user.data + peer.stream(3).user.data };
}

test("connection: every cut of a session gives the same events and the same output", () => {
  const bytes = server();
  const whole = run(bytes, []);
  assert.equal(whole.data, "body of onetunnel");
  assert.equal(whole.events.at(-1), `failed ${ErrorCode.PROTOCOL_ERROR}`);
  for (let cut = 0; cut < bytes.length; cut++) assert.deepEqual(run(bytes, [cut]), whole, `cut at ${cut}`);
  assert.deepEqual(run(bytes, Array.from({ length: bytes.length }, (_, i) => i)), whole);
  fc.assert(fc.property(fc.array(fc.nat({ max: bytes.length }), { maxLength: 8 }), (cuts) => {
    assert.deepEqual(run(bytes, cuts.sort((a, b) => a - b)), whole);
  }));
});
