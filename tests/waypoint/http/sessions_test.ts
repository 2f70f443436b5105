/** Both ends of both HTTPs, paired in every way, with a relay of the engine's own interfaces between them. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import { BufferPool } from "../../../src/net/buffer_pool.ts";
import type {
  BodyReceiver,
  ClientConnection,
  ClientExchange,
  ExchangeCut,
  FieldList,
  RequestHead,
  ResponseHead,
  ResponseReceiver,
  ServerExchange,
} from "../../../src/waypoint/http/exchange.ts";
import { Http1Client } from "../../../src/waypoint/http/http1_client.ts";
import { Http1Server } from "../../../src/waypoint/http/http1_server.ts";
import { Http2Client } from "../../../src/waypoint/http/http2_client.ts";
import { Http2Server } from "../../../src/waypoint/http/http2_server.ts";
import { memoryPair, type MemoryStream, run, TestTiming } from "../support/memory_stream.ts";

const LIMITS = { maxHeadBytes: 60 * 1024, maxFields: 100, acceptHttp10: true, keepSpelling: false };
const HTTP2 = { maxHeaderListBytes: 60 * 1024, maxConcurrentStreams: 100, pingIntervalMs: 0, pingTimeoutMs: 0 };
const UPGRADES = new Set(["websocket"]);

type Version = "1.1" | "2";

interface Server {
  readonly requests: ServerExchange[];
  readonly log: string[];
}

function serve(
  version: Version,
  stream: MemoryStream,
  timing: TestTiming,
  onRequest: (exchange: ServerExchange) => void,
): Server & { drain(): void } {
  const requests: ServerExchange[] = [];
  const log: string[] = [];
  const owner = {
    request(exchange: ServerExchange) {
      requests.push(exchange);
      onRequest(exchange);
    },
    refused: ({ status, detail }: { status: number; detail: string }) => void log.push(`refused ${status} ${detail}`),
    closed: (reason: string) => void log.push(`closed: ${reason}`),
  };
  const options = {
    limits: LIMITS,
    serverName: "test",
    idleTimeoutMs: 60_000,
    headersTimeoutMs: 5_000,
    upgrades: UPGRADES,
  };
  const session = version === "1.1"
    ? new Http1Server(stream, options, timing, owner)
    : new Http2Server(stream, { ...HTTP2, upgrades: UPGRADES }, new BufferPool(), timing, owner);
  return { requests, log, drain: () => session.drain() };
}

function connect(version: Version, stream: MemoryStream, timing: TestTiming, log: string[]): ClientConnection {
  const owner = { availableChanged() {}, closed: (_: ClientConnection, reason: string) => void log.push(reason) };
  return version === "1.1"
    ? new Http1Client(stream, LIMITS, owner)
    : new Http2Client(stream, HTTP2, new BufferPool(), timing, owner);
}

function request(head: Partial<RequestHead>): RequestHead {
  return {
    method: "GET",
    path: "/",
    authority: "shop.example",
    scheme: "http",
    version: "1.1",
    headers: [],
    upgrade: "",
    contentLength: 0,
    expectsContinue: false,
    wireBytes: 0,
    ...head,
  };
}

/** What came of one request. */
class Answer implements ResponseReceiver {
  head_: ResponseHead | undefined;
  interim: number[] = [];
  body = "";
  trailers_: FieldList | undefined;
  ended = false;
  cut: ExchangeCut | undefined;
  exchange: ClientExchange | undefined;

  informational(status: number): void {
    this.interim.push(status);
  }
  head(head: ResponseHead, ended: boolean): void {
    this.head_ = head;
    this.ended = ended;
  }
  data(bytes: Uint8Array, start: number, end: number, ended: boolean): void {
    this.body += Buffer.from(bytes.subarray(start, end)).toString("latin1");
    this.exchange?.consume(end - start);
    this.ended = ended;
  }
  trailers(fields: FieldList): void {
    this.trailers_ = fields;
    this.ended = true;
  }
  writable(): void {}
  reset(cause: ExchangeCut): void {
    this.cut = cause;
  }
}

