/** RFC 9113 sections 5.2 and 6.9, both directions, and whose turn it is to send. */
import { test } from "node:test";
import assert from "node:assert/strict";
import fc from "fast-check";
import { FrameType, Setting } from "../../../src/protocol/http2/constants.ts";
import {
  ascii,
  concat,
  CONNECT,
  describe,
  exchange,
  type Frame,
  frame,
  headers,
  OK,
  openClient,
  openServer,
  options,
  pair,
  Peer,
  POST,
  setting,
  SETTINGS_ACK,
  u32,
} from "./harness.ts";

const update = (id: number, by: number): Uint8Array => frame(FrameType.WINDOW_UPDATE, 0, id, u32(by));
const data = (id: number, length: number): Uint8Array => frame(FrameType.DATA, 0, id, new Uint8Array(length));
const payload = (bytes: number): Uint8Array => new Uint8Array(bytes).fill(0x61);

function sentData(frames: Frame[]): string[] {
  return frames.filter((sent) => sent.type === FrameType.DATA).map(describe);
}

test("flow_control: sends no more than the stream's window, and goes on when it opens", () => {
  const client = openClient({}, setting(Setting.INITIAL_WINDOW_SIZE, 10));
  const stream = client.open(POST);
  assert.equal(client.connection.sendData(stream, payload(25), 0, 25, true), 10);
  assert.equal(client.connection.reserveData(stream, 15), 0);
  assert.deepEqual(sentData(client.frames()), ["DATA 1 10"]);
  client.receive(update(1, 5));
  assert.deepEqual(client.log(), ["writable 1"]);
  assert.equal(client.connection.sendData(stream, payload(25), 10, 25, true), 5);
  client.receive(update(1, 100));
  assert.equal(client.connection.sendData(stream, payload(25), 15, 25, true), 10);
  assert.deepEqual(sentData(client.frames()), ["DATA 1 5", "DATA 1 10 end"]);
  assert.ok(stream.localEnded);
});

test("flow_control: `writable` comes once for each time a stream fell short", () => {
  const client = openClient({}, setting(Setting.INITIAL_WINDOW_SIZE, 10));
  const stream = client.open(POST);
  client.connection.sendData(stream, payload(25), 0, 25, true);
  for (let i = 0; i < 3; i++) client.receive(update(1, 5));
  assert.deepEqual(client.log(), ["writable 1"]);
});

test("flow_control: sends no more than the connection's window, and waiting streams take turns", () => {
  const client = openClient({}, setting(Setting.INITIAL_WINDOW_SIZE, 1 << 20));
  const streams = [client.open(POST), client.open(POST), client.open(POST)];
  const first = client.connection.sendData(streams[0], payload(100_000), 0, 100_000, false);
  assert.equal(first, 65_535);
  for (const stream of streams) assert.equal(client.connection.reserveData(stream, 1), 0);
  client.take();
  client.on.writable = (stream) => void client.connection.sendData(stream, payload(1000), 0, 1000, false);
  for (let i = 0; i < 4; i++) client.receive(update(0, 1000));
  client.on.writable = (stream) => {
    // Each takes less than is there, and says so by asking for more.
    client.connection.sendData(stream, payload(400), 0, 400, false);
  };
  client.receive(update(0, 1000));
  assert.deepEqual(client.log(), ["writable 1", "writable 3", "writable 5"]);
  assert.deepEqual(sentData(client.frames()), ["DATA 1 1000", "DATA 3 1000", "DATA 5 1000"]);
});

test("flow_control: a stream that stays blocked goes to the back of the queue", () => {
  const client = openClient({}, setting(Setting.INITIAL_WINDOW_SIZE, 1 << 20));
  const streams = [client.open(POST), client.open(POST)];
  client.connection.sendData(streams[0], payload(65_535), 0, 65_535, false);
  client.on.writable = (stream) => void client.connection.sendData(stream, payload(5000), 0, 5000, false);
  for (const stream of streams) client.connection.sendData(stream, payload(10), 0, 10, false);
  for (let i = 0; i < 4; i++) client.receive(update(0, 100));
  assert.deepEqual(client.log(), ["writable 1", "writable 3", "writable 1", "writable 3"]);
});

