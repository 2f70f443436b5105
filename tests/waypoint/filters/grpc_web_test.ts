import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import { Base64Reader } from "../../../src/waypoint/filters/base64_reader.ts";
import { grpcStatsFilter } from "../../../src/waypoint/filters/grpc_stats.ts";
import { grpcWebFilter } from "../../../src/waypoint/filters/grpc_web.ts";
import type { HttpFilter } from "../../../src/waypoint/engine/request_context.ts";
import { chain, forwardTo, route, type Seen, TestEngine } from "../support/test_engine.ts";

const frame = (text: string, flag = 0): Buffer => {
  const bytes = Buffer.alloc(5 + text.length);
  bytes[0] = flag;
  bytes.writeUInt32BE(text.length, 1);
  bytes.write(text, 5, "latin1");
  return bytes;
};
const TRAILERS = frame("grpc-status:0\r\ngrpc-message:fine\r\n", 0x80);

function grpcAnswer({ exchange }: Seen): void {
  exchange.respond({ status: 200, headers: ["content-type", "application/grpc+proto", "x-own", "1"] }, false);
  const [one, two] = [frame("hello"), frame("you")];
  exchange.data(one, 0, 3, false);
  exchange.data(one, 3, one.length, false);
  exchange.data(two, 0, two.length, false);
  exchange.trailers(["grpc-status", "0", "grpc-message", "fine"]);
}

function call(
  headers: string[],
  pieces: readonly string[],
  answerBy: (seen: Seen) => void = grpcAnswer,
  before: readonly HttpFilter[] = [],
  routes = [route({ action: forwardTo("b") })],
) {
  const engine = new TestEngine(chain(routes), {
    filters: [...before, grpcWebFilter, grpcStatsFilter],
    upstream: "2",
  });
  engine.onWhole = answerBy;
  const answer = engine.request({ method: "POST", contentLength: -1, headers });
  pieces.forEach((piece, i) => {
    answer.exchange?.data(Buffer.from(piece, "latin1"), 0, piece.length, i === pieces.length - 1);
    engine.run();
  });
  return { engine, answer, seen: engine.seen.at(0), facts: engine.finished.at(0)?.facts };
}

/** Base64 that may be padded anywhere. */
const decoded = (text: string): string =>
  (text.match(/.{4}/gs) ?? []).map((group) => Buffer.from(group, "base64").toString("latin1")).join("");

test("grpc_web: a binary call is gRPC for the endpoint, its trailers are the last frame", () => {
  const message = frame("hi").toString("latin1");
  const { seen, answer, facts } = call(["content-type", "application/grpc-web+proto", "content-length", "7"], [
    message,
  ]);
  const sent = seen?.exchange.head.headers ?? [];
  const value = (name: string): string => sent[sent.indexOf(name) + 1];
  assert.equal(value("content-type"), "application/grpc+proto");
  assert.equal(value("te"), "trailers");
  assert.equal(value("grpc-accept-encoding"), "identity,deflate,gzip");
  assert.ok(!sent.includes("content-length"));
  assert.equal(seen?.body, message);
  assert.equal(answer.header("content-type"), "application/grpc-web+proto");
  assert.equal(answer.body, Buffer.concat([frame("hello"), frame("you"), TRAILERS]).toString("latin1"));
  assert.equal(answer.trailers_, undefined);
  assert.deepEqual([facts?.requestMessages, facts?.responseMessages, facts?.grpcStatus], [1, 2, "0"]);
});

test("grpc_web: a text call, in every split", () => {
  const plain = Buffer.concat([frame("hi"), frame("there")]).toString("latin1");
  const text = Buffer.from(plain, "latin1").toString("base64");
  for (let cut = 1; cut < text.length; cut++) {
    const { seen, answer, facts } = call(
      ["content-type", "application/grpc-web-text", "accept", "application/grpc-web-text"],
      [text.slice(0, cut), text.slice(cut)],
    );
    assert.equal(seen?.body, plain, `cut at ${cut}`);
    assert.equal(answer.header("content-type"), "application/grpc-web-text+proto");
    assert.equal(decoded(answer.body), Buffer.concat([frame("hello"), frame("you"), TRAILERS]).toString("latin1"));
    assert.deepEqual([facts?.requestMessages, facts?.responseMessages], [2, 2]);
  }
});

