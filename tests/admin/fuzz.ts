/** Fuzz targets of the admin servers: Accept headers. */
import assert from "node:assert/strict";
import { chooseCoding, namesMediaType, parseWeightedList } from "../../src/admin/negotiation.ts";

const decoder = new TextDecoder();

function fuzzAccept(bytes: Uint8Array): void {
  const header = decoder.decode(bytes);
  const items = parseWeightedList(header);
  assert.ok(items.length <= 64);
  for (const { value, quality } of items) {
    assert.ok(quality >= 0 && quality <= 1, String(quality));
    assert.ok(value !== "" && value === value.trim() && !/[,;]/.test(value), JSON.stringify(value));
  }
  const coding = chooseCoding(header);
  if (coding !== undefined) {
    // It was asked for, by name or by the wildcard, and not refused.
    assert.ok(items.some(({ value, quality }) => (value === coding || value === "*") && quality > 0));
    assert.notEqual(items.find(({ value }) => value === coding)?.quality, 0);
  }
  if (namesMediaType(header, "application/openmetrics-text")) assert.match(header, /application\/openmetrics-text/i);
}

export const targets = [{
  name: "accept header",
  corpusDir: "tests/corpus/accept",
  target: fuzzAccept,
  maxBytes: 1024,
}];
