/** Malformed and misplaced frames at every state, for both ends: what ends the stream and what ends the connection. */
import { describe as suite, test } from "node:test";
import assert from "node:assert/strict";
import { Flag, FrameType, PREFACE, Setting } from "../../../src/protocol/http2/constants.ts";
import {
  ascii,
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
  options,
  Peer,
  POST,
  setting,
  SETTINGS_ACK,
  u32,
} from "./harness.ts";

const PROTOCOL = 1;
const FLOW = 3;
const CLOSED = 5;
const SIZE = 6;
const COMPRESSION = 9;
const CALM = 11;

/** `[what, bytes, what is sent back]`: "1: 5" is RST_STREAM on stream 1 with code 5, "5" is GOAWAY with code 5. */
type Case = readonly [string, Uint8Array, string];

/** The error frames among what a peer sent, in the notation of Case. */
function faults(peer: Peer): string {
  return peer.frames().map(describe).map((text) => {
    const [, id, code] = /^RST_STREAM (\d+) code (\d+)$/.exec(text) ?? [];
    if (id !== undefined) return `${id}: ${code}`;
    return /^GOAWAY last \d+ code (\d+)$/.exec(text)?.[1] ?? "";
  }).filter((text) => text !== "").join(" ");
}

function check(state: string, make: () => Peer, cases: readonly Case[]): void {
  for (const [what, bytes, expected] of cases) {
    test(`malformed: ${state}: ${what} gives ${expected === "" ? "nothing" : expected}`, () => {
      const peer = make();
      peer.take();
      peer.log();
      peer.receive(bytes);
      const failed = expected !== "" && !expected.includes(":");
      assert.equal(faults(peer), expected);
      assert.equal(peer.connection.failedWith, failed ? Number(expected) : -1);
      assert.equal(peer.log().filter((event) => event.startsWith("failed")).length, failed ? 1 : 0);
      if (failed) assert.equal(peer.connection.openStreams, 0);
      if (failed) assert.equal(peer.pool.outBytes, 0);
      // A connection that lives still serves.
      if (failed || peer.connection.canOpen) return;
      peer.receive(headers(99, GET, END));
      assert.equal(peer.log().at(-1), "headers 99 :method=GET,:scheme=https,:authority=a,:path=/ end");
    });
  }
}

const ping = (flags = 0, id = 0, length = 8): Uint8Array => frame(FrameType.PING, flags, id, new Uint8Array(length));
const data = (id: number, length: number, flags = 0): Uint8Array =>
  frame(FrameType.DATA, flags, id, new Uint8Array(length));
const update = (id: number, by: number): Uint8Array => frame(FrameType.WINDOW_UPDATE, 0, id, u32(by));
const reset = (id: number): Uint8Array => frame(FrameType.RST_STREAM, 0, id, u32(8));
const settings = (id: number, value: number): Uint8Array => frame(FrameType.SETTINGS, 0, 0, setting(id, value));
const priority = (id: number, on: number): Uint8Array => frame(FrameType.PRIORITY, 0, id, [...u32(on), 0]);
/** Says 16 KiB and 1, which is above the frame size announced. */
const oversized = (type: number, id: number): Uint8Array => new Uint8Array([0, 0x40, 1, type, 0, ...u32(id)]);

suite("malformed: before SETTINGS", () => {
  check("server, nothing yet", () => new Peer(options("server")), [
    ["HTTP/1.1", ascii("GET / HTTP/1.1\r\n\r\n"), `${PROTOCOL}`],
    ["a TLS hello", new Uint8Array([22, 3, 1, 2, 0, 1]), `${PROTOCOL}`],
    ["a preface wrong at its end", concat(PREFACE.slice(0, 23), ascii("x")), `${PROTOCOL}`],
    ["HEADERS first", concat(PREFACE, headers(1, GET, END)), `${PROTOCOL}`],
    ["DATA first", concat(PREFACE, data(1, 1)), `${PROTOCOL}`],
    ["an acknowledgement first", concat(PREFACE, SETTINGS_ACK), `${PROTOCOL}`],
    ["an unknown frame first", concat(PREFACE, frame(0xee, 0, 0)), `${PROTOCOL}`],
  ]);
  check("client, nothing yet", () => new Peer(options("client")), [
    ["HTTP/1.1", ascii("HTTP/1.1 400 Bad Request\r\n\r\n"), `${SIZE}`],
    ["PING first", ping(), `${PROTOCOL}`],
  ]);
});