test("grpc_web: text in pieces that are padded each, text asked and binary answered", () => {
  const [one, two] = [frame("hi"), frame("you")];
  const { seen, answer } = call(
    ["content-type", "application/grpc-web-text+proto", "accept", "application/grpc-web+proto"],
    [one.toString("base64"), two.toString("base64")],
  );
  assert.equal(seen?.body, Buffer.concat([one, two]).toString("latin1"));
  assert.equal(answer.header("content-type"), "application/grpc-web+proto");
  assert.ok(answer.body.endsWith(TRAILERS.toString("latin1")));
});

test("grpc_web: a body that was read before is read anew", () => {
  const reader: HttpFilter = {
    name: "reader",
    request(context, resume) {
      context.bufferBody(1000, true, resume);
      return "waiting";
    },
  };
  const text = frame("hi").toString("base64");
  const { seen, facts } = call(
    ["content-type", "application/grpc-web-text"],
    [text.slice(0, 5), text.slice(5)],
    grpcAnswer,
    [
      reader,
    ],
  );
  assert.equal(seen?.body, frame("hi").toString("latin1"));
  assert.equal(facts?.requestMessages, 1);
});

test("grpc_web: what is no base64 is refused in the client's language", () => {
  for (const pieces of [["AAAA", "A*AA"], ["AAAAA"], ["=AAA"], ["AA=A"], ["AB=="]]) {
    const { answer, seen, engine } = call(["content-type", "application/grpc-web-text"], pieces);
    assert.deepEqual([answer.status, answer.header("grpc-status")], [200, "3"], pieces.join());
    assert.equal(answer.header("content-type"), "application/grpc-web-text+proto");
    assert.match(answer.header("grpc-message") ?? "", /invalid base64/);
    assert.ok(seen === undefined || !seen.ended, "the endpoint sees no whole message");
    assert.equal(engine.finished[0].details, "grpc_base_64_decode_failed");
  }
  const kept: HttpFilter = {
    name: "reader",
    request(context, resume) {
      context.bufferBody(1000, true, resume);
      return "waiting";
    },
  };
  const { answer, seen } = call(["content-type", "application/grpc-web-text"], ["A*AA"], grpcAnswer, [kept]);
  assert.deepEqual([answer.header("grpc-status"), seen], ["3", undefined]);
});

test("grpc_web: answers without a message", () => {
  const type = ["content-type", "application/grpc-web"];
  const trailersOnly = call(
    type,
    [""],
    ({ exchange }) =>
      exchange.respond({ status: 200, headers: ["content-type", "application/grpc", "grpc-status", "5"] }, true),
  );
  assert.deepEqual([trailersOnly.answer.header("grpc-status"), trailersOnly.answer.body], ["5", ""]);
  assert.equal(trailersOnly.answer.header("content-type"), "application/grpc-web+proto");

  const page = call(type, [""], ({ exchange }) => {
    exchange.respond({ status: 503, headers: ["content-type", "text/html", "content-length", "4"] }, false);
    exchange.data(Buffer.from("oops"), 0, 4, true);
  });
  assert.deepEqual(
    [page.answer.status, page.answer.header("grpc-status"), page.answer.body, page.answer.ended],
    [200, "14", "", true],
  );

  const nowhere = call(type, [""], grpcAnswer, [], [route({ action: forwardTo("missing") })]);
  assert.deepEqual([nowhere.answer.status, nowhere.answer.header("grpc-status")], [200, "14"]);
  assert.equal(nowhere.answer.header("content-type"), "application/grpc-web+proto");
});

test("grpc_web: others are left alone", () => {
  for (const type of ["application/grpc", "text/plain", "application/grpc-webx"]) {
    const { seen, answer } = call(
      ["content-type", type],
      ["AAAA"],
      ({ exchange }) => exchange.respond({ status: 200, headers: ["content-type", "x/y"] }, true),
    );
    assert.equal(seen?.body, "AAAA");
    assert.equal(answer.header("content-type"), "x/y");
  }
});

test("base64: RFC 4648's vectors, and what is none", () => {
  const read = (text: string): string | undefined => {
    const reader = new Base64Reader();
    const bytes = reader.read(Buffer.from(text, "latin1"), 0, text.length);
    return bytes === undefined || !reader.isWhole ? undefined : Buffer.from(bytes).toString("latin1");
  };
  for (const [plain, text] of [["", ""], ["f", "Zg=="], ["fo", "Zm8="], ["foo", "Zm9v"], ["foob", "Zm9vYg=="]]) {
    assert.equal(read(text), plain);
  }
  assert.equal(read("Zg==Zm8="), "ffo");
  for (const text of ["Z", "Zg", "Zg=", "Zh==", "Zm9=", "Zg=g", "====", "Zm9v\n", "Zm-_"]) {
    assert.equal(read(text), undefined);
  }
});
