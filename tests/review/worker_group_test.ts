import assert from "node:assert/strict";
import { readlinkSync } from "node:fs";
import { test } from "node:test";
import type { WorkerSettings } from "../../src/ztunnel/messages.ts";
import { WorkerGroup } from "../../src/ztunnel/worker_group.ts";

/** Waits up to that of a confirmation are this much shorter here. */
const HASTE = 20;
const CONFIRM_TIMEOUT_MS = 5_000;

test("worker group: a descriptor of a worker that runs on after it was replaced is not given out again", async () => {
  const owned: number[] = [];
  let after = "";
  let lost: () => void = () => {};
  const replaced = new Promise<void>((resolve) => lost = resolve);
  const group = new WorkerGroup({
    entry: new URL("./stuck_worker.ts", import.meta.url),
    count: 1,
    settings: {} as WorkerSettings,
    directives: () => "info",
    replay: () => [],
    received: (_worker, message) => {
      if (message.type === "forget") owned.push(Number(message.keys[0]));
    },
    lost: () => {
      after = descriptor(owned[0]);
      lost();
    },
    schedule: (task, delayMs) => {
      const timer = setTimeout(task, delayMs > CONFIRM_TIMEOUT_MS ? delayMs : delayMs / HASTE);
      return () => clearTimeout(timer);
    },
  });
  await group.settle();
  assert.match(descriptor(owned[0]), /eventfd/);
  const settled = group.settle();
  await replaced;
  assert.match(after, /^socket:/, "its number is still taken, by something that is good for nothing");
  await settled;
  group.broadcast({ type: "finish" });
  group.close();
});

function descriptor(fd: number): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return "free";
  }
}