/** Collects a request's body, then calls back with it. */
function collect(exchange: ServerExchange, done: (body: string, trailers: FieldList | undefined) => void): void {
  let body = "";
  if (exchange.bodyEnded) return done(body, undefined);
  const receiver: BodyReceiver = {
    data(bytes, start, end, ended) {
      body += Buffer.from(bytes.subarray(start, end)).toString("latin1");
      exchange.consume(end - start);
      if (ended) done(body, undefined);
    },
    trailers: (fields) => done(body, fields),
    writable() {},
    reset() {},
  };
  exchange.setReceiver(receiver);
}

const bytesOf = (text: string): Uint8Array => Buffer.from(text, "latin1");

function answerWith(exchange: ServerExchange, status: number, body: string, headers: FieldList = []): void {
  exchange.respond({ status, headers }, body === "");
  if (body !== "") exchange.data(bytesOf(body), 0, body.length, true);
}

for (const version of ["1.1", "2"] as const) {
  const name = `http ${version}`;

  test(`${name}: requests and answers with bodies of every framing, in any split`, () => {
    for (const piece of [1, 7, 1 << 20]) {
      const timing = new TestTiming();
      const [left, right] = memoryPair();
      const server = serve(version, right, timing, (exchange) => {
        collect(exchange, (body, trailers) => {
          const { method, path, authority, headers } = exchange.head;
          const text = JSON.stringify({ method, path, authority, headers: headers.slice(0, 2), body, trailers });
          answerWith(exchange, 200, text, ["x-a", "1", "set-cookie", "a=b", "set-cookie", "c=d"]);
        });
      });
      const closed: string[] = [];
      const client = connect(version, left, timing, closed);
      const cases: readonly [Partial<RequestHead>, string, FieldList | undefined][] = [
        [{ path: "/a?b=c", headers: ["x-one", "1"] }, "", undefined],
        [{ method: "POST", headers: ["content-length", "5"], contentLength: 5 }, "hello", undefined],
        [{ method: "PUT", headers: ["x-chunked", "1"], contentLength: -1 }, "x".repeat(3000), undefined],
        [{ method: "POST", headers: ["te", "trailers"], contentLength: -1 }, "with trailers", ["x-t", "1"]],
      ];
      for (const [head, body, trailers] of cases) {
        const answer = new Answer();
        answer.exchange = client.request(request(head), body === "", answer);
        assert.ok(answer.exchange, closed.join());
        if (body !== "") answer.exchange.data(bytesOf(body), 0, body.length, trailers === undefined);
        if (trailers !== undefined) answer.exchange.trailers(trailers);
        run(timing, [left, right], piece);
        assert.equal(answer.head_?.status, 200);
        assert.deepEqual(answer.head_?.headers.slice(0, 6), ["x-a", "1", "set-cookie", "a=b", "set-cookie", "c=d"]);
        const seen = JSON.parse(answer.body);
        assert.equal(seen.body, body);
        assert.equal(seen.method, head.method ?? "GET");
        assert.equal(seen.authority, "shop.example");
        assert.deepEqual(seen.trailers, trailers);
        assert.equal(answer.ended, true);
        assert.ok(client.available, closed.join());
      }
      assert.equal(server.requests.length, cases.length);
      assert.equal(left.outstanding, 0, "credit of the client's stream");
      assert.equal(right.outstanding, 0, "credit of the server's stream");
    }
  });

  test(`${name}: gRPC's trailers come through, and answers of trailers alone`, () => {
    const timing = new TestTiming();
    const [left, right] = memoryPair();
    serve(version, right, timing, (exchange) => {
      exchange.respond({ status: 200, headers: ["content-type", "application/grpc"] }, false);
      exchange.data(bytesOf("msg"), 0, 3, false);
      exchange.trailers(["grpc-status", "0"]);
    });
    const answer = new Answer();
    answer.exchange = connect(version, left, timing, []).request(request({ method: "POST" }), true, answer);
    run(timing, [left, right]);
    assert.equal(answer.body, "msg");
    assert.deepEqual(answer.trailers_, ["grpc-status", "0"]);
  });

  test(`${name}: 100-continue and early hints pass before the answer`, () => {
    const timing = new TestTiming();
    const [left, right] = memoryPair();
    serve(version, right, timing, (exchange) => {
      assert.equal(exchange.head.expectsContinue, true);
      exchange.informational(100, []);
      collect(exchange, (body) => answerWith(exchange, 200, body));
    });
    const answer = new Answer();
    const head = request({
      method: "POST",
      headers: ["expect", "100-continue", "content-length", "2"],
      contentLength: 2,
    });
    answer.exchange = connect(version, left, timing, []).request(head, false, answer);
    run(timing, [left, right]);
    assert.deepEqual(answer.interim, [100]);
    answer.exchange?.data(bytesOf("ok"), 0, 2, true);
    run(timing, [left, right]);
    assert.equal(answer.body, "ok");
  });

  test(`${name}: HEAD, 204 and 304 have no body, whatever their length says`, () => {
    const timing = new TestTiming();
    const [left, right] = memoryPair();
    const statuses = [200, 204, 304];
    serve(version, right, timing, (exchange) => {
      const status = statuses.shift() as number;
      exchange.respond({ status, headers: status === 204 ? [] : ["content-length", "10"] }, true);
    });
    const client = connect(version, left, timing, []);
    for (const method of ["HEAD", "GET", "GET"]) {
      const answer = new Answer();
      answer.exchange = client.request(request({ method }), true, answer);
      run(timing, [left, right]);
      assert.equal(answer.ended, true);
      assert.equal(answer.body, "");
      assert.ok(client.available);
    }
  });

  test(`${name}: an upgrade turns into bytes both ways, with half-close`, () => {
    const timing = new TestTiming();
    const [left, right] = memoryPair();
    serve(version, right, timing, (exchange) => {
      assert.equal(exchange.head.upgrade, "websocket");
      assert.equal(exchange.head.method, "GET");
      let ended = false;
      exchange.setReceiver({
        data(bytes, start, end, end_) {
          exchange.data(bytes, start, end, false);
          exchange.consume(end - start);
          if (end_ && !ended) {
            ended = true;
            exchange.data(new Uint8Array(0), 0, 0, true);
          }
        },
        trailers() {},
        writable() {},
        reset() {},
      });
      exchange.respond({ status: 101, headers: [] }, false);
      exchange.data(bytesOf("hi "), 0, 3, false);
    });
    const answer = new Answer();
    answer.exchange = connect(version, left, timing, []).request(
      request({ upgrade: "websocket", contentLength: -1 }),
      false,
      answer,
    );
    run(timing, [left, right]);
    assert.equal(answer.head_?.status, 101);
    answer.exchange?.data(bytesOf("echo"), 0, 4, false);
    run(timing, [left, right]);
    assert.equal(answer.body, "hi echo");
    answer.exchange?.data(new Uint8Array(0), 0, 0, true);
    run(timing, [left, right]);
    assert.equal(answer.ended, true);
  });

  test(`${name}: what belongs to one connection stays there`, () => {
    const timing = new TestTiming();
    const [left, right] = memoryPair();
    const server = serve(version, right, timing, (exchange) => {
      exchange.respond({
        status: 200,
        headers: ["connection", "x-hop", "x-hop", "1", "keep-alive", "5", "x-stays", "1"],
      }, true);
    });
    const answer = new Answer();
    const headers = [
      "connection",
      "x-private, authorization",
      "x-private",
      "1",
      "authorization",
      "t",
      "te",
      "gzip",
      "x-stays",
      "1",
    ];
    answer.exchange = connect(version, left, timing, []).request(request({ headers }), true, answer);
    run(timing, [left, right]);
    assert.deepEqual(server.requests[0].head.headers, ["authorization", "t", "x-stays", "1"]);
    const kept = answer.head_?.headers.filter((name) => name.startsWith("x-"));
    assert.deepEqual(kept, ["x-stays"]);
  });

  test(`${name}: an answer that is cut is never taken for a whole one`, () => {
    const timing = new TestTiming();
    const [left, right] = memoryPair();
    serve(version, right, timing, (exchange) => {
      exchange.respond({ status: 200, headers: [] }, false);
      exchange.data(bytesOf("half"), 0, 4, false);
      exchange.reset({ kind: "cancelled", refused: false, detail: "" });
    });
    const answer = new Answer();
    answer.exchange = connect(version, left, timing, []).request(request({}), true, answer);
    run(timing, [left, right]);
    assert.equal(answer.ended, false);
    assert.ok(answer.cut, "the client is told");
  });

  test(`${name}: a client that goes away ends its request`, () => {
    const timing = new TestTiming();
    const [left, right] = memoryPair();
    let cut: ExchangeCut | undefined;
    serve(version, right, timing, (exchange) => {
      exchange.setReceiver({ data() {}, trailers() {}, writable() {}, reset: (cause) => void (cut = cause) });
    });
    connect(version, left, timing, []).request(request({ method: "POST", contentLength: -1 }), false, new Answer());
    run(timing, [left, right]);
    left.reset();
    run(timing, [left, right]);
    assert.equal(cut?.kind, "connection lost");
  });

  test(`${name}: a drained server answers what it has and takes nothing new`, () => {
    const timing = new TestTiming();
    const [left, right] = memoryPair();
    const server = serve(version, right, timing, () => {});
    const closed: string[] = [];
    const client = connect(version, left, timing, closed);
    const answer = new Answer();
    answer.exchange = client.request(request({}), true, answer);
    run(timing, [left, right]);
    server.drain();
    run(timing, [left, right]);
    answerWith(server.requests[0], 200, "last");
    run(timing, [left, right]);
    assert.equal(answer.body, "last");
    assert.equal(client.available, false);
    assert.ok(server.log.some((line) => line.startsWith("closed")), server.log.join());
  });
}