const anyState: readonly Case[] = [
  ["PING on a stream", ping(0, 1), `${PROTOCOL}`],
  ["PING of 7 bytes", ping(0, 0, 7), `${SIZE}`],
  ["SETTINGS on a stream", frame(FrameType.SETTINGS, 0, 1), `${PROTOCOL}`],
  ["SETTINGS of 5 bytes", frame(FrameType.SETTINGS, 0, 0, new Uint8Array(5)), `${SIZE}`],
  ["SETTINGS acknowledgement with a payload", frame(FrameType.SETTINGS, 1, 0, setting(4, 1)), `${SIZE}`],
  ["ENABLE_PUSH of 2", settings(Setting.ENABLE_PUSH, 2), `${PROTOCOL}`],
  ["INITIAL_WINDOW_SIZE of 2^31", settings(Setting.INITIAL_WINDOW_SIZE, 2 ** 31), `${FLOW}`],
  ["MAX_FRAME_SIZE of 16,383", settings(Setting.MAX_FRAME_SIZE, 16_383), `${PROTOCOL}`],
  ["MAX_FRAME_SIZE of 2^24", settings(Setting.MAX_FRAME_SIZE, 2 ** 24), `${PROTOCOL}`],
  ["ENABLE_CONNECT_PROTOCOL of 2", settings(Setting.ENABLE_CONNECT_PROTOCOL, 2), `${PROTOCOL}`],
  [
    "ENABLE_CONNECT_PROTOCOL taken back",
    concat(settings(Setting.ENABLE_CONNECT_PROTOCOL, 1), settings(Setting.ENABLE_CONNECT_PROTOCOL, 0)),
    `${PROTOCOL}`,
  ],
  ["GOAWAY on a stream", frame(FrameType.GOAWAY, 0, 1, new Uint8Array(8)), `${PROTOCOL}`],
  ["GOAWAY of 7 bytes", frame(FrameType.GOAWAY, 0, 0, new Uint8Array(7)), `${SIZE}`],
  ["WINDOW_UPDATE of 3 bytes", frame(FrameType.WINDOW_UPDATE, 0, 0, [0, 0, 1]), `${SIZE}`],
  ["WINDOW_UPDATE of 0 for the connection", update(0, 0), `${PROTOCOL}`],
  ["the connection's window past its limit", update(0, 0x7fff_ffff), `${FLOW}`],
  ["RST_STREAM on the connection", reset(0), `${PROTOCOL}`],
  ["RST_STREAM of 3 bytes", frame(FrameType.RST_STREAM, 0, 1, [0, 0, 8]), `${SIZE}`],
  ["PRIORITY on the connection", priority(0, 1), `${PROTOCOL}`],
  ["DATA on the connection", data(0, 1), `${PROTOCOL}`],
  ["HEADERS on the connection", headers(0, GET), `${PROTOCOL}`],
  ["HEADERS on an even stream", headers(2, GET), `${PROTOCOL}`],
  ["CONTINUATION out of the blue", frame(FrameType.CONTINUATION, Flag.END_HEADERS, 1, block(...GET)), `${PROTOCOL}`],
  [
    "PUSH_PROMISE",
    frame(FrameType.PUSH_PROMISE, Flag.END_HEADERS, 1, concat(new Uint8Array(4), block(...GET))),
    `${PROTOCOL}`,
  ],
  ["a frame above the size announced", oversized(FrameType.DATA, 1), `${SIZE}`],
  ["an unknown frame above the size announced", oversized(0xee, 0), `${SIZE}`],
  ["DATA on an idle stream", data(41, 1), `${PROTOCOL}`],
  ["RST_STREAM on an idle stream", reset(41), `${PROTOCOL}`],
  ["WINDOW_UPDATE on an idle stream", update(41, 1), `${PROTOCOL}`],
  ["33 settings in a frame", frame(FrameType.SETTINGS, 0, 0, new Uint8Array(33 * 6)), `${CALM}`],
  ["PRIORITY on an idle stream", priority(41, 1), ""],
];

