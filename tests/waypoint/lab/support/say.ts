/** What a person should see while the suite runs: the test runner keeps what goes through its own descriptors to itself. */
import { appendFileSync } from "node:fs";

export function say(text: string): void {
  appendFileSync("/dev/stderr", `${text}\n`);
}
