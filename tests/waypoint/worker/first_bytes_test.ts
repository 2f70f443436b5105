/** The first bytes of a connection, in virtual time. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sniff } from "../../../src/waypoint/engine/sniffer.ts";
import { FIRST_BYTES_MS, FirstBytes, type Replay } from "../../../src/waypoint/worker/first_bytes.ts";
import type { ByteSink } from "../../../src/waypoint/transport/byte_stream.ts";
import { memoryPair, run, TestTiming } from "../support/memory_stream.ts";

function create() {
  const timing = new TestTiming();
  const [client, server] = memoryPair();
  const seen: { what: string | undefined; found: number; replayed: string; ended: boolean; lost: string } = {
    what: undefined,
    found: 0,
    replayed: "",
    ended: false,
    lost: "",
  };
  const sink: ByteSink = {
    data(bytes, start, end, ended) {
      seen.replayed += new TextDecoder().decode(bytes.subarray(start, end));
      seen.ended ||= ended;
      server.consume(end - start);
    },
    writable() {},
    broken() {},
  };
  new FirstBytes<string>(server, timing, {
    look: (bytes) => sniff(bytes),
    found(what: string | undefined, replay: Replay) {
      seen.what = what;
      seen.found++;
      server.setSink(sink);
      replay(sink);
    },
    lost: (detail) => seen.lost = detail,
  });
  const send = (text: string) => {
    const bytes = new TextEncoder().encode(text);
    client.write(bytes, 0, bytes.length);
  };
  return { timing, client, server, seen, send };
}

test("first bytes: what was looked at is handed on whole, once, in any split, with its credit", () => {
  for (const piece of [1, 2, 7, 1 << 20]) {
    const { timing, server, client, seen, send } = create();
    send("GET /path HTTP/1.1\r\nhost: a\r\n\r\n");
    run(timing, [client, server], piece);
    assert.deepEqual([seen.what, seen.found], ["http/1.1", 1]);
    assert.equal(seen.replayed, "GET /path HTTP/1.1\r\nhost: a\r\n\r\n");
    assert.equal(server.outstanding, 0);
  }
});

test("first bytes: a client that says nothing is decided about when its time is up, and served from then on", () => {
  const { timing, server, client, seen, send } = create();
  timing.advance(FIRST_BYTES_MS - 1);
  assert.equal(seen.found, 0);
  timing.advance(1);
  assert.deepEqual([seen.what, seen.found, seen.replayed], [undefined, 1, ""]);
  send("late");
  run(timing, [client, server]);
  assert.equal(seen.replayed, "late");
});

test("first bytes: an end in the middle of it is an answer, and is handed on", () => {
  const { timing, server, client, seen, send } = create();
  send("GET");
  client.end();
  run(timing, [client, server]);
  assert.deepEqual([seen.found, seen.replayed, seen.ended], [1, "GET", true]);
});

test("first bytes: a client that goes is told of, and no timer is left", () => {
  const { timing, server, client, seen } = create();
  client.reset();
  run(timing, [client, server]);
  assert.equal(seen.lost, "reset by the peer");
  timing.advance(FIRST_BYTES_MS);
  assert.equal(seen.found, 0);
});
