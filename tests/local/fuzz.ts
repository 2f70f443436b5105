/** Fuzz target of `ambit local exec`: its lines, both ways. */
import assert from "node:assert/strict";
import { decodeExecReply, decodeExecRequest } from "../../src/local/exec_messages.ts";

const decoder = new TextDecoder();

function fuzzExec(bytes: Uint8Array): void {
  for (const line of decoder.decode(bytes).split("\n")) {
    for (const decode of [decodeExecRequest, decodeExecReply]) {
      try {
        const message = decode(line);
        assert.deepEqual(decode(JSON.stringify(message)), message);
      } catch (error) {
        // JSON.parse says it with a SyntaxError.
        if (!(error instanceof TypeError || error instanceof SyntaxError)) throw error;
      }
    }
  }
}

export const targets = [{ name: "local exec", corpusDir: "tests/corpus/local_exec", target: fuzzExec, maxBytes: 2048 }];
