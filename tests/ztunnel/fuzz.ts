/** Fuzz target of what two ztunnels tell each other in a hand-over. */
import assert from "node:assert/strict";
import {
  decodeHandoverAnswer,
  decodeHandoverRequest,
  encodeHandoverAnswer,
  encodeHandoverRequest,
} from "../../src/ztunnel/handover_messages.ts";

export const targets = [
  {
    name: "handover",
    corpusDir: "tests/corpus/handover",
    maxBytes: 1024,
    target(bytes: Uint8Array): void {
      const request = decodeHandoverRequest(bytes);
      if (request !== undefined) assert.deepEqual(decodeHandoverRequest(encodeHandoverRequest(request)), request);
      const answer = decodeHandoverAnswer(bytes);
      if (answer !== undefined) assert.deepEqual(decodeHandoverAnswer(encodeHandoverAnswer(answer)), answer);
    },
  },
];
