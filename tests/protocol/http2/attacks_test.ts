/**
 * Known attacks on HTTP/2, each against a bound: the connection ends with ENHANCE_YOUR_CALM, or goes on, but what
 * it holds stays small. And the traffic of busy honest peers, which must not be mistaken for them.
 */
import { test } from "node:test";
import assert from "node:assert/strict";
import { Flag, FrameType, Setting } from "../../../src/protocol/http2/constants.ts";
import {
  block,
  concat,
  CONNECT,
  describe,
  END,
  frame,
  GET,
  headers,
  OK,
  openClient,
  openServer,
  type Peer,
  POST,
  setting,
  u32,
} from "./harness.ts";

const CALM = 11;
/** What a connection under attack may have in buffers: its soft output cap, its replies and a header block. */
const BOUND_BYTES = 512 * 1024;

/**
 * Sends `make(i)` up to `most` times, one per call, or until the connection fails; returns how many were taken. Unless
 * `reads`, the peer never takes what is sent to it.
 */
function flood(peer: Peer, most: number, make: (i: number) => Uint8Array, reads = true): number {
  let taken = 0;
  while (taken < most && peer.connection.failedWith < 0) {
    peer.receive(make(taken++));
    if (reads) peer.take();
    peer.events.length = 0;
    peer.streams.clear();
    assert.ok(peer.pool.outBytes < BOUND_BYTES, `${peer.pool.outBytes} bytes after ${taken}`);
  }
  return taken;
}

function assertCalmed(peer: Peer, taken: number, atMost: number): void {
  assert.equal(peer.connection.failedWith, CALM, `not stopped after ${taken}`);
  assert.ok(taken <= atMost, `stopped only after ${taken}`);
  assert.equal(peer.connection.openStreams, 0);
}

const reset = (id: number): Uint8Array => frame(FrameType.RST_STREAM, 0, id, u32(8));

test("attacks: rapid reset (CVE-2023-44487) ends after a thousand streams", () => {
  const server = openServer();
  const taken = flood(server, 100_000, (i) => concat(headers(2 * i + 1, CONNECT), reset(2 * i + 1)));
  assertCalmed(server, taken, 1001);
});

test("attacks: making the server reset streams (CVE-2025-8671) ends after a thousand, by any of the ways", () => {
  const provocations: [string, (id: number) => Uint8Array][] = [
    ["WINDOW_UPDATE of 0", (id) => concat(headers(id, POST), frame(FrameType.WINDOW_UPDATE, 0, id, u32(0)))],
    ["window overflow", (id) => concat(headers(id, POST), frame(FrameType.WINDOW_UPDATE, 0, id, u32(0x7fff_ffff)))],
    ["DATA after the end", (id) => concat(headers(id, GET, END), frame(FrameType.DATA, 0, id, [1]))],
    ["HEADERS after the end", (id) => concat(headers(id, GET, END), headers(id, GET, END))],
    ["a PRIORITY of 4 bytes", (id) => concat(headers(id, POST), frame(FrameType.PRIORITY, 0, id, [0, 0, 0, 0]))],
    ["a stream on itself", (id) => concat(headers(id, POST), frame(FrameType.PRIORITY, 0, id, [...u32(id), 0]))],
    [
      "content-length",
      (id) => concat(headers(id, [...POST, "content-length", "0"]), frame(FrameType.DATA, 0, id, [1])),
    ],
    ["a malformed request", (id) => headers(id, [...GET, "connection", "x"], END)],
    ["a header list too large", (id) => headers(id, [...GET, "x", "y".repeat(16_340)], END)],
  ];
  for (const [what, make] of provocations) {
    const server = openServer();
    const taken = flood(server, 20_000, (i) => make(2 * i + 1));
    assert.equal(server.connection.failedWith, CALM, what);
    assert.ok(taken <= 1001, `${what}: ${taken}`);
  }
});

test("attacks: streams above the announced limit are refused, a thousand times", () => {
  const server = openServer({ maxConcurrentStreams: 10 });
  const taken = flood(server, 100_000, (i) => headers(2 * i + 1, CONNECT));
  assertCalmed(server, taken, 1011);
});

test("attacks: a CONTINUATION flood ends within its block, however it is cut", () => {
  for (const size of [0, 1, 16, 1024]) {
    const server = openServer();
    server.receive(frame(FrameType.HEADERS, Flag.END_STREAM, 1, [0x82]));
    const part = new Uint8Array(size).fill(0x82);
    const taken = flood(server, 100_000, () => frame(FrameType.CONTINUATION, 0, 1, part));
    assertCalmed(server, taken, 64);
  }
  const server = openServer();
  server.receive(frame(FrameType.HEADERS, Flag.END_STREAM, 1, new Uint8Array(16_000).fill(0x82)));
  const taken = flood(server, 100, () => frame(FrameType.CONTINUATION, 0, 1, new Uint8Array(16_000).fill(0x82)));
  assertCalmed(server, taken, 2);
});