test("http 1.1: a drained server that has nothing to do takes one more request, and says in its answer that it was the last", () => {
  const timing = new TestTiming();
  const [left, right] = memoryPair();
  const server = serve("1.1", right, timing, (exchange) => answerWith(exchange, 200, "ok"));
  const client = connect("1.1", left, timing, []);
  const ask = () => {
    const answer = new Answer();
    answer.exchange = client.request(request({}), true, answer);
    run(timing, [left, right]);
    return answer.body;
  };
  assert.equal(ask(), "ok");
  server.drain();
  run(timing, [left, right]);
  assert.equal(client.available, true, "nobody has told it yet");
  assert.deepEqual(server.log, []);
  assert.equal(ask(), "ok");
  assert.equal(client.available, false);
  assert.equal(server.log.length, 1);
});

test("http 1.1: a drained server waits for a silent client, but not long", () => {
  const timing = new TestTiming();
  const [, right] = memoryPair();
  const server = serve("1.1", right, timing, () => {});
  server.drain();
  timing.advance(4_999);
  assert.deepEqual(server.log, []);
  timing.advance(1);
  assert.deepEqual(server.log, ["closed: drained"]);
});

test("http 1.1: a drain in the middle of an answer that did not announce it waits for the next one", () => {
  const timing = new TestTiming();
  const [left, right] = memoryPair();
  const server = serve("1.1", right, timing, () => {});
  const client = connect("1.1", left, timing, []);
  const answer = new Answer();
  answer.exchange = client.request(request({}), true, answer);
  run(timing, [left, right]);
  const [exchange] = server.requests;
  exchange!.respond({ status: 200, headers: ["content-length", "2"] }, false);
  server.drain();
  exchange!.data(bytesOf("ok"), 0, 2, true);
  run(timing, [left, right]);
  assert.equal(answer.body, "ok");
  assert.equal(client.available, true);
  assert.deepEqual(server.log, []);
});

