import assert from "node:assert/strict";
import { test } from "node:test";
import { closeDescriptor, receive, send, socketPair, writeLines } from "../../src/platform/socket.ts";
import { createLogWriter } from "../../src/telemetry/log_writer.ts";
import { TurnFlush } from "../../src/ztunnel/turn_flush.ts";
import { createLoop } from "../net/support.ts";

test("turn_flush: a log that nobody reads does not keep the reactor from sleeping, and goes on when it is read", () => {
  const loop = createLoop();
  const [near, far] = socketPair() as readonly [number, number];
  const fill = new Uint8Array(64 * 1024);
  while (send(near, fill, 0, fill.length) > 0);
  const turnFlush = new TurnFlush();
  const writer = createLogWriter({
    write: (bytes) => writeLines(near, bytes),
    schedule: (flush, blocked) => turnFlush.schedule(flush, blocked),
  });
  writer.sink("said before there was a reactor\n");
  turnFlush.attach(loop.reactor);
  const turns = loop.turnFor(500);
  assert.ok(turns < 50, `${turns} turns in half a second`);
  const bytes = new Uint8Array(1 << 20);
  let tail = "";
  loop.until(() => {
    const n = receive(far, bytes, 0, bytes.length);
    if (n > 0) tail = new TextDecoder().decode(bytes.subarray(Math.max(0, n - 40), n));
    return tail.endsWith("said before there was a reactor\n");
  }, "the line");
  closeDescriptor(near);
  closeDescriptor(far);
});