test("attacks: a header block above its limit is refused before its payload is read", () => {
  const server = openServer({ maxFrameBytes: 1 << 20 });
  server.receive(new Uint8Array([0x0f, 0, 0, FrameType.HEADERS, END, 0, 0, 0, 1]));
  assert.equal(server.connection.failedWith, CALM);
  assert.ok(server.pool.peakBytes < 10_000);
});

test("attacks: an HPACK bomb is answered 431 and costs no more than the list's limit", () => {
  const server = openServer();
  let largest = 0;
  server.on.headers = (_stream, fields) => largest = Math.max(largest, fields.join("").length);
  // A 3,900-byte value enters the table once and is then referred to by one byte, 12,000 times.
  const value = new Uint8Array(3900).fill(0x61);
  const bomb = concat(
    block(...GET),
    new Uint8Array([0x40, 1, 0x78, 0x7f, 0xbd, 0x1d]),
    value,
    new Uint8Array(12_000).fill(0xbe),
  );
  server.receive(frame(FrameType.HEADERS, END, 1, bomb));
  assert.equal(largest, 0, "never delivered");
  assert.deepEqual(server.frames().map(describe), ["HEADERS 1 end"]);
  assert.match(server.connection.lastFault, /too large/);
  // The table is still in step.
  server.receive(frame(FrameType.HEADERS, END, 3, concat(block(...GET), new Uint8Array([0xbe]))));
  assert.ok(largest > 3900);
  assert.equal(server.connection.failedWith, -1);
});

test("attacks: a bomb in trailers or in a response resets its stream", () => {
  const server = openServer();
  server.receive(headers(1, POST));
  server.receive(headers(1, ["x", "y".repeat(16_352)], END));
  assert.deepEqual(server.log().slice(1), ["reset 1 11", "closed 1"]);
  const client = openClient();
  client.open(GET, true);
  client.take();
  client.receive(headers(1, [...OK, "x", "y".repeat(16_340)]));
  assert.deepEqual(client.frames().map(describe), ["RST_STREAM 1 code 11"]);
});

const NOISE: [string, (i: number) => Uint8Array][] = [
  ["PING (CVE-2019-9512)", () => frame(FrameType.PING, 0, 0, new Uint8Array(8))],
  ["PING acknowledgements", () => frame(FrameType.PING, Flag.ACK, 0, new Uint8Array(8))],
  ["SETTINGS (CVE-2019-9515)", () => frame(FrameType.SETTINGS, 0, 0)],
  ["SETTINGS acknowledgements", () => frame(FrameType.SETTINGS, Flag.ACK, 0)],
  [
    "SETTINGS that move every window",
    (i) => frame(FrameType.SETTINGS, 0, 0, setting(Setting.INITIAL_WINDOW_SIZE, i % 2)),
  ],
  ["WINDOW_UPDATE for the connection", () => frame(FrameType.WINDOW_UPDATE, 0, 0, u32(1))],
  ["WINDOW_UPDATE for a stream", () => frame(FrameType.WINDOW_UPDATE, 0, 1, u32(1))],
  ["WINDOW_UPDATE for a closed stream", () => frame(FrameType.WINDOW_UPDATE, 0, 3, u32(1))],
  ["PRIORITY (CVE-2019-9513)", (i) => frame(FrameType.PRIORITY, 0, 2 * i + 101, [0, 0, 0, 1, 9])],
  ["empty DATA (CVE-2019-9518)", () => frame(FrameType.DATA, 0, 1)],
  [
    "DATA that is padding only",
    () => frame(FrameType.DATA, Flag.PADDED, 1, concat(new Uint8Array([60]), new Uint8Array(60))),
  ],
  [
    "DATA that is mostly padding",
    () => frame(FrameType.DATA, Flag.PADDED, 1, concat(new Uint8Array([60]), new Uint8Array(61))),
  ],
  ["empty DATA for a closed stream", () => frame(FrameType.DATA, 0, 3)],
  ["RST_STREAM for a closed stream", () => reset(3)],
  ["trailers for a closed stream", () => headers(3, ["a", "b"], END)],
  ["frames of unknown type", () => frame(0xcc, 0, 0)],
  ["GOAWAY", () => frame(FrameType.GOAWAY, 0, 0, new Uint8Array(8))],
];
/** A server with stream 1 open, as the target of a flood, and stream 3 reset. */
function target(): Peer {
  const server = openServer();
  server.receive(concat(headers(1, CONNECT), headers(3, CONNECT)));
  server.connection.respond(server.stream(1), OK, false);
  server.connection.resetStream(server.stream(3), 8);
  server.take();
  return server;
}
for (const [what, make] of NOISE) {
  test(`attacks: a flood of ${what} ends, whether the peer reads or not`, () => {
    for (const reads of [true, false]) {
      const server = target();
      const taken = flood(server, 200_000, make, reads);
      assertCalmed(server, taken, 10_100);
    }
  });
}

