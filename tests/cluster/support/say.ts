/** What a person who waits wants to know, at once: Deno keeps what a test prints to itself until the test has failed. */
import { closeSync, openSync, writeSync } from "node:fs";

export function say(text: string): void {
  const out = openSync("/proc/self/fd/2", "a");
  writeSync(out, `cluster: ${text}\n`);
  closeSync(out);
}
