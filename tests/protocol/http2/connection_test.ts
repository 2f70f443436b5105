import { describe as suite, test } from "node:test";
import assert from "node:assert/strict";
import { ErrorCode, Http2Connection } from "../../../src/protocol/http2/mod.ts";
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
  parseFrames,
  Peer,
  POST,
  setting,
} from "./harness.ts";

suite("connection: opening", () => {
  test("connection: a client sends the preface, SETTINGS and the connection window", () => {
    const client = new Peer(options("client", { initialWindowBytes: 4 << 20, connectionWindowBytes: 16 << 20 }));
    const bytes = client.take();
    assert.deepEqual(bytes.slice(0, PREFACE.length), PREFACE);
    const [settings, update] = parseFrames(bytes);
    assert.deepEqual(settings.payload.slice(0, 6), setting(Setting.INITIAL_WINDOW_SIZE, 4 << 20));
    assert.deepEqual(settings.payload.slice(-6), setting(Setting.ENABLE_PUSH, 0));
    assert.equal(describe(update), `WINDOW_UPDATE 0 by ${(16 << 20) - 65_535}`);
  });

  test("connection: a server announces its streams, and extended CONNECT where it is on", () => {
    const server = new Peer(options("server", { maxConcurrentStreams: 7, enableConnectProtocol: true }));
    const [settings] = server.frames();
    const text = settings.payload.toString();
    assert.ok(text.includes(setting(Setting.MAX_CONCURRENT_STREAMS, 7).toString()));
    assert.ok(text.includes(setting(Setting.ENABLE_CONNECT_PROTOCOL, 1).toString()));
  });

  test("connection: acknowledges SETTINGS and assumes 100 streams until told", () => {
    const client = new Peer(options("client"));
    client.take();
    assert.equal(client.connection.peerMaxConcurrent, 100);
    client.receive(frame(FrameType.SETTINGS, 0, 0, setting(Setting.MAX_CONCURRENT_STREAMS, 3)));
    assert.deepEqual(client.events, ["settings"]);
    assert.deepEqual(client.frames().map(describe), ["SETTINGS ack"]);
    assert.equal(client.connection.peerMaxConcurrent, 3);
  });

  test("connection: a peer that sets no limit of streams has none", () => {
    const client = openClient();
    assert.ok(client.connection.peerMaxConcurrent > 1e6);
    client.receive(frame(FrameType.SETTINGS, 0, 0, setting(Setting.MAX_CONCURRENT_STREAMS, 5)));
    client.receive(frame(FrameType.SETTINGS, 0, 0));
    assert.equal(client.connection.peerMaxConcurrent, 5, "a later SETTINGS changes only what it names");
  });

  test("connection: refuses options that HTTP/2 does not allow", () => {
    const bad = [{ maxFrameBytes: 16_383 }, { initialWindowBytes: 2 ** 31 }, { maxFrameBytes: 1 << 24 }];
    for (const changes of bad) assert.throws(() => new Peer(options("server", changes)), RangeError);
  });
});

