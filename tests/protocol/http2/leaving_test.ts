/** Deadlines, keepalive and the ways a connection ends: RFC 9113 sections 6.5.3, 6.7, 6.8 and 9.1. */
import { test } from "node:test";
import assert from "node:assert/strict";
import { ErrorCode } from "../../../src/protocol/http2/mod.ts";
import { Flag, FrameType, PREFACE, Setting } from "../../../src/protocol/http2/constants.ts";
import {
  ascii,
  block,
  concat,
  CONNECT,
  describe,
  END,
  exchange,
  frame,
  GET,
  headers,
  OK,
  openClient,
  openServer,
  options,
  pair,
  Peer,
  setting,
  SETTINGS_ACK,
  u32,
} from "./harness.ts";

test("leaving: a graceful end warns, serves what was on its way, then names the last stream", () => {
  const { client, server } = pair();
  client.open(CONNECT);
  exchange(client, server);
  server.log();
  server.connection.drain();
  assert.ok(server.connection.draining);
  // This one was sent before the client knew.
  client.open(CONNECT);
  const onItsWay = client.take();
  assert.deepEqual(server.frames().map(describe), ["GOAWAY last 2147483647 code 0", "PING"]);
  server.receive(onItsWay);
  server.receive(frame(FrameType.PING, Flag.ACK, 0, concat(ascii("ambit"), new Uint8Array([0, 0, 2]))));
  assert.deepEqual(server.frames().map(describe), ["GOAWAY last 3 code 0"]);
  server.receive(headers(5, CONNECT));
  server.receive(frame(FrameType.DATA, 0, 5, ascii("ignored")));
  assert.deepEqual(server.log(), ["headers 3 :method=CONNECT,:authority=10.0.0.1:80"]);
  for (const id of [1, 3]) {
    server.connection.respond(server.stream(id), OK, true);
    server.receive(frame(FrameType.DATA, Flag.END_STREAM, id));
  }
  assert.deepEqual(server.log(), ["end 1 0", "closed 1", "end 3 0", "closed 3", "drained"]);
  server.connection.receivedEof();
  assert.deepEqual(server.log(), [], "a drained connection does not fail");
});

test("leaving: a graceful end with no stream is complete after one round trip", () => {
  const { client, server } = pair();
  server.connection.drain();
  exchange(client, server);
  assert.deepEqual(client.log(), ["goaway 2147483647 0", "drained", "goaway 0 0"]);
  assert.deepEqual(server.log(), ["goaway 0 0", "drained"]);
  assert.equal(client.connection.canOpen, false);
});

test("leaving: a graceful end does not wait for a PING that is not answered", () => {
  const server = openServer({ pingTimeoutMs: 500 });
  server.connection.drain();
  server.take();
  assert.equal(server.connection.nextDeadlineMs(), 500);
  server.connection.tick(500);
  assert.deepEqual(server.frames().map(describe), ["GOAWAY last 0 code 0"]);
  assert.deepEqual(server.log(), ["drained"]);
  assert.equal(server.connection.nextDeadlineMs(), Infinity);
});

test("leaving: a client that drains opens nothing and is done with its last stream", () => {
  const { client, server } = pair();
  const stream = client.open(GET, true);
  client.connection.drain();
  assert.equal(client.connection.canOpen, false);
  server.on.headers = (answered) => server.connection.respond(answered, OK, true);
  exchange(client, server);
  assert.ok(stream.isClosed);
  assert.equal(client.log().at(-1), "drained");
  assert.ok(server.log().includes("goaway 0 0"));
});

test("leaving: the peer's GOAWAY gives back, safe to retry, the streams it will not serve", () => {
  const client = openClient();
  const streams = [client.open(GET, true), client.open(GET, true), client.open(GET, true)];
  client.receive(frame(FrameType.GOAWAY, 0, 0, concat(new Uint8Array([...u32(3), ...u32(2)]), ascii("busy"))));
  assert.deepEqual(client.log(), ["goaway 3 2 busy", "reset 5 7 by peer", "closed 5"]);
  assert.equal(client.connection.openStream(GET, true, { data: "" }), undefined);
  client.receive(headers(1, OK, END));
  client.receive(headers(3, OK, END));
  assert.deepEqual(client.log().slice(-2), ["closed 3", "drained"]);
  assert.ok(streams.every((stream) => stream.isClosed));
});

test("leaving: goaway takes no further streams, with the code and the words given", () => {
  const server = openServer();
  server.receive(headers(1, GET, END));
  server.connection.goaway(ErrorCode.NO_ERROR, "policy changed");
  server.connection.goaway(ErrorCode.INTERNAL_ERROR, "again");
  const frames = server.frames();
  assert.deepEqual(frames.map(describe), ["GOAWAY last 1 code 0"]);
  assert.deepEqual(frames[0].payload.slice(8), ascii("policy changed"));
  server.receive(headers(3, GET, END));
  assert.equal(server.connection.openStreams, 1);
});

