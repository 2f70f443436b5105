import { test } from "node:test";
import assert from "node:assert/strict";
import { fuzz } from "./fuzz.ts";

test("http2 fuzz: no input breaks an invariant of the connection, HPACK or Huffman coding", () => {
  // The same inputs each time; a long run with other seeds is `fuzz.ts` itself.
  for (const [name, report] of fuzz(2, 1)) {
    assert.ok(report.runs > report.corpusFiles, `${name} ran ${report.runs} inputs`);
  }
});
