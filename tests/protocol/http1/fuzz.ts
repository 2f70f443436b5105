/** Fuzz targets of HTTP/1.1: a stream means the same in any split, and what is passed on is read back as it was read. */
import { Buffer } from "node:buffer";
import assert from "node:assert/strict";
import { requestHead, responseHead } from "../../../src/protocol/http1/mod.ts";
import { type FuzzTask, Random } from "../../support/fuzz.ts";
import { LIMITS, readAll } from "./support.ts";

const MAX_CUTS = 8;

function fuzz(role: "request" | "response"): (bytes: Uint8Array) => void {
  return (bytes) => {
    const text = Buffer.from(bytes).toString("latin1");
    const whole = readAll(role, text);
    const random = new Random(bytes.length + (bytes[0] ?? 0));
    const cuts = Array.from({ length: MAX_CUTS }, () => random.below(text.length + 1)).sort((a, b) => a - b);
    assert.deepEqual(readAll(role, text, { cuts }), whole);
    for (const { head } of whole.messages) {
      const { line, fields } = head;
      const again = line.kind === "request"
        ? requestHead(line.method, line.target, fields)
        : responseHead(line.status, fields);
      if (line.minor === 0) continue;
      const [message] = readAll(role, again, { limits: { ...LIMITS, maxHeadBytes: 3 * LIMITS.maxHeadBytes } }).messages;
      assert.deepEqual(message.head.fields, fields);
      assert.deepEqual(message.head.framing, head.framing);
      assert.deepEqual(message.head.line, line);
    }
  };
}

export const targets: readonly Pick<FuzzTask, "name" | "corpusDir" | "target">[] = [
  { name: "http1 requests", corpusDir: "tests/corpus/http1/requests", target: fuzz("request") },
  { name: "http1 responses", corpusDir: "tests/corpus/http1/responses", target: fuzz("response") },
];