test("leaving: keepalive asks after the interval, and again that long after each answer", () => {
  const { client, server } = pair({ pingIntervalMs: 10_000, pingTimeoutMs: 20_000 });
  assert.equal(client.connection.nextDeadlineMs(), 10_000);
  client.connection.tick(9_999);
  assert.equal(client.take().length, 0);
  client.connection.tick(10_000);
  assert.equal(client.connection.nextDeadlineMs(), 30_000);
  exchange(client, server, 10_100);
  assert.deepEqual(client.log(), ["pong"]);
  assert.equal(client.connection.nextDeadlineMs(), 20_100);
});

test("leaving: a peer that does not answer a PING in time is given up", () => {
  const server = openServer({ pingIntervalMs: 10_000, pingTimeoutMs: 20_000 });
  server.receive(headers(1, CONNECT));
  server.log();
  server.connection.tick(10_000);
  server.take();
  server.receive(frame(FrameType.PING, Flag.ACK, 0, new Uint8Array(8)), 15_000);
  server.connection.tick(30_000);
  assert.deepEqual(server.log(), ["reset 1 8", "closed 1", "failed 0"]);
  assert.deepEqual(server.frames().map(describe), ["GOAWAY last 1 code 0"]);
});

test("leaving: a peer that never opens with SETTINGS is given up", () => {
  for (const role of ["client", "server"] as const) {
    const peer = new Peer(options(role, { settingsTimeoutMs: 5000 }), 1000);
    if (role === "server") peer.receive(PREFACE, 2000);
    assert.equal(peer.connection.nextDeadlineMs(), 6000);
    peer.connection.tick(6000);
    assert.deepEqual(peer.log(), [`failed ${ErrorCode.SETTINGS_TIMEOUT}`]);
  }
});

test("leaving: a peer that never acknowledges SETTINGS is given up", () => {
  const client = new Peer(options("client", { settingsTimeoutMs: 5000 }));
  client.receive(frame(FrameType.SETTINGS, 0, 0));
  client.connection.tick(4999);
  assert.equal(client.connection.failedWith, -1);
  client.connection.tick(5000);
  assert.equal(client.connection.failedWith, ErrorCode.SETTINGS_TIMEOUT);
  const answered = new Peer(options("client", { settingsTimeoutMs: 5000 }));
  answered.receive(concat(frame(FrameType.SETTINGS, 0, 0), SETTINGS_ACK));
  assert.equal(answered.connection.nextDeadlineMs(), Infinity);
});

test("leaving: a header block that is never finished ends the connection, in one frame or in several", () => {
  const request = block(...GET);
  const begun = [
    frame(FrameType.HEADERS, Flag.END_STREAM, 1, request.slice(0, 2)),
    headers(1, GET).slice(0, 11),
    concat(frame(FrameType.HEADERS, Flag.END_STREAM, 1, request.slice(0, 2)), frame(FrameType.CONTINUATION, 0, 1, [])),
  ];
  for (const bytes of begun) {
    const server = openServer({ headerTimeoutMs: 3000 });
    server.receive(bytes, 100);
    assert.equal(server.connection.nextDeadlineMs(), 3100);
    server.connection.tick(3100);
    assert.equal(server.connection.failedWith, ErrorCode.ENHANCE_YOUR_CALM);
    assert.equal(server.pool.outBytes, server.connection.output.bytes.length);
  }
  const server = openServer({ headerTimeoutMs: 3000 });
  server.receive(concat(begun[0], frame(FrameType.CONTINUATION, Flag.END_HEADERS, 1, request.slice(2))), 100);
  assert.equal(server.connection.nextDeadlineMs(), Infinity);
});

test("leaving: a stream that the peer's window holds up is reset where that is limited", () => {
  const client = openClient({ zeroWindowTimeoutMs: 1000 }, setting(Setting.INITIAL_WINDOW_SIZE, 5));
  const [stalled, moving] = [client.open(CONNECT), client.open(CONNECT)];
  for (const stream of [stalled, moving]) client.connection.sendData(stream, ascii("0123456789"), 0, 10, false);
  client.take();
  const dueMs = client.connection.nextDeadlineMs();
  assert.ok(dueMs >= 1000 && dueMs <= 1001);
  client.receive(frame(FrameType.WINDOW_UPDATE, 0, 3, u32(2)), 900);
  client.connection.sendData(moving, ascii("56789"), 0, 5, false);
  client.connection.tick(dueMs);
  assert.deepEqual(client.log(), ["writable 3", "reset 1 8", "closed 1"]);
  const laterMs = client.connection.nextDeadlineMs();
  assert.ok(laterMs >= 1900 && laterMs <= 1902, `${laterMs}`);
  client.connection.tick(laterMs);
  assert.deepEqual(client.log(), ["reset 3 8", "closed 3"]);
  assert.equal(client.connection.nextDeadlineMs(), Infinity);
});

test("leaving: without a limit a stalled stream stays, and sets no deadline", () => {
  const client = openClient({}, setting(Setting.INITIAL_WINDOW_SIZE, 0));
  client.connection.sendData(client.open(CONNECT), ascii("x"), 0, 1, false);
  assert.equal(client.connection.nextDeadlineMs(), Infinity);
});
