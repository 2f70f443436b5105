import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import { GrpcFrameCounter } from "../../../src/waypoint/filters/grpc_frames.ts";
import { grpcStatsFilter } from "../../../src/waypoint/filters/grpc_stats.ts";
import type { HttpFilter } from "../../../src/waypoint/engine/request_context.ts";
import { chain, forwardTo, route, TestEngine } from "../support/test_engine.ts";

export function messages(...sizes: number[]): Buffer {
  return Buffer.concat(sizes.map((size) => {
    const frame = Buffer.alloc(5 + size, 0xff);
    frame[0] = 0;
    frame.writeUInt32BE(size, 1);
    return frame;
  }));
}

test("grpc_frames: messages are counted alike in every split", () => {
  const bytes = messages(0, 1, 300, 0, 5, 70_000);
  for (const size of [1, 2, 3, 5, 7, 306, bytes.length]) {
    const counter = new GrpcFrameCounter();
    for (let at = 0; at < bytes.length; at += size) counter.data(bytes, at, Math.min(at + size, bytes.length));
    assert.equal(counter.messages, 6, `in pieces of ${size}`);
  }
  const small = messages(0, 3, 1);
  for (let cut = 0; cut <= small.length; cut++) {
    const counter = new GrpcFrameCounter();
    counter.data(small, 0, cut);
    counter.data(small, cut, small.length);
    assert.equal(counter.messages, 3, `cut at ${cut}`);
  }
});

test("grpc_frames: a length of 4 GiB is a length", () => {
  const counter = new GrpcFrameCounter();
  counter.data(Buffer.from([0, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0, 0]), 0, 11);
  assert.equal(counter.messages, 1);
});

function call(filters: readonly HttpFilter[], headers: string[], body: Buffer): TestEngine {
  const engine = new TestEngine(chain([route({ action: forwardTo("b") })]), {
    filters,
    downstream: "2",
    upstream: "2",
  });
  engine.onWhole = ({ exchange }) => {
    exchange.respond({ status: 200, headers: ["content-type", "application/grpc"] }, false);
    const answer = messages(1, 2, 3);
    exchange.data(answer, 0, 9, false);
    exchange.data(answer, 9, answer.length, false);
    exchange.trailers(["grpc-status", "0"]);
  };
  const answer = engine.request({ method: "POST", version: "2", headers, contentLength: -1 });
  for (let at = 0; at < body.length; at++) answer.exchange?.data(body, at, at + 1, at + 1 === body.length);
  engine.run();
  assert.equal(answer.trailers_?.[1], "0");
  return engine;
}

test("grpc_stats: messages of both ways are facts of a gRPC request, and of no other", () => {
  const body = messages(4, 0);
  const counts = (headers: string[], before: readonly HttpFilter[] = []): number[] => {
    const engine = call([...before, grpcStatsFilter], headers, body);
    assert.equal(engine.seen[0].body, body.toString("latin1"));
    const { facts } = engine.finished[0];
    return [facts.requestMessages, facts.responseMessages];
  };
  assert.deepEqual(counts(["content-type", "application/grpc+proto"]), [2, 3]);
  assert.deepEqual(counts(["content-type", "application/octet-stream"]), [0, 0]);
  // Bytes that came while another filter read the body are counted too.
  const reader: HttpFilter = {
    name: "reader",
    request(context, resume) {
      context.bufferBody(100, false, resume);
      return "waiting";
    },
  };
  assert.deepEqual(counts(["content-type", "application/grpc"], [reader]), [2, 3]);
});

test("grpc_stats: each of several looks at bodies sees all of them", () => {
  const seen: string[] = [];
  const looker = (name: string): HttpFilter => ({
    name,
    request(context) {
      context.onRequestData((_, start, end) => void (end > start && seen.push(name)));
      return "pass";
    },
  });
  call([looker("a"), looker("b")], ["content-type", "application/grpc"], messages(0));
  assert.deepEqual(seen.slice(0, 2), ["a", "b"]);
});