test("http 1.1: pipelined requests are answered in their order, each after the one before", () => {
  const timing = new TestTiming();
  const [left, right] = memoryPair();
  const bodies: string[] = [];
  const server = serve("1.1", right, timing, (exchange) => collect(exchange, (body) => void bodies.push(body)));
  const text =
    "GET /1 HTTP/1.1\r\nhost: x\r\n\r\nPOST /2 HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nabGET /3 HTTP/1.1\r\nhost: x\r\n\r\n";
  let seen = "";
  left.setSink({
    data: (bytes, start, end) => void (seen += Buffer.from(bytes.subarray(start, end)).toString("latin1")),
    writable() {},
    broken() {},
  });
  left.write(bytesOf(text), 0, text.length);
  run(timing, [left, right]);
  assert.deepEqual(server.requests.map(({ head }) => head.path), ["/1"]);
  assert.ok(right.outstanding > 0, "the credit of what waits is kept");
  answerWith(server.requests[0], 200, "one");
  run(timing, [left, right]);
  answerWith(server.requests[1], 200, "two");
  run(timing, [left, right]);
  assert.deepEqual(server.requests.map(({ head }) => head.path), ["/1", "/2", "/3"]);
  answerWith(server.requests[2], 404, "");
  run(timing, [left, right]);
  assert.match(seen, /one[\s\S]*two[\s\S]*HTTP\/1.1 404/);
  assert.deepEqual(bodies, ["", "ab", ""]);
  assert.equal(right.outstanding, 0);
});

