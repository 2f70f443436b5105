import assert from "node:assert/strict";
import { test } from "node:test";
import { createLogWriter } from "../../src/telemetry/log_writer.ts";

function open(limit: () => number) {
  const decoder = new TextDecoder();
  const state = { written: "", writes: 0, scheduled: [] as (() => void)[] };
  const writer = createLogWriter({
    write(bytes) {
      const taken = Math.min(limit(), bytes.length);
      if (taken > 0) state.writes++;
      state.written += decoder.decode(bytes.subarray(0, taken));
      return taken;
    },
    schedule: (flush) => state.scheduled.push(flush),
  });
  return { writer, state };
}

test("log writer: joins the lines of a turn into one write", () => {
  const { writer, state } = open(() => Infinity);
  writer.sink("a\n");
  writer.sink("b\n");
  assert.equal(state.writes, 0);
  assert.equal(state.scheduled.length, 1);
  state.scheduled.pop()!();
  assert.equal(state.written, "a\nb\n");
  assert.equal(state.writes, 1);
  writer.sink("c\n");
  assert.equal(state.scheduled.length, 1);
});

test("log writer: a large batch is written at once", () => {
  const { writer, state } = open(() => Infinity);
  for (let i = 0; i < 20; i++) writer.sink("x".repeat(1023) + "\n");
  assert.ok(state.writes >= 1);
});

test("log writer: partial writes go on where they ended, with no line lost", () => {
  let budget = 3;
  const { writer, state } = open(() => Math.max(0, budget--));
  writer.sink("hello ambit\n");
  state.scheduled.pop()!();
  assert.equal(state.written.length, 6);
  assert.equal(state.scheduled.length, 1);
  budget = 100;
  writer.sink("second\n");
  state.scheduled.pop()!();
  assert.equal(state.written, "hello ambit\nsecond\n");
});

test("log writer: drops and reports lines when nobody reads, with bounded memory", () => {
  let open_ = 0;
  const { writer, state } = open(() => open_);
  const line = "y".repeat(1023) + "\n";
  for (let i = 0; i < 5000; i++) writer.sink(line);
  assert.ok(writer.dropped > 2000 && writer.dropped < 4000, String(writer.dropped));
  const dropped = writer.dropped;
  open_ = Infinity;
  state.scheduled.pop()!();
  assert.equal(state.written.length, (5000 - dropped) * 1024);
  writer.sink("after\n");
  writer.flush();
  assert.ok(state.written.endsWith(`... ${dropped} log lines dropped: the log is not read fast enough\nafter\n`));
});

test("log writer: a broken descriptor does not stop the process", () => {
  const writer = createLogWriter({
    write: () => {
      throw new Error("EPIPE");
    },
    schedule: () => {},
  });
  writer.sink("a\n");
  writer.flush();
  writer.sink("b\n");
  writer.flush();
});