test("flow_control: reserve says how much, within window, frame size and cap; commit writes the frame in place", () => {
  const client = openClient({ maxOutputBytes: 20_000 }, setting(Setting.INITIAL_WINDOW_SIZE, 1 << 20));
  const stream = client.open(POST);
  client.take();
  const { connection } = client;
  assert.equal(connection.reserveData(stream, 100), 100);
  assert.equal(connection.reserveData(stream, 1 << 20), 16_384, "the peer's frame size");
  const { output } = connection;
  assert.ok(output.bytes.length >= output.end + 9 + 16_384);
  output.bytes.fill(0x62, output.end + 9, output.end + 9 + 16_384);
  connection.commitData(stream, 16_384, false);
  assert.equal(connection.reserveData(stream, 1 << 20), 16_384, "the cap is soft");
  output.bytes.fill(0x63, output.end + 9, output.end + 9 + 3);
  connection.commitData(stream, 3, true);
  const [first, second] = client.frames();
  assert.deepEqual(first.payload, new Uint8Array(16_384).fill(0x62));
  assert.deepEqual(second.payload, new Uint8Array(3).fill(0x63));
  assert.equal(describe(second), "DATA 1 3 end");
});

test("flow_control: a reservation that is not used goes back", () => {
  const client = openClient();
  const stream = client.open(POST);
  client.take();
  assert.equal(client.connection.reserveData(stream, 5000), 5000);
  assert.ok(client.pool.outBytes > 0);
  client.connection.commitData(stream, 0, false);
  assert.equal(client.pool.outBytes, 0);
  assert.equal(client.take().length, 0);
});

test("flow_control: a full output holds streams back until half of it is sent", () => {
  const client = openClient({ maxOutputBytes: 40_000 }, setting(Setting.INITIAL_WINDOW_SIZE, 1 << 20));
  client.receive(update(0, 1 << 20));
  const stream = client.open(POST);
  client.take();
  const sent = client.connection.sendData(stream, payload(200_000), 0, 200_000, false);
  assert.ok(sent >= 40_000 && sent < 40_000 + 16_384, `${sent}`);
  assert.equal(client.connection.reserveData(stream, 1), 0);
  client.connection.sent(10_000);
  assert.deepEqual(client.log(), []);
  client.connection.sent(20_000);
  assert.deepEqual(client.log(), ["writable 1"]);
});

test("flow_control: `writable` stops when the output is full again", () => {
  const client = openClient({ maxOutputBytes: 16_384 }, setting(Setting.INITIAL_WINDOW_SIZE, 1 << 20));
  client.receive(update(0, 1 << 20));
  const streams = [client.open(POST), client.open(POST), client.open(POST)];
  for (const stream of streams) client.connection.sendData(stream, payload(60_000), 0, 60_000, false);
  client.on.writable = (stream) => void client.connection.sendData(stream, payload(60_000), 0, 60_000, false);
  client.take();
  const written = client.log();
  assert.ok(written.length >= 1 && written.length < 3, written.join());
});

test("flow_control: the end of a stream needs no window", () => {
  const client = openClient({}, setting(Setting.INITIAL_WINDOW_SIZE, 0));
  const stream = client.open(POST);
  client.take();
  assert.equal(client.connection.sendData(stream, payload(1), 0, 1, false), 0);
  client.connection.endStream(stream);
  assert.deepEqual(client.frames().map(describe), ["DATA 1 0 end"]);
  client.receive(update(1, 10));
  assert.deepEqual(client.log(), [], "nothing is left to write");
});

test("flow_control: SETTINGS move the windows of open streams, below zero too", () => {
  const client = openClient({}, setting(Setting.INITIAL_WINDOW_SIZE, 100));
  const stream = client.open(POST);
  client.connection.sendData(stream, payload(80), 0, 80, false);
  client.receive(frame(FrameType.SETTINGS, 0, 0, setting(Setting.INITIAL_WINDOW_SIZE, 50)));
  assert.equal(client.connection.reserveData(stream, 10), 0, "the window is -30");
  client.receive(update(1, 30));
  assert.equal(client.connection.reserveData(stream, 10), 0, "the window is 0");
  client.receive(frame(FrameType.SETTINGS, 0, 0, setting(Setting.INITIAL_WINDOW_SIZE, 57)));
  assert.deepEqual(client.log(), ["writable 1"]);
  assert.equal(client.connection.reserveData(stream, 10), 7);
});