test("http 1.1: what is no request is answered and ends the connection, without reaching anybody", () => {
  const cases: readonly [string, RegExp][] = [
    ["GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", /^HTTP\/1.1 400 [\s\S]*connection: close/],
    ["GET /\x01 HTTP/1.1\r\nhost: a\r\n\r\n", /^HTTP\/1.1 400 /],
    [`GET / HTTP/1.1\r\nhost: a\r\nx: ${"y".repeat(70_000)}\r\n\r\n`, /^HTTP\/1.1 431 /],
    ["GET foo HTTP/1.1\r\nhost: a\r\n\r\n", /^HTTP\/1.1 400 /],
    ["GET / HTTP/1.1\r\nhost: a b\r\n\r\n", /^HTTP\/1.1 400 /],
  ];
  for (const [text, wanted] of cases) {
    const timing = new TestTiming();
    const [left, right] = memoryPair();
    const server = serve("1.1", right, timing, () => assert.fail("reached the engine"));
    let seen = "";
    left.setSink({
      data: (bytes, start, end) => void (seen += Buffer.from(bytes.subarray(start, end)).toString("latin1")),
      writable() {},
      broken() {},
    });
    left.write(bytesOf(text), 0, text.length);
    run(timing, [left, right]);
    assert.match(seen, wanted);
    assert.equal(left.peerEnded, true, text);
    assert.match(server.log[0], /refused/);
  }
});

test("http 1.1: a request that stops in its head is timed out with 408, an idle connection quietly", () => {
  for (const [text, wanted] of [["GET / HTTP/1.1\r\nho", /^HTTP\/1.1 408 /], ["", /^$/]] as const) {
    const timing = new TestTiming();
    const [left, right] = memoryPair();
    serve("1.1", right, timing, () => {});
    let seen = "";
    left.setSink({
      data: (bytes, start, end) => void (seen += Buffer.from(bytes.subarray(start, end)).toString("latin1")),
      writable() {},
      broken() {},
    });
    if (text !== "") left.write(bytesOf(text), 0, text.length);
    run(timing, [left, right]);
    timing.advance(61_000);
    run(timing, [left, right]);
    assert.match(seen, wanted);
    assert.equal(left.peerEnded, true);
  }
});

test("http 1.1: an endpoint that answers unasked, or twice, is not believed", () => {
  const answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
  for (const [text, ask] of [[answer, false], [answer + answer, true]] as const) {
    const timing = new TestTiming();
    const [left, right] = memoryPair();
    const closed: string[] = [];
    const client = connect("1.1", left, timing, closed);
    if (ask) client.request(request({}), true, new Answer());
    right.setSink({ data() {}, writable() {}, broken() {} });
    right.write(bytesOf(text), 0, text.length);
    run(timing, [left, right]);
    assert.equal(client.available, false);
    assert.match(closed[0], /without a request|more than one/);
  }
});

test("http 1.1: a body longer or shorter than it said ends the connection", () => {
  for (const body of ["too long", "x"]) {
    const timing = new TestTiming();
    const [left, right] = memoryPair();
    serve("1.1", right, timing, (exchange) => {
      exchange.respond({ status: 200, headers: ["content-length", "3"] }, false);
      exchange.data(bytesOf(body), 0, body.length, true);
    });
    const answer = new Answer();
    const closed: string[] = [];
    answer.exchange = connect("1.1", left, timing, closed).request(request({}), true, answer);
    run(timing, [left, right]);
    assert.equal(answer.ended, false, body);
    assert.ok(answer.cut !== undefined, body);
  }
});

test("http 1.1: an answer before the request's end closes the connection behind it", () => {
  const timing = new TestTiming();
  const [left, right] = memoryPair();
  const server = serve("1.1", right, timing, (exchange) => answerWith(exchange, 413, "no"));
  const answer = new Answer();
  const closed: string[] = [];
  answer.exchange = connect("1.1", left, timing, closed).request(
    request({ method: "POST", headers: ["content-length", "10"], contentLength: 10 }),
    false,
    answer,
  );
  answer.exchange?.data(bytesOf("12345"), 0, 5, false);
  run(timing, [left, right]);
  assert.equal(answer.head_?.status, 413);
  assert.equal(answer.body, "no");
  assert.match(server.log.join(), /closed/);
});
