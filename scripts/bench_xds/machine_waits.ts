/**
 * What the machine itself does to a core: `machine_waits.ts`, pinned to the core and of real-time priority, sleeps for a moment, again and again,
 * and prints `BEGIN END` (milliseconds since 1970) of each time when it woke too late. Nothing else in the machine goes before it, so that the
 * core was not there: the host had it. Runs until it is killed.
 */
import { writeSync } from "node:fs";

const SLEEP_MS = 0.25;
/** Later than this is a wait; less is what a timer and a wake-up take. */
const LATE_MS = 0.5;

const never = new Int32Array(new SharedArrayBuffer(4));
const nowMs = () => performance.timeOrigin + performance.now();

for (let beganMs = nowMs();;) {
  Atomics.wait(never, 0, 0, SLEEP_MS);
  const wokeMs = nowMs();
  const dueMs = beganMs + SLEEP_MS;
  if (wokeMs - dueMs > LATE_MS) writeSync(1, `${dueMs} ${wokeMs}\n`);
  beganMs = nowMs();
}