test("flow_control: a reset stream waits no longer", () => {
  const client = openClient({}, setting(Setting.INITIAL_WINDOW_SIZE, 0));
  const stream = client.open(POST);
  client.connection.sendData(stream, payload(1), 0, 1, false);
  client.receive(concat(frame(FrameType.RST_STREAM, 0, 1, u32(8)), update(0, 5)));
  client.receive(frame(FrameType.SETTINGS, 0, 0, setting(Setting.INITIAL_WINDOW_SIZE, 50)));
  assert.deepEqual(client.log(), ["reset 1 8 by peer", "closed 1"]);
});

test("flow_control: a stream that closes while it waits for the connection is not told to write", () => {
  const client = openClient({}, setting(Setting.INITIAL_WINDOW_SIZE, 1 << 20));
  const streams = [client.open(POST), client.open(POST), client.open(POST)];
  client.connection.sendData(streams[0], payload(65_535), 0, 65_535, false);
  for (const stream of streams) client.connection.sendData(stream, payload(1), 0, 1, false);
  client.receive(frame(FrameType.RST_STREAM, 0, 3, u32(8)));
  client.receive(update(0, 5));
  assert.deepEqual(client.log(), ["reset 3 8 by peer", "closed 3", "writable 1", "writable 5"]);
});

test("flow_control: a peer that sends more than the stream's window is cut off that stream", () => {
  const server = openServer({ initialWindowBytes: 65_535, connectionWindowBytes: 1 << 20 });
  server.autoConsume = false;
  server.receive(headers(1, CONNECT));
  for (let i = 0; i < 4; i++) server.receive(data(1, 16_000));
  server.receive(data(1, 1536));
  assert.deepEqual(server.log().slice(1), ["reset 1 3", "closed 1"]);
  assert.deepEqual(server.frames().map(describe), ["RST_STREAM 1 code 3"]);
});

test("flow_control: a peer that sends more than the connection's window is cut off", () => {
  const server = openServer({ initialWindowBytes: 1 << 20 });
  server.autoConsume = false;
  server.receive(headers(1, CONNECT));
  for (let i = 0; i < 4; i++) server.receive(data(1, 16_000));
  server.receive(data(1, 1536));
  assert.equal(server.log().at(-1), "failed 3");
});

