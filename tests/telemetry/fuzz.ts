/** Fuzz targets of the log: `RUST_LOG` directives, and lines made from hostile values. */
import assert from "node:assert/strict";
import { LEVEL_RANK, LogFilter, parseLogDirectives } from "../../src/telemetry/log_filter.ts";
import { formatJson, formatPlain } from "../../src/telemetry/log_line.ts";

const decoder = new TextDecoder();

function fuzzFilter(bytes: Uint8Array): void {
  const text = decoder.decode(bytes);
  let filter: LogFilter;
  try {
    filter = LogFilter.parse(text);
  } catch (error) {
    assert.match((error as Error).message, /^must be levels/);
    return;
  }
  // What it shows it reads back, and it decides the same then.
  const again = LogFilter.parse(filter.text);
  assert.equal(again.text, filter.text);
  for (const target of ["access", "ztunnel::proxy", text, ""]) {
    const rank = filter.rankOf(target);
    assert.equal(again.rankOf(target), rank);
    assert.ok(rank >= LEVEL_RANK.off && rank <= filter.maxRank);
  }
  for (const { target } of parseLogDirectives(filter.text, { bareTargets: false })) {
    assert.doesNotMatch(target, /[,=\s]/);
  }
}

function fuzzLine(bytes: Uint8Array): void {
  const text = decoder.decode(bytes);
  const fields = { a: text, b: { bare: text }, c: 1 };
  const plain = formatPlain("T", "info", "t", text, fields);
  const columns = plain.split("\t");
  assert.equal(columns.length, 5);
  assert.equal(plain.indexOf("\n"), plain.length - 1);
  // deno-lint-ignore no-control-regex
  assert.doesNotMatch(plain.slice(0, -1), /[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]/);
  assert.ok(columns[4].startsWith('a="') && columns[4].endsWith(" c=1\n"));
  const json = formatJson("T", "info", "t", text, fields);
  assert.equal(json.indexOf("\n"), json.length - 1);
  const parsed = JSON.parse(json);
  assert.deepEqual([parsed.message ?? "", parsed.a, parsed.b, parsed.c], [text, text, text, 1]);
}

export const targets = [
  { name: "log filter", corpusDir: "tests/corpus/log_filter", target: fuzzFilter, maxBytes: 512 },
  { name: "log line", corpusDir: "tests/corpus/log_filter", target: fuzzLine, maxBytes: 512 },
];
