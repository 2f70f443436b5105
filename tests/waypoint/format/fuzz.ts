/** Fuzz target of Envoy's format strings: what is read can be written again, and the lenient reader takes everything. */
import assert from "node:assert/strict";
import { Unsupported } from "../../../src/waypoint/config/guard.ts";
import { parseFormat, parseHeaderValue } from "../../../src/waypoint/config/format.ts";
import { compileFormat } from "../../../src/waypoint/format/compile.ts";
import type { Format } from "../../../src/waypoint/spec/mod.ts";
import { ENVIRONMENT, factsOf, finishedRequest } from "./support.ts";

const decoder = new TextDecoder();
const facts = factsOf(finishedRequest());

function write(format: Format): string {
  return format.map((part) => {
    if ("text" in part) return part.text.replaceAll("%", "%%");
    const argument = part.argument === "" ? "" : `(${part.argument})`;
    return `%${part.command}${argument}${part.maxLength === undefined ? "" : `:${part.maxLength}`}%`;
  }).join("");
}

function fuzzFormat(bytes: Uint8Array): void {
  const text = decoder.decode(bytes);
  assert.equal(typeof compileFormat(parseHeaderValue(text), ENVIRONMENT, "")(facts), "string");
  let format: Format;
  try {
    format = parseFormat(text);
  } catch (error) {
    assert.ok(error instanceof Unsupported, String(error));
    return;
  }
  assert.deepEqual(parseFormat(write(format)), format);
  assert.equal(typeof compileFormat(format, ENVIRONMENT, "-")(facts), "string");
}

export const targets = [
  { name: "format string", corpusDir: "tests/corpus/format_string", target: fuzzFormat, maxBytes: 512 },
];