function serverWith(...sent: Uint8Array[]): () => Peer {
  return () => {
    const server = openServer();
    server.receive(concat(...sent));
    return server;
  };
}

suite("malformed: server without streams", () => {
  check("server, no stream", openServer, anyState);
  const request = (fields: string[], flags = END): Uint8Array => headers(1, fields, flags);
  const without = (name: string): string[] => GET.filter((_, i) => GET[i - i % 2] !== name);
  check("server, request", openServer, [
    ["without :method", request(without(":method")), `1: ${PROTOCOL}`],
    ["without :scheme", request(without(":scheme")), `1: ${PROTOCOL}`],
    ["without :path", request(without(":path")), `1: ${PROTOCOL}`],
    ["with an empty :path", request([...without(":path"), ":path", ""]), `1: ${PROTOCOL}`],
    ["with a relative :path", request([...without(":path"), ":path", "a"]), `1: ${PROTOCOL}`],
    ["with :path * and GET", request([...without(":path"), ":path", "*"]), `1: ${PROTOCOL}`],
    ["with :path * and OPTIONS", request([":method", "OPTIONS", ":scheme", "http", ":path", "*"]), ""],
    ["with :method twice", request([...GET, ":method", "GET"]), `1: ${PROTOCOL}`],
    ["with :status", request([...GET, ":status", "200"]), `1: ${PROTOCOL}`],
    ["with a made-up pseudo-header field", request([...GET, ":test", "x"]), `1: ${PROTOCOL}`],
    ["with :path after a regular field", request([...without(":path"), "a", "b", ":path", "/"]), `1: ${PROTOCOL}`],
    ["with an uppercase name", request([...GET, "X-Test", "x"]), `1: ${PROTOCOL}`],
    ["with connection", request([...GET, "connection", "close"]), `1: ${PROTOCOL}`],
    ["with te other than trailers", request([...GET, "te", "gzip"]), `1: ${PROTOCOL}`],
    ["with te: trailers", request([...GET, "te", "trailers"]), ""],
    ["with a line break in a value", request([...GET, "x", "a\r\nb: c"]), `1: ${PROTOCOL}`],
    ["with two hosts", request([...GET, "host", "a", "host", "a"]), `1: ${PROTOCOL}`],
    ["with a host that differs", request([...GET, "host", "b"]), `1: ${PROTOCOL}`],
    ["with the same host", request([...GET, "host", "A"]), ""],
    ["with user information", request([...without(":authority"), ":authority", "u@a"]), `1: ${PROTOCOL}`],
    ["with two lengths", request([...GET, "content-length", "1", "content-length", "2"], 4), `1: ${PROTOCOL}`],
    ["with a length and no content", request([...GET, "content-length", "1"]), `1: ${PROTOCOL}`],
    ["CONNECT without :authority", request([":method", "CONNECT"], 4), `1: ${PROTOCOL}`],
    ["CONNECT with an empty :authority", request([":method", "CONNECT", ":authority", ""], 4), `1: ${PROTOCOL}`],
    ["CONNECT with :path", request([...CONNECT, ":path", "/"], 4), `1: ${PROTOCOL}`],
    ["CONNECT with :scheme", request([...CONNECT, ":scheme", "https"], 4), `1: ${PROTOCOL}`],
    ["of nothing", request([]), `1: ${PROTOCOL}`],
    [
      "that depends on itself",
      frame(FrameType.HEADERS, END | Flag.PRIORITY, 1, concat(new Uint8Array([0, 0, 0, 1, 0]), block(...GET))),
      `1: ${PROTOCOL}`,
    ],
    ["cut short by its priority flag", frame(FrameType.HEADERS, END | Flag.PRIORITY, 1, [0, 0]), `${SIZE}`],
    [
      "with padding longer than itself",
      frame(FrameType.HEADERS, END | Flag.PADDED, 1, concat(new Uint8Array([200]), block(...GET))),
      `${PROTOCOL}`,
    ],
    ["with padding flag and no payload", frame(FrameType.HEADERS, END | Flag.PADDED, 1), `${PROTOCOL}`],
    [
      "with padding and priority that fit",
      frame(
        FrameType.HEADERS,
        END | Flag.PADDED | Flag.PRIORITY,
        1,
        concat(new Uint8Array([2, 0, 0, 0, 0, 9]), block(...GET), new Uint8Array(2)),
      ),
      "",
    ],
    ["that is no HPACK", frame(FrameType.HEADERS, END, 1, [0x80]), `${COMPRESSION}`],
  ]);
  check(
    "server, header block open",
    serverWith(frame(FrameType.HEADERS, Flag.END_STREAM, 1, block(...GET).slice(0, 2))),
    [
      ["DATA", data(1, 1), `${PROTOCOL}`],
      ["PING", ping(), `${PROTOCOL}`],
      ["HEADERS", headers(1, GET), `${PROTOCOL}`],
      ["an unknown frame", frame(0xee, 0, 1), `${PROTOCOL}`],
      ["CONTINUATION of another stream", frame(FrameType.CONTINUATION, 4, 3, block(...GET).slice(2)), `${PROTOCOL}`],
      ["CONTINUATION that is no HPACK", frame(FrameType.CONTINUATION, 4, 1, [0xff]), `${COMPRESSION}`],
      ["the rest of it", frame(FrameType.CONTINUATION, 4, 1, block(...GET).slice(2)), ""],
    ],
  );
});