test("flow_control: a window below the RFC's binds the peer from its acknowledgement on", () => {
  const server = new Peer(options("server", { initialWindowBytes: 1000 }));
  server.autoConsume = false;
  server.receive(
    concat(
      ascii("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
      frame(FrameType.SETTINGS, 0, 0),
      headers(1, CONNECT),
      data(1, 800),
    ),
  );
  server.receive(headers(3, CONNECT));
  server.receive(data(3, 5000));
  server.receive(SETTINGS_ACK);
  server.receive(data(1, 200));
  assert.ok(!server.log().some((event) => event.startsWith("reset")));
  server.receive(data(1, 1));
  server.receive(data(3, 1));
  assert.deepEqual(server.log(), ["reset 1 3", "closed 1", "reset 3 3", "closed 3"]);
  server.receive(concat(headers(5, CONNECT), data(5, 1000), data(5, 1)));
  assert.deepEqual(server.log().slice(1), ["reset 5 3", "closed 5"], "streams opened after it too");
});

test("flow_control: gives window back in batches of half, and not to a stream that ended", () => {
  const server = openServer({ initialWindowBytes: 30_000, connectionWindowBytes: 65_535 });
  server.receive(headers(1, CONNECT));
  server.receive(data(1, 14_000));
  assert.deepEqual(server.frames().map(describe), []);
  server.receive(data(1, 1000));
  assert.deepEqual(server.frames().map(describe), ["WINDOW_UPDATE 1 by 15000"]);
  server.receive(data(1, 14_999));
  server.receive(frame(FrameType.DATA, 1, 1, new Uint8Array(3000)));
  assert.deepEqual(server.frames().map(describe), ["WINDOW_UPDATE 0 by 32999"]);
});

test("flow_control: nothing comes back before it is consumed", () => {
  const server = openServer();
  server.autoConsume = false;
  server.receive(headers(1, CONNECT));
  for (let i = 0; i < 4; i++) server.receive(data(1, 16_000));
  assert.deepEqual(server.frames().map(describe), []);
  server.stream(1).consume(64_000);
  assert.deepEqual(server.frames().map(describe), ["WINDOW_UPDATE 0 by 64000", "WINDOW_UPDATE 1 by 64000"]);
  server.stream(1).consume(64_000);
  assert.deepEqual(server.frames().map(describe), [], "twice does not count");
});

test("flow_control: stalled streams do not keep the connection's window from the others", () => {
  const server = openServer({ initialWindowBytes: 60_000, connectionWindowBytes: 65_535 });
  server.autoConsume = false;
  server.receive(concat(headers(1, CONNECT), headers(3, CONNECT)));
  for (let i = 0; i < 4; i++) server.receive(data(1, 14_000));
  // Stream 1 is never read. 9,535 bytes are left for stream 3, again and again.
  for (let i = 0; i < 20; i++) {
    server.receive(data(3, 9000));
    server.stream(3).consume(9000);
  }
  assert.equal(server.connection.failedWith, -1);
  assert.ok(server.frames().some((sent) => describe(sent) === "WINDOW_UPDATE 0 by 9000"));
});

test("flow_control: what a closed stream held of the connection's window comes back", () => {
  const server = openServer({ initialWindowBytes: 60_000 });
  server.autoConsume = false;
  server.receive(headers(1, CONNECT));
  for (let i = 0; i < 4; i++) server.receive(data(1, 14_000));
  server.take();
  server.connection.resetStream(server.stream(1), 8);
  assert.deepEqual(server.frames().map(describe), ["RST_STREAM 1 code 8", "WINDOW_UPDATE 0 by 56000"]);
});

test("flow_control: the rest of a frame whose stream is reset in its middle comes back too", () => {
  const server = openServer();
  server.autoConsume = false;
  for (let id = 1; id < 17; id += 2) {
    const bytes = data(id, 16_000);
    server.receive(headers(id, CONNECT));
    server.connection.receive(bytes, 0, 5000, 0);
    server.connection.resetStream(server.stream(id), 8);
    server.connection.receive(bytes, 5000, bytes.length, 0);
  }
  assert.equal(server.connection.failedWith, -1, "128,000 bytes went over a window of 65,535");
});

test("flow_control: padding counts, and comes back by itself", () => {
  const server = openServer({ initialWindowBytes: 1000, connectionWindowBytes: 65_535 });
  server.autoConsume = false;
  server.receive(headers(1, CONNECT));
  const padded = frame(FrameType.DATA, 8, 1, concat(new Uint8Array([199]), new Uint8Array(199 + 300)));
  server.receive(padded);
  server.receive(padded);
  assert.deepEqual(server.frames().map(describe), []);
  server.stream(1).consume(100);
  assert.deepEqual(server.frames().map(describe), ["WINDOW_UPDATE 1 by 500"]);
});

test("flow_control: any mix of sizes, windows and consumption arrives whole and in order", () => {
  const scenario = fc.record({
    window: fc.integer({ min: 1000, max: 70_000 }),
    sizes: fc.array(fc.array(fc.integer({ min: 1, max: 40_000 }), { minLength: 1, maxLength: 4 }), {
      minLength: 1,
      maxLength: 5,
    }),
    bite: fc.integer({ min: 1000, max: 30_000 }),
  });
  fc.assert(
    fc.property(scenario, ({ window, sizes, bite }) => {
      const { client, server } = pair({ initialWindowBytes: window, maxOutputBytes: 20_000 });
      server.autoConsume = false;
      const bodies = sizes.map((parts, i) => payload(parts.reduce((sum, size) => sum + size, 0)).fill(0x61 + i));
      const sent = new Map<number, number>();
      const push = (id: number): void => {
        const body = bodies[id >> 1];
        const from = sent.get(id) ?? 0;
        if (from >= body.length) return;
        sent.set(id, from + client.connection.sendData(client.stream(id), body, from, body.length, true));
      };
      client.on.writable = (stream) => push(stream.id);
      for (const _ of bodies) push(client.open(CONNECT).id);
      for (
        let round = 0;
        round < 100_000 && client.connection.openStreams + server.connection.openStreams > 0;
        round++
      ) {
        exchange(client, server);
        for (const stream of server.streams.values()) {
          if (stream.isClosed) continue;
          stream.consume(bite);
          if (!stream.remoteEnded) continue;
          if (!stream.localEnded) {
            server.connection.respond(stream, OK, true);
          }
        }
      }
      for (const [i, body] of bodies.entries()) {
        assert.equal(server.stream(2 * i + 1).user.data.length, body.length);
        assert.ok(server.stream(2 * i + 1).user.data === String.fromCharCode(0x61 + i).repeat(body.length));
      }
      assert.equal(client.pool.outBytes + server.pool.outBytes, 0);
    }),
    { numRuns: 30 },
  );
});
