/** Ids of traces and spans. Random bytes are drawn many at a time: each draw is a call into the system. */
import { Buffer } from "node:buffer";
import { randomFillSync } from "node:crypto";

const pool = Buffer.alloc(4096);
let at = pool.length;

/** So many hexadecimal digits; an even number, and not more than a trace id has. */
export function randomHex(digits: number): string {
  const bytes = digits / 2;
  if (at + bytes > pool.length) {
    randomFillSync(pool);
    at = 0;
  }
  const text = pool.toString("hex", at, at + bytes);
  at += bytes;
  return text;
}
