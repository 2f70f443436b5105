/** Our HTTP/2, both ends, against another implementation: the runtime's own node:http2, over real sockets. */
import { test } from "node:test";
import assert from "node:assert/strict";
import { once } from "node:events";
import http2 from "node:http2";
import { connect, type Socket } from "node:net";
import { type Fields, Http2Connection, type Http2Options, type Http2Stream } from "../../src/protocol/http2/mod.ts";
import { drive, listen, SERVER_OPTIONS } from "./h2spec_server.ts";

const CLIENT_OPTIONS: Http2Options = { ...SERVER_OPTIONS, role: "client" };
const BODY_BYTES = 1 << 20;

/** Bytes of which no two stretches are alike. */
function pattern(length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0, state = seed; i < length; i++) bytes[i] = (state = Math.imul(state, 1664525) + 1013904223 | 0) >>> 24;
  return bytes;
}

function sum(bytes: Uint8Array, state = 7): number {
  for (let i = 0; i < bytes.length; i++) state = Math.imul(state ^ bytes[i], 16777619);
  return state >>> 0;
}

/** A response collected by our client. */
class Answer {
  readonly heads: Fields[] = [];
  trailers: Fields = [];
  bytes = 0;
  sum = 7;
  end: () => void = () => {};
  readonly ended = new Promise<void>((resolve) => this.end = resolve);
  body: Uint8Array = new Uint8Array(0);
  sent = 0;
}

/** Our client on a socket to `port`. */
async function openClient(
  port: number,
): Promise<{ client: Http2Connection<Answer>; socket: Socket; flush: () => void }> {
  const socket = connect(port, "127.0.0.1");
  await once(socket, "connect");
  const settled = { done: () => {} };
  const ready = new Promise<void>((resolve) => settled.done = resolve);
  const { flush, finish } = drive(socket, () => client);
  const push = (stream: Http2Stream<Answer>): void => {
    const answer = stream.user;
    answer.sent += client.sendData(stream, answer.body, answer.sent, answer.body.length, true);
  };
  const client: Http2Connection<Answer> = new Http2Connection<Answer>(CLIENT_OPTIONS, {
    headers: (stream, fields) => void stream.user.heads.push(fields),
    trailers: (stream, fields) => void (stream.user.trailers = fields),
    data(stream, bytes, start, end) {
      stream.user.bytes += end - start;
      stream.user.sum = sum(bytes.subarray(start, end), stream.user.sum);
      stream.consume(end - start);
    },
    writable: push,
    reset: (_stream, code) => assert.fail(`reset with ${code}`),
    closed: (stream) => stream.user.end(),
    goaway: () => {},
    settings: () => settled.done(),
    drained: finish,
    failed: finish,
  }, performance.now());
  flush();
  await ready;
  return { client, socket, flush };
}

test("http2_node: the runtime's client gets answers from our server, in parallel, with bodies of a megabyte", async () => {
  const { server, port } = await listen();
  const session = http2.connect(`http://127.0.0.1:${port}`);
  const body = pattern(BODY_BYTES, 1);
  const run = async (method: string, path: string): Promise<string> => {
    const request = session.request({ ":method": method, ":path": path, "x-repeated": "the same each time" });
    request.setEncoding("utf8");
    let text = "";
    request.on("data", (chunk: string) => text += chunk);
    const status = once(request, "response").then(([fields]) => fields[":status"]);
    const ended = once(request, "end");
    request.end(method === "POST" ? body : undefined);
    assert.equal(await status, 200);
    await ended;
    return text;
  };
  const answers = await Promise.all(
    Array.from({ length: 20 }, (_, i) => run(i % 4 === 0 ? "POST" : "GET", `/${i}`)),
  );
  assert.deepEqual(new Set(answers), new Set(["hello from ambit\n"]));
  const closed = once(session, "close");
  session.close();
  await closed;
  server.close();
});

test("http2_node: our client gets interim responses, bodies and trailers from the runtime's server", async () => {
  const server = http2.createServer();
  server.on("stream", (stream: http2.ServerHttp2Stream, fields) => {
    stream.additionalHeaders({ ":status": 103, link: "</style.css>" });
    stream.respond({ ":status": 200, "x-path": fields[":path"] }, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ "x-trailer": "last" }));
    stream.end(pattern(BODY_BYTES, 2));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { client, socket, flush } = await openClient((server.address() as { port: number }).port);
  const answers = [0, 1, 2].map(() => new Answer());
  for (const answer of answers) {
    client.openStream([":method", "GET", ":scheme", "http", ":authority", "localhost", ":path", "/x"], true, answer);
  }
  flush();
  await Promise.all(answers.map((answer) => answer.ended));
  for (const answer of answers) {
    assert.deepEqual(answer.heads.map((fields) => fields.slice(0, 2)), [[":status", "103"], [":status", "200"]]);
    const last = answer.heads[1];
    assert.equal(last[last.indexOf("x-path") + 1], "/x");
    assert.deepEqual(answer.trailers, ["x-trailer", "last"]);
    assert.equal(answer.bytes, BODY_BYTES);
    assert.equal(answer.sum, sum(pattern(BODY_BYTES, 2)));
  }
  const closed = once(socket, "close");
  client.drain();
  flush();
  await closed;
  server.close();
});

test("http2_node: a tunnel through the runtime's server carries a megabyte there and back", async () => {
  const server = http2.createServer();
  server.on("stream", (stream: http2.ServerHttp2Stream, fields) => {
    assert.equal(fields[":method"], "CONNECT");
    assert.equal(fields[":authority"], "10.0.0.1:80");
    stream.respond({ ":status": 200 });
    stream.pipe(stream);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { client, socket, flush } = await openClient((server.address() as { port: number }).port);
  const answer = new Answer();
  answer.body = pattern(BODY_BYTES, 3);
  const stream = client.openStream([":method", "CONNECT", ":authority", "10.0.0.1:80"], false, answer);
  assert.ok(stream !== undefined);
  answer.sent = client.sendData(stream, answer.body, 0, BODY_BYTES, true);
  assert.ok(answer.sent < BODY_BYTES, "flow control took part");
  flush();
  await answer.ended;
  assert.equal(answer.heads.length, 1);
  assert.equal(answer.bytes, BODY_BYTES);
  assert.equal(answer.sum, sum(answer.body));
  const closed = once(socket, "close");
  client.drain();
  flush();
  await closed;
  server.close();
});

test("http2_node: our server refuses a client that is not HTTP/2, and closes", async () => {
  const { server, port } = await listen();
  const socket = connect(port, "127.0.0.1");
  socket.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
  socket.resume();
  await once(socket, "close");
  server.close();
});
