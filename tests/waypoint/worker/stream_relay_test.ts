/** Bytes between two streams in memory, in virtual time. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { HIGH_WATER_BYTES } from "../../../src/waypoint/transport/byte_stream.ts";
import { type RelayLimits, type RelayOutcome, StreamRelay } from "../../../src/waypoint/worker/stream_relay.ts";
import { memoryPair, MemoryStream, run, TestTiming } from "../support/memory_stream.ts";

class Far {
  text = "";
  ended = false;
  cut = "";
  constructor(readonly stream: MemoryStream) {
    stream.setSink({
      data: (bytes, start, end, ended) => {
        this.text += new TextDecoder().decode(bytes.subarray(start, end));
        stream.consume(end - start);
        this.ended ||= ended;
      },
      writable: () => {},
      broken: ({ detail }) => this.cut = detail,
    });
  }

  send(text: string): void {
    const bytes = new TextEncoder().encode(text);
    this.stream.write(bytes, 0, bytes.length);
  }
}

function create(limits: Partial<RelayLimits> = {}) {
  const timing = new TestTiming();
  const [clientFar, clientNear] = memoryPair();
  const [endpointFar, endpointNear] = memoryPair();
  const outcomes: RelayOutcome[] = [];
  const relay = new StreamRelay(
    clientNear,
    endpointNear,
    timing,
    { idleTimeoutMs: 0, maxConnectionMs: 0, ...limits },
    { relayEnded: (outcome) => outcomes.push(outcome) },
  );
  const streams = [clientFar, clientNear, endpointFar, endpointNear];
  const turn = (piece?: number) => run(timing, streams, piece);
  return {
    timing,
    relay,
    outcomes,
    turn,
    client: new Far(clientFar),
    endpoint: new Far(endpointFar),
    clientNear,
    endpointNear,
  };
}

test("stream relay: bytes both ways in any split, half-close, and an end in order", () => {
  for (const piece of [1, 5, 1 << 20]) {
    const { client, endpoint, turn, outcomes, relay, clientNear, endpointNear } = create();
    client.send("question");
    client.stream.end();
    turn(piece);
    assert.deepEqual([endpoint.text, endpoint.ended, client.ended], ["question", true, false]);
    endpoint.send("answer");
    endpoint.stream.end();
    turn(piece);
    assert.deepEqual([client.text, client.ended], ["answer", true]);
    assert.deepEqual(outcomes, [{ kind: "complete" }]);
    assert.deepEqual([relay.bytesFromClient, relay.bytesFromEndpoint], [8, 6]);
    assert.deepEqual([clientNear.outstanding, endpointNear.outstanding], [0, 0]);
  }
});

test("stream relay: a stream that is cut cuts the other", () => {
  const { client, endpoint, turn, outcomes } = create();
  endpoint.stream.reset();
  turn();
  assert.equal(client.cut, "reset by the peer");
  assert.deepEqual(outcomes, [{ kind: "cut", side: "endpoint", detail: "reset by the peer" }]);
});

test("stream relay: credit is held back while the other side takes nothing, and given when it does", () => {
  const timing = new TestTiming();
  const [clientFar, clientNear] = memoryPair();
  const [, endpointNear] = memoryPair();
  let full = true;
  Object.defineProperty(endpointNear, "queued", { get: () => full ? HIGH_WATER_BYTES : 0 });
  let writable = () => {};
  const setSink = endpointNear.setSink.bind(endpointNear);
  endpointNear.setSink = (sink) => {
    writable = () => sink.writable();
    setSink(sink);
  };
  new StreamRelay(clientNear, endpointNear, timing, { idleTimeoutMs: 0, maxConnectionMs: 0 }, { relayEnded() {} });
  new Far(clientFar).send("bytes");
  run(timing, [clientNear]);
  assert.equal(clientNear.outstanding, 5);
  full = false;
  writable();
  assert.equal(clientNear.outstanding, 0);
});

test("stream relay: idle for too long it ends, and what flows keeps it open", () => {
  const { client, endpoint, turn, timing, outcomes } = create({ idleTimeoutMs: 1_000 });
  timing.advance(900);
  client.send("x");
  turn();
  timing.advance(900);
  assert.deepEqual(outcomes, []);
  timing.advance(200);
  assert.deepEqual(outcomes, [{ kind: "idle" }]);
  turn();
  assert.ok(client.cut !== "" && endpoint.cut !== "");
});

test("stream relay: no connection is longer than its longest time", () => {
  const { client, turn, timing, outcomes } = create({ maxConnectionMs: 2_000, idleTimeoutMs: 1_000 });
  for (let i = 0; i < 3; i++) {
    timing.advance(600);
    client.send("x");
    turn();
  }
  assert.deepEqual(outcomes, []);
  timing.advance(600);
  assert.deepEqual(outcomes, [{ kind: "too long" }]);
});
