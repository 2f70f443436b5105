import assert from "node:assert/strict";
import { test } from "node:test";
import { chooseCoding, namesMediaType, parseWeightedList } from "../../src/admin/negotiation.ts";

test("negotiation: reads weights and passes over what is malformed", () => {
  assert.deepEqual(parseWeightedList("a/b;v=1;q=0.5, ,C ; Q=0, d;q=2, e;q=0.1234, f;q="), [
    { value: "a/b", quality: 0.5 },
    { value: "c", quality: 0 },
    { value: "d", quality: 0 },
    { value: "e", quality: 0 },
    { value: "f", quality: 0 },
  ]);
  assert.equal(parseWeightedList(",".repeat(10_000)).length, 0);
});

test("negotiation: OpenMetrics only when it is named", () => {
  const type = "application/openmetrics-text";
  const table: [string, boolean][] = [
    ["", false],
    ["*/*", false],
    ["text/plain;q=0.5,application/openmetrics-text; version=1.0.0; charset=utf-8;q=0.75,*/*;q=0.1", true],
    ["Application/OpenMetrics-Text", true],
    ["application/openmetrics-text;q=0", false],
    ["application/openmetrics-textual", false],
  ];
  for (const [accept, expected] of table) assert.equal(namesMediaType(accept, type), expected, accept);
});

test("negotiation: the coding of the highest weight, identity when none is acceptable", () => {
  const table: [string, string | undefined][] = [
    ["", undefined],
    ["gzip", "gzip"],
    ["deflate", "deflate"],
    ["br", "br"],
    ["gzip, deflate, br, zstd", "zstd"],
    ["gzip;q=1.0, zstd;q=0.5", "gzip"],
    ["gzip;q=0", undefined],
    ["*", "zstd"],
    ["*;q=0.5, gzip;q=0.8", "gzip"],
    ["identity, gzip;q=0.5", undefined],
    ["snappy", undefined],
    ["x-gzip", undefined],
  ];
  for (const [header, expected] of table) assert.equal(chooseCoding(header), expected, header);
});