test("attacks: a client is not flooded by interim responses either", () => {
  const client = openClient();
  client.open(GET, true);
  const taken = flood(client, 100_000, () => headers(1, [":status", "103"]));
  assertCalmed(client, taken, 10_100);
});

test("attacks: acknowledgements for a peer that does not read are bounded in bytes", () => {
  const server = openServer({ flood: { overheadBurst: 1e9 } });
  const taken = flood(server, 1e6, () => frame(FrameType.PING, 0, 0, new Uint8Array(8)), false);
  assertCalmed(server, taken, Math.ceil(65_536 / 17) + 1);
});

test("attacks: acknowledgements to a peer that reads slowly but steadily are no flood", () => {
  const server = openServer({ flood: { overheadBurst: 1e9 } });
  for (let i = 0; i < 50_000; i++) {
    server.receive(frame(FrameType.PING, 0, 0, new Uint8Array(8)));
    // Always some left: the queue is never empty.
    if (i > 100) server.connection.sent(17);
  }
  assert.equal(server.connection.failedWith, -1);
});

test("attacks: answers that a peer asks for and does not read are bounded (CVE-2019-9517)", () => {
  const server = openServer({ maxOutputBytes: 65_536 });
  const page = [...OK, "x-page", "y".repeat(3000)];
  server.on.headers = (stream) => server.connection.respond(stream, page, true);
  let taken = 0;
  for (; taken < 100_000 && server.connection.failedWith < 0; taken++) {
    server.receive(headers(2 * taken + 1, GET, END));
    assert.ok(server.pool.outBytes < 8 << 20);
  }
  assertCalmed(server, taken, 2000);
});

test("attacks: zero windows hold DATA back, and cost nothing but the streams", () => {
  const server = openServer({}, setting(Setting.INITIAL_WINDOW_SIZE, 0));
  const body = new Uint8Array(10_000);
  server.on.headers = (stream) => {
    server.connection.respond(stream, OK, false);
    assert.equal(server.connection.sendData(stream, body, 0, body.length, true), 0);
  };
  for (let i = 0; i < 100; i++) server.receive(headers(2 * i + 1, GET, END));
  assert.ok(server.take().length < 2000);
  assert.equal(server.pool.outBytes, 0);
  assert.equal(server.connection.openStreams, 100);
});

test("attacks: DATA of one byte holds no memory: it is passed on as it comes", () => {
  const server = target();
  for (let i = 0; i < 60_000; i++) {
    server.receive(frame(FrameType.DATA, 0, 1, [i]));
    server.take();
  }
  assert.equal(server.connection.failedWith, -1, "an interactive tunnel looks just like this");
  assert.equal(server.pool.outBytes, 0);
});

test("attacks: budgets fill again with time", () => {
  const server = openServer();
  let nowMs = 0;
  for (let i = 0; i < 5000; i++) {
    server.receive(concat(headers(2 * i + 1, CONNECT), reset(2 * i + 1)), nowMs += 6);
    server.take();
  }
  for (let i = 0; i < 50_000; i++) {
    server.receive(frame(FrameType.PING, 0, 0, new Uint8Array(8)), nowMs += 1.1);
    server.take();
  }
  assert.equal(server.connection.failedWith, -1, "166 resets and 900 PINGs a second");
});

test("attacks: a peer that answers each DATA frame with WINDOW_UPDATE and PING is honest", () => {
  const server = target();
  for (let i = 0; i < 50_000; i++) {
    assert.equal(server.connection.sendData(server.stream(1), new Uint8Array(100), 0, 100, false), 100);
    server.take();
    server.receive(concat(
      frame(FrameType.WINDOW_UPDATE, 0, 0, u32(100)),
      frame(FrameType.WINDOW_UPDATE, 0, 1, u32(100)),
      frame(FrameType.PING, 0, 0, new Uint8Array(8)),
    ));
  }
  assert.equal(server.connection.failedWith, -1);
});

test("attacks: many answered streams that are then reset are honest", () => {
  const server = openServer();
  server.on.headers = (stream) => server.connection.respond(stream, OK, false);
  for (let i = 0; i < 50_000; i++) {
    server.receive(concat(headers(2 * i + 1, CONNECT), reset(2 * i + 1)));
    server.take();
    server.streams.clear();
    server.events.length = 0;
  }
  assert.equal(server.connection.failedWith, -1);
});