suite("malformed: server with a stream", () => {
  check("server, open stream", serverWith(headers(1, POST)), [
    ...anyState,
    ["WINDOW_UPDATE of 0", update(1, 0), `1: ${PROTOCOL}`],
    ["the stream's window past its limit", update(1, 0x7fff_ffff), `1: ${FLOW}`],
    [
      "SETTINGS that push the stream's window past its limit",
      concat(update(1, 0x7fff_0000), settings(4, 0x7fff_ffff)),
      `${FLOW}`,
    ],
    ["trailers that do not end it", headers(1, ["a", "b"]), `1: ${PROTOCOL}`],
    ["trailers with a pseudo-header field", headers(1, [":status", "200"], END), `1: ${PROTOCOL}`],
    ["trailers with a bad field", headers(1, ["Bad", "b"], END), `1: ${PROTOCOL}`],
    ["PRIORITY of 4 bytes", frame(FrameType.PRIORITY, 0, 1, new Uint8Array(4)), `1: ${SIZE}`],
    ["PRIORITY on itself", priority(1, 1), `1: ${PROTOCOL}`],
    ["DATA with padding longer than itself", frame(FrameType.DATA, Flag.PADDED, 1, [9, 1, 2]), `${PROTOCOL}`],
    ["DATA with the padding flag and no payload", frame(FrameType.DATA, Flag.PADDED, 1), `${PROTOCOL}`],
    ["a smaller stream id", concat(headers(5, GET, END), headers(3, GET, END)), `${PROTOCOL}`],
  ]);
  check("server, content-length 5", serverWith(headers(1, [...POST, "content-length", "5"])), [
    ["6 bytes", data(1, 6), `1: ${PROTOCOL}`],
    ["4 bytes and the end", data(1, 4, 1), `1: ${PROTOCOL}`],
    ["4 bytes and trailers", concat(data(1, 4), headers(1, ["a", "b"], END)), `1: ${PROTOCOL}`],
    ["the end", data(1, 0, 1), `1: ${PROTOCOL}`],
    [
      "5 bytes with padding and the end",
      frame(FrameType.DATA, 9, 1, concat(new Uint8Array([2]), new Uint8Array(7))),
      "",
    ],
    ["5 bytes and trailers", concat(data(1, 5), headers(1, ["a", "b"], END)), ""],
  ]);
  check("server, tunnel", serverWith(headers(1, CONNECT)), [
    ["trailers", headers(1, ["a", "b"], END), `1: ${PROTOCOL}`],
  ]);
  check("server, half closed by the peer", serverWith(headers(1, GET, END)), [
    ["DATA", data(1, 1), `1: ${CLOSED}`],
    ["HEADERS", headers(1, ["a", "b"], END), `1: ${CLOSED}`],
    ["WINDOW_UPDATE", update(1, 10), ""],
    ["PRIORITY", priority(1, 3), ""],
    ["RST_STREAM", reset(1), ""],
  ]);
  const ended = (): Peer => {
    const server = openServer();
    server.on.headers = (stream) => server.connection.respond(stream, OK, true);
    server.receive(headers(1, GET, END));
    server.on = {};
    return server;
  };
  check("server, stream that ended", ended, [
    ["DATA", data(1, 1), `${CLOSED}`],
    ["HEADERS", headers(1, GET, END), `${CLOSED}`],
    ["WINDOW_UPDATE", update(1, 10), ""],
    ["RST_STREAM", reset(1), ""],
    ["PRIORITY", priority(1, 3), ""],
  ]);
  check("server, stream that the peer reset", serverWith(headers(1, POST), reset(1)), [
    ["DATA", data(1, 1), `1: ${CLOSED}`],
    ["HEADERS", headers(1, GET, END), `1: ${CLOSED}`],
    ["WINDOW_UPDATE", update(1, 10), ""],
  ]);
  check("server, stream that was skipped", serverWith(headers(5, POST)), [
    ["DATA", data(3, 1), `3: ${CLOSED}`],
    ["HEADERS", headers(3, GET, END), `${PROTOCOL}`],
    ["WINDOW_UPDATE", update(3, 10), ""],
  ]);
});

