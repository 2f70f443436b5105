/** Messages that two parsers might take for different ones: each is refused, at every split, with nothing of it passed on. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { LIMITS, readAll } from "./support.ts";

const START = "POST / HTTP/1.1\r\nHost: x\r\n";

/** Title, bytes, status and text of the fault. */
const REQUESTS: readonly [string, string, string][] = [
  [
    "a length and chunks (CL.TE)",
    `${START}Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG`,
    "400 http1.content_length_and_chunked_not_allowed",
  ],
  [
    "chunks and a length (TE.CL)",
    `${START}Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n8\r\nSMUGGLED\r\n0\r\n\r\n`,
    "400 http1.content_length_and_chunked_not_allowed",
  ],
  ["two lengths", `${START}Content-Length: 3\r\nContent-Length: 5\r\n\r\nabcde`, "400 http1.multiple_content_length"],
  [
    "two equal lengths",
    `${START}Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc`,
    "400 http1.multiple_content_length",
  ],
  ["a list of lengths", `${START}Content-Length: 3, 3\r\n\r\nabc`, "400 http1.invalid_content_length"],
  ["a signed length", `${START}Content-Length: +3\r\n\r\nabc`, "400 http1.invalid_content_length"],
  ["a negative length", `${START}Content-Length: -1\r\n\r\n`, "400 http1.invalid_content_length"],
  ["a hexadecimal length", `${START}Content-Length: 0x3\r\n\r\nabc`, "400 http1.invalid_content_length"],
  ["an empty length", `${START}Content-Length:\r\n\r\n`, "400 http1.invalid_content_length"],
  ["a length beyond 2^53", `${START}Content-Length: 99999999999999999999\r\n\r\n`, "400 http1.invalid_content_length"],
  ["digits of another script", `${START}Content-Length: \xb2\r\n\r\n`, "400 http1.invalid_content_length"],
  ["an unknown coding", `${START}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n`, "501 http1.invalid_transfer_encoding"],
  [
    "identity and chunked",
    `${START}Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n`,
    "501 http1.invalid_transfer_encoding",
  ],
  [
    "chunked twice, on two lines",
    `${START}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    "501 http1.invalid_transfer_encoding",
  ],
  ["chunked in quotes", `${START}Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n`, "501 http1.invalid_transfer_encoding"],
  ["chunked behind a vertical tab", `${START}Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n`, "400 http1.codec_error"],
  ["a space before the colon", `${START}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n`, "400 http1.codec_error"],
  ["a tab before the colon", `${START}Content-Length\t: 3\r\n\r\nabc`, "400 http1.codec_error"],
  ["a folded line", `${START}X: a\r\n Transfer-Encoding: chunked\r\n\r\n`, "400 http1.codec_error"],
  ["a folded first line", `POST / HTTP/1.1\r\n Host: x\r\n\r\n`, "400 http1.codec_error"],
  ["a bare LF between lines", `${START}X: a\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`, "400 http1.codec_error"],
  ["a bare CR in a value", `${START}X: a\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`, "400 http1.codec_error"],
  ["NUL in a value", `${START}X: a\x00b\r\n\r\n`, "400 http1.codec_error"],
  ["NUL in a name", `${START}X\x00: a\r\n\r\n`, "400 http1.codec_error"],
  ["DEL in a value", `${START}X: a\x7f\r\n\r\n`, "400 http1.codec_error"],
  ["a line without a colon", `${START}nonsense\r\n\r\n`, "400 http1.codec_error"],
  ["an empty name", `${START}: a\r\n\r\n`, "400 http1.codec_error"],
  ["a name of another alphabet", `${START}\xe9: a\r\n\r\n`, "400 http1.codec_error"],
  ["two hosts", `GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n`, "400 http1.duplicate_host"],
  ["no host", "GET / HTTP/1.1\r\nX: a\r\n\r\n", "400 http1.missing_host"],
  ["two spaces in the request line", "GET  / HTTP/1.1\r\nHost: x\r\n\r\n", "400 http1.codec_error"],
  ["a tab in the request line", "GET\t/\tHTTP/1.1\r\nHost: x\r\n\r\n", "400 http1.codec_error"],
  ["a space in the target", "GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", "400 http1.codec_error"],
  ["a control character in the target", "GET /\x01 HTTP/1.1\r\nHost: x\r\n\r\n", "400 http1.codec_error"],
  ["a target that is not ASCII", "GET /\xe9 HTTP/1.1\r\nHost: x\r\n\r\n", "400 http1.codec_error"],
  ["a method that is no token", "G(T / HTTP/1.1\r\nHost: x\r\n\r\n", "400 http1.codec_error"],
  ["HTTP/0.9", "GET /\r\n\r\n", "400 http1.codec_error"],
  ["a version of lower case", "GET / http/1.1\r\nHost: x\r\n\r\n", "400 http1.codec_error"],
  ["a version of later times", "GET / HTTP/1.2\r\nHost: x\r\n\r\n", "505 http1.unsupported_version"],
  ["HTTP/2 by name", "GET / HTTP/2.0\r\nHost: x\r\n\r\n", "505 http1.unsupported_version"],
  ["something behind the version", "GET / HTTP/1.1 x\r\nHost: x\r\n\r\n", "400 http1.codec_error"],
  [
    "chunks in HTTP/1.0",
    "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "400 http1.transfer_encoding_in_http10",
  ],
];

const CHUNKED = `${START}Transfer-Encoding: chunked\r\n\r\n`;
const BODIES: readonly [string, string, string][] = [
  ["a chunk size with a sign", "+5\r\nhello\r\n0\r\n\r\n", "400 http1.invalid_chunk_size"],
  ["a chunk size with 0x", "0x5\r\nhello\r\n0\r\n\r\n", "400 http1.invalid_chunk_size"],
  ["a chunk size with an underscore", "1_0\r\n", "400 http1.invalid_chunk_size"],
  ["a space before the size", " 5\r\nhello\r\n0\r\n\r\n", "400 http1.invalid_chunk_size"],
  ["a space behind the size", "5 \r\nhello\r\n0\r\n\r\n", "400 http1.invalid_chunk_size"],
  ["an empty size", "\r\nhello", "400 http1.invalid_chunk_size"],
  ["a bare LF behind the size", "5\nhello\r\n0\r\n\r\n", "400 http1.invalid_chunk_size"],
  ["a CR without LF behind the size", "5\rXhello", "400 http1.invalid_chunk_size"],
  ["a LF in an extension", "5;a\nb\r\nhello\r\n0\r\n\r\n", "400 http1.invalid_chunk_extension"],
  ["a chunk that is longer than it says", "5\r\nhello!\r\n0\r\n\r\n", "400 http1.invalid_chunk_end"],
  ["a bare LF behind the data", "5\r\nhello\n0\r\n\r\n", "400 http1.invalid_chunk_end"],
  ["a size beyond all memory", "ffffffffffffffff\r\n", "400 http1.chunk_too_large"],
  ["a bad trailer", "0\r\nx : 1\r\n\r\n", "400 http1.codec_error"],
  ["a bare LF in trailers", "0\r\nx: 1\n\r\n\r\n", "400 http1.codec_error"],
];

const RESPONSES: readonly [string, string, string][] = [
  [
    "a length and chunks",
    "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
    "400 http1.content_length_and_chunked_not_allowed",
  ],
  [
    "two lengths",
    "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
    "400 http1.multiple_content_length",
  ],
  ["a status of two digits", "HTTP/1.1 20 OK\r\n\r\n", "400 http1.codec_error"],
  ["a status of four digits", "HTTP/1.1 2000\r\n\r\n", "400 http1.codec_error"],
  ["a status below 100", "HTTP/1.1 099 x\r\n\r\n", "400 http1.codec_error"],
  ["a control character in the reason", "HTTP/1.1 200 O\x01K\r\n\r\n", "400 http1.codec_error"],
];

const all: readonly ["request" | "response", string, string, string][] = [
  ...REQUESTS.map(([title, text, fault]) => ["request", title, text, fault] as const),
  ...BODIES.map(([title, text, fault]) => ["request", title, CHUNKED + text, fault] as const),
  ...RESPONSES.map(([title, text, fault]) => ["response", title, text, fault] as const),
] as never;

for (const [role, title, text, fault] of all) {
  test(`http1 smuggling: a ${role} with ${title} is refused`, () => {
    assert.equal(readAll(role, text).fault, fault);
    for (let cut = 1; cut < text.length; cut++) {
      assert.equal(readAll(role, text, { cuts: [cut] }).fault, fault, `cut ${cut}`);
    }
  });
}

test("http1 smuggling: HTTP/1.0 is refused unless it is asked for", () => {
  const limits = { ...LIMITS, acceptHttp10: false };
  assert.equal(readAll("request", "GET / HTTP/1.0\r\n\r\n", { limits }).fault, "426 http1.unsupported_version");
});
