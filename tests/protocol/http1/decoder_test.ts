import fc from "fast-check";
import assert from "node:assert/strict";
import { test } from "node:test";
import { LIMITS, readAll } from "./support.ts";

const GET = "GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n";
const CHUNKED =
  "POST /p HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5;a=b\r\nhello\r\nA\r\n0123456789\r\n0\r\nx-t: 1\r\nhost: no\r\n\r\n";
const LENGTH = "PUT /l HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n\r\n\r\n";

test("http1 decoder: reads a request's line, fields and where its body ends", () => {
  const { messages, fault } = readAll("request", "GET /a?b=c HTTP/1.1\r\nHost: x\r\nX-A:  b\t \r\nx-a: \xff\r\n\r\n");
  assert.equal(fault, undefined);
  assert.deepEqual(messages[0].head, {
    line: { kind: "request", method: "GET", target: "/a?b=c", minor: 1 },
    fields: ["host", "x", "x-a", "b", "x-a", "\xff"],
    spelling: undefined,
    framing: { kind: "none" },
    close: false,
    bytes: 51,
  });
});

test("http1 decoder: pipelined messages come one after the other, whatever the split", () => {
  const text = GET + CHUNKED + LENGTH + GET;
  const whole = readAll("request", text);
  assert.deepEqual(whole.messages.map(({ body }) => body), ["", "hello0123456789", "\r\n\r\n", ""]);
  assert.deepEqual(whole.messages[1].trailers, ["x-t", "1"], "a trailer must not rename the host");
  for (let cut = 1; cut < text.length; cut++) {
    assert.deepEqual(readAll("request", text, { cuts: [cut] }), whole, `cut ${cut}`);
  }
  assert.deepEqual(readAll("request", text, { cuts: Array.from({ length: text.length - 1 }, (_, i) => i + 1) }), whole);
  fc.assert(fc.property(fc.uniqueArray(fc.integer({ min: 1, max: text.length - 1 })), (cuts) => {
    assert.deepEqual(readAll("request", text, { cuts: cuts.sort((a, b) => a - b) }), whole);
  }));
});

test("http1 decoder: it stops behind a message until it is asked for the next", () => {
  const text = LENGTH + GET;
  const { messages } = readAll("request", text);
  assert.equal(messages.length, 2);
  assert.equal(messages[1].head.line.kind === "request" && messages[1].head.line.method, "GET");
});

test("http1 decoder: a response's body ends as its status, method and fields say", () => {
  const cases: readonly [string, string, string, string][] = [
    ["GET", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", "ok", "length"],
    ["GET", "HTTP/1.1 200\r\n\r\nuntil the end", "until the end", "close"],
    ["HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", "", "none"],
    ["GET", "HTTP/1.1 204 No Content\r\n\r\n", "", "none"],
    ["GET", "HTTP/1.1 304 Not Modified\r\ncontent-length: 10\r\n\r\n", "", "none"],
    ["CONNECT", "HTTP/1.1 200 OK\r\n\r\n", "", "none"],
    ["GET", "HTTP/1.0 200 OK\r\n\r\nold", "old", "close"],
  ];
  for (const [method, text, body, framing] of cases) {
    const { messages, fault, eof } = readAll("response", text, { method });
    assert.deepEqual([fault, eof], [undefined, undefined], text);
    assert.equal(messages[0].body, body, text);
    assert.equal(messages[0].head.framing.kind, framing, text);
    assert.ok(messages[0].trailers, text);
  }
});

test("http1 decoder: interim responses come before the final one", () => {
  const { messages } = readAll(
    "response",
    "HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx",
  );
  assert.deepEqual(messages.map(({ head }) => head.line.kind === "response" && head.line.status), [103, 200]);
});

test("http1 decoder: the end of the stream inside of a message is a fault", () => {
  for (const text of [GET.slice(0, 9), LENGTH.slice(0, -1), CHUNKED.slice(0, -2)]) {
    assert.equal(readAll("request", text).eof, "http1.incomplete_message", JSON.stringify(text));
  }
  assert.equal(readAll("request", GET).eof, undefined);
  assert.equal(readAll("response", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfour").eof, "http1.incomplete_message");
});

test("http1 decoder: one empty line before a request is tolerated, a second is not", () => {
  for (let cut = 1; cut < 4; cut++) {
    assert.equal(readAll("request", `\r\n${GET}`, { cuts: [cut] }).messages.length, 1, `cut ${cut}`);
    assert.equal(readAll("request", `\r\n\r\n${GET}`, { cuts: [cut] }).fault, "400 http1.codec_error");
  }
});

test("http1 decoder: keeps the spelling of names where it is asked to", () => {
  const { messages } = readAll("request", "GET / HTTP/1.1\r\nHOST: x\r\nX-MiXed: 1\r\n\r\n", {
    limits: { ...LIMITS, keepSpelling: true },
  });
  assert.deepEqual(messages[0].head.spelling, ["HOST", "X-MiXed"]);
});

test("http1 decoder: heads and trailers have limits, whole or in pieces", () => {
  const long = `GET / HTTP/1.1\r\nhost: x\r\na: ${"b".repeat(9000)}\r\n\r\n`;
  const many = `GET / HTTP/1.1\r\nhost: x\r\n${"a: b\r\n".repeat(101)}\r\n`;
  const endless = `GET /${"a".repeat(9000)}`;
  const trailers = `${CHUNKED.slice(0, CHUNKED.indexOf("0\r\nx-t"))}0\r\na: ${"b".repeat(9000)}\r\n\r\n`;
  for (const text of [long, endless, trailers]) {
    assert.equal(readAll("request", text).fault, "431 http1.headers_too_large");
    assert.equal(readAll("request", text, { cuts: [20, 200, 5000] }).fault, "431 http1.headers_too_large");
  }
  assert.equal(readAll("request", many).fault, "431 http1.too_many_headers");
});

test("http1 decoder: small chunks with long extensions come to a limit, those of signed uploads do not", () => {
  const head = "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
  const small = `1;${"e".repeat(80)}\r\nx\r\n`;
  assert.equal(readAll("request", head + small.repeat(60)).fault, "400 http1.chunk_extensions_too_long");
  const signed = `400;chunk-signature=${"e".repeat(64)}\r\n${"x".repeat(1024)}\r\n`;
  assert.equal(readAll("request", `${head}${signed.repeat(200)}0\r\n\r\n`).fault, undefined);
});