suite("malformed: client", () => {
  const clientWith = (request: string[], endStream: boolean, ...sent: Uint8Array[]) => (): Peer => {
    const client = openClient();
    client.open(request, endStream);
    client.receive(concat(...sent));
    return client;
  };
  check("client, stream open", clientWith(POST, false), [
    ...anyState.filter(([what]) => !what.startsWith("PRIORITY on an idle")),
    ["ENABLE_PUSH of 1", settings(Setting.ENABLE_PUSH, 1), `${PROTOCOL}`],
    ["HEADERS on an idle stream", headers(3, OK), `${PROTOCOL}`],
    ["DATA before the response", data(1, 1), `1: ${PROTOCOL}`],
    ["a response without :status", headers(1, ["a", "b"]), `1: ${PROTOCOL}`],
    ["a response with :path", headers(1, [...OK, ":path", "/"]), `1: ${PROTOCOL}`],
    ["a response with a made-up status", headers(1, [":status", "abc"]), `1: ${PROTOCOL}`],
    ["a status below 100", headers(1, [":status", "099"]), `1: ${PROTOCOL}`],
    ["101", headers(1, [":status", "101"]), `1: ${PROTOCOL}`],
    ["an interim response that ends the stream", headers(1, [":status", "103"], END), `1: ${PROTOCOL}`],
    ["a response with connection", headers(1, [...OK, "connection", "close"]), `1: ${PROTOCOL}`],
    ["a length and no content", headers(1, [...OK, "content-length", "4"], END), `1: ${PROTOCOL}`],
    ["less than content-length", concat(headers(1, [...OK, "content-length", "4"]), data(1, 3, 1)), `1: ${PROTOCOL}`],
    ["a header list that is too large", headers(1, [...OK, "a", "x".repeat(16_300), "b", "c"]), `1: ${CALM}`],
    ["trailers that do not end", concat(headers(1, OK), headers(1, ["a", "b"])), `1: ${PROTOCOL}`],
  ]);
  check("client, tunnel established", clientWith(CONNECT, false, headers(1, OK)), [
    ["trailers", headers(1, ["a", "b"], END), `1: ${PROTOCOL}`],
    ["DATA after its end", concat(data(1, 0, 1), data(1, 1)), `1: ${CLOSED}`],
    ["WINDOW_UPDATE of 0", update(1, 0), `1: ${PROTOCOL}`],
  ]);
});

test("malformed: an error on one stream leaves the header table in step for the others", () => {
  const server = openServer();
  // Indexed in a request that is refused, referred to by the next.
  const bad = concat(block(...GET), new Uint8Array([0x40, 1, 0x61, 1, 0x62]), block("connection", "x"));
  const good = concat(block(...GET), new Uint8Array([0xbe]));
  server.receive(concat(frame(FrameType.HEADERS, END, 1, bad), frame(FrameType.HEADERS, END, 3, good)));
  assert.deepEqual(server.log(), ["headers 3 :method=GET,:scheme=https,:authority=a,:path=/,a=b end"]);
});