suite("connection: exchanges", () => {
  test("connection: a request and its response, with bodies and trailers both ways", () => {
    const { client, server } = pair();
    server.on.headers = (stream) => {
      server.connection.informational(stream, [":status", "103", "link", "x"]);
      server.connection.respond(stream, OK, false);
    };
    server.on.trailers = (stream) => {
      server.connection.sendData(stream, ascii("answer"), 0, 6, false);
      server.connection.sendTrailers(stream, ["grpc-status", "0"]);
    };
    const stream = client.open(POST);
    assert.equal(client.connection.sendData(stream, ascii("question"), 0, 8, false), 8);
    client.connection.sendTrailers(stream, ["x-sum", "1"]);
    exchange(client, server);
    assert.deepEqual(server.log(), [
      "headers 1 :method=POST,:scheme=https,:authority=a,:path=/",
      "trailers 1 x-sum=1",
      "closed 1",
    ]);
    assert.equal(server.stream(1).user.data, "question");
    assert.deepEqual(client.log(), [
      "headers 1 :status=103,link=x",
      "headers 1 :status=200",
      "trailers 1 grpc-status=0",
      "closed 1",
    ]);
    assert.equal(stream.user.data, "answer");
  });

  test("connection: a tunnel half-closes in either order", () => {
    for (const clientFirst of [true, false]) {
      const { client, server } = pair();
      server.on.headers = (stream) => server.connection.respond(stream, OK, false);
      const stream = client.open(CONNECT);
      exchange(client, server);
      const ends = [
        () => client.connection.endStream(stream),
        () => server.connection.endStream(server.stream(1)),
      ];
      if (!clientFirst) ends.reverse();
      ends[0]();
      exchange(client, server);
      assert.equal(stream.localEnded, clientFirst);
      assert.equal(stream.remoteEnded, !clientFirst);
      assert.equal(client.connection.openStreams, 1);
      // The other half still carries data.
      const [from, to] = clientFirst ? [server, client] : [client, server];
      from.connection.sendData(from.stream(1), ascii("late"), 0, 4, false);
      exchange(client, server);
      assert.equal(to.stream(1).user.data, "late");
      ends[1]();
      exchange(client, server);
      assert.equal(client.connection.openStreams + server.connection.openStreams, 0);
      assert.ok(stream.isClosed);
      assert.equal(client.log().filter((event) => event === "closed 1").length, 1);
    }
  });

  test("connection: a reset reaches the peer once, and both forget the stream", () => {
    const { client, server } = pair();
    const stream = client.open(CONNECT);
    exchange(client, server);
    client.connection.resetStream(stream, ErrorCode.CANCEL);
    client.connection.resetStream(stream, ErrorCode.CANCEL);
    exchange(client, server);
    assert.deepEqual(client.log(), ["closed 1"]);
    assert.deepEqual(server.log().slice(1), ["reset 1 8 by peer", "closed 1"]);
    assert.equal(client.connection.openStreams + server.connection.openStreams, 0);
  });

  test("connection: frames that were on their way when we reset are ignored, and their window comes back", () => {
    const server = openServer();
    server.receive(headers(1, POST));
    server.connection.resetStream(server.stream(1), ErrorCode.CANCEL);
    server.take();
    server.log();
    for (let i = 0; i < 4; i++) server.receive(frame(FrameType.DATA, 0, 1, new Uint8Array(10_000)));
    server.receive(headers(1, ["x-late", "trailer"], END));
    assert.deepEqual(server.log(), []);
    assert.deepEqual(server.frames().map(describe), ["WINDOW_UPDATE 0 by 40000"]);
  });

  test("connection: late frames are ignored also when more streams were reset than are remembered", () => {
    const server = openServer();
    for (let id = 1; id < 1001; id += 2) {
      server.receive(headers(id, POST));
      server.connection.resetStream(server.stream(id), ErrorCode.CANCEL);
    }
    server.take();
    server.log();
    server.receive(concat(frame(FrameType.DATA, 0, 1, ascii("late")), headers(3, ["x-late", "trailer"], END)));
    assert.deepEqual(server.log(), []);
    assert.equal(server.take().length, 0);
  });

  test("connection: calls on a closed stream do nothing", () => {
    const { client, server } = pair();
    const stream = client.open(CONNECT);
    exchange(client, server);
    const theirs = server.stream(1);
    client.connection.resetStream(stream, ErrorCode.CANCEL);
    exchange(client, server);
    server.connection.respond(theirs, OK, false);
    server.connection.sendTrailers(theirs, ["a", "b"]);
    server.connection.endStream(theirs);
    server.connection.resetStream(theirs, ErrorCode.CANCEL);
    server.connection.commitData(theirs, 0, true);
    theirs.consume(100);
    assert.equal(server.connection.reserveData(theirs, 100), 0);
    assert.equal(server.connection.sendData(theirs, ascii("x"), 0, 1, true), 0);
    assert.equal(server.take().length, 0);
  });

  test("connection: misuse by the owner throws", () => {
    const { client, server } = pair();
    const stream = client.open(CONNECT);
    exchange(client, server);
    assert.throws(() => client.connection.respond(stream, OK, false), /client does not respond/);
    assert.throws(() => server.connection.openStream(GET, true, { data: "" }), /server does not open/);
    assert.throws(() => server.connection.reserveData(server.stream(1), 1), /DATA before/);
    server.connection.respond(server.stream(1), OK, false);
    assert.throws(() => server.connection.respond(server.stream(1), OK, false), /answered already/);
  });

  test("connection: opens no more streams than the peer takes, and says when it can", () => {
    const client = openClient({}, setting(Setting.MAX_CONCURRENT_STREAMS, 2));
    client.open(GET, true);
    client.open(GET, true);
    assert.equal(client.connection.canOpen, false);
    assert.equal(client.connection.openStream(GET, true, { data: "" }), undefined);
    client.receive(headers(1, OK, END));
    assert.equal(client.connection.canOpen, true);
    assert.equal(client.open(GET, true).id, 5);
  });

  test("connection: a header block larger than a frame is spread over CONTINUATION, and read back whole", () => {
    const { client, server } = pair({ maxHeaderListBytes: 262_144 });
    const value = Array.from({ length: 50_000 }, (_, i) => String.fromCharCode(97 + i * 7 % 26)).join("");
    client.open([...GET, "x-large", value, "x-after", "1"], true);
    const bytes = client.take();
    const shown = parseFrames(bytes).map((sent) => [sent.type, sent.flags, sent.payload.length > 16_384]);
    assert.deepEqual(shown, [
      [FrameType.HEADERS, Flag.END_STREAM, false],
      [FrameType.CONTINUATION, 0, false],
      [FrameType.CONTINUATION, 0, false],
      [FrameType.CONTINUATION, Flag.END_HEADERS, false],
    ]);
    server.receive(bytes);
    assert.ok(server.events[0].endsWith(`${value},x-after=1 end`));
    assert.equal(server.pool.outBytes, 0);
  });

  test("connection: content-length does not count where there is no content", () => {
    const cases: [string[], string][] = [
      [[":method", "HEAD", ":scheme", "https", ":path", "/"], "200"],
      [GET, "304"],
      [GET, "204"],
    ];
    for (const [request, status] of cases) {
      const client = openClient();
      client.open(request, true);
      client.receive(headers(1, [":status", status, "content-length", "5"], END));
      assert.deepEqual(client.log(), [`headers 1 :status=${status},content-length=5 end`, "closed 1"]);
    }
    const tunnel = openClient();
    tunnel.open(CONNECT);
    tunnel.receive(
      concat(headers(1, [...OK, "content-length", "5"]), frame(FrameType.DATA, 0, 1, ascii("0123456789"))),
    );
    assert.equal(tunnel.stream(1).user.data, "0123456789");
  });

  test("connection: takes an ordinary response to a refused CONNECT, trailers included", () => {
    const client = openClient();
    client.open(CONNECT);
    client.receive(headers(1, [":status", "503", "content-length", "4"]));
    client.receive(concat(frame(FrameType.DATA, 0, 1, ascii("busy")), headers(1, ["x-why", "full"], END)));
    assert.deepEqual(client.log(), ["headers 1 :status=503,content-length=4", "trailers 1 x-why=full"]);
  });

  test("connection: takes extended CONNECT only where it was offered", () => {
    const request = [
      ":method",
      "CONNECT",
      ":protocol",
      "websocket",
      ":scheme",
      "https",
      ":path",
      "/",
      ":authority",
      "a",
    ];
    const server = openServer({ enableConnectProtocol: true });
    server.receive(headers(1, request));
    assert.equal(server.log().length, 1);
    const plain = openServer();
    plain.receive(headers(1, request));
    assert.deepEqual(plain.frames().map(describe), ["RST_STREAM 1 code 1"]);
    assert.match(plain.connection.lastFault, /not offered/);
  });

  test("connection: ignores frames and settings of unknown type", () => {
    const server = openServer({}, setting(0x99, 5));
    server.receive(concat(frame(0xbb, 0xff, 77, new Uint8Array(100)), headers(1, GET, END)));
    assert.equal(server.log().length, 1);
  });

  test("connection: names the fields that a forwarder must not index", () => {
    const server = openServer();
    const names: string[][] = [];
    server.on.headers = () => names.push([...server.connection.sensitiveNames]);
    server.receive(frame(FrameType.HEADERS, END, 1, concat(block(...GET), new Uint8Array([0x10, 1, 0x78, 1, 0x79]))));
    server.receive(headers(3, GET, END));
    assert.deepEqual(names, [["x"], []]);
  });
});

suite("connection: the end", () => {
  test("connection: the end of the transport resets every stream and fails once", () => {
    const { client, server } = pair();
    client.open(CONNECT);
    client.open(CONNECT);
    exchange(client, server);
    server.log();
    server.connection.receivedEof();
    server.connection.receivedEof();
    assert.deepEqual(server.log(), ["reset 1 8 by peer", "closed 1", "reset 3 8 by peer", "closed 3", "failed 0"]);
    assert.equal(server.connection.nextDeadlineMs(), Infinity);
    assert.equal(server.take().length, 0, "nobody is there to read a GOAWAY");
  });

  test("connection: after a failure nothing is read, sent or opened", () => {
    const client = openClient({ pingIntervalMs: 100 });
    const stream = client.open(CONNECT);
    client.take();
    client.receive(frame(FrameType.PING, 0, 3, new Uint8Array(8)));
    assert.deepEqual(client.log(), ["reset 1 1", "closed 1", "failed 1"]);
    assert.deepEqual(client.frames().map(describe), ["GOAWAY last 0 code 1"]);
    client.receive(frame(FrameType.PING, 0, 0, new Uint8Array(8)));
    client.connection.resetStream(stream, 8);
    client.connection.goaway(0);
    client.connection.tick(1e9);
    assert.equal(client.connection.openStream(GET, true, { data: "" }), undefined);
    assert.equal(client.take().length, 0);
    assert.equal(client.connection.failedWith, ErrorCode.PROTOCOL_ERROR);
    assert.deepEqual(client.log(), []);
  });

  test("connection: what follows a fault in the same chunk is not read", () => {
    const server = openServer();
    server.receive(concat(frame(FrameType.PING, 0, 3, new Uint8Array(8)), headers(1, GET, END), headers(3, GET, END)));
    assert.deepEqual(server.log(), ["failed 1"]);
    assert.deepEqual(server.frames().map(describe), ["GOAWAY last 0 code 1"]);
  });

  test("connection: a handler may end everything from inside an event", () => {
    const server = openServer();
    server.on.headers = (stream) => {
      if (stream.id === 1) server.connection.resetStream(stream, ErrorCode.CANCEL);
      else server.connection.receivedEof();
    };
    server.receive(concat(headers(1, GET, END), headers(3, POST), headers(5, GET, END)));
    assert.deepEqual(server.log().filter((event) => !event.startsWith("headers")), [
      "closed 1",
      "reset 3 8 by peer",
      "closed 3",
      "failed 0",
    ]);
  });

  test("connection: idle streams are small", () => {
    const server = openServer({ maxConcurrentStreams: 20_000 });
    const request = headers(1, CONNECT);
    server.on.headers = (stream) => server.connection.respond(stream, OK, false);
    const keys = Object.keys((server.receive(request), server.stream(1)));
    // One slot each, plus a header and a map entry: far below 300 bytes as long as nothing is added thoughtlessly.
    assert.ok(keys.length <= 14, keys.join());
    assert.ok(server.connection instanceof Http2Connection);
  });
});
