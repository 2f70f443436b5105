import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  formatDuration,
  parseBoolean,
  parseCpuQuantity,
  parseDuration,
  parseHeaderName,
  parseInteger,
  parseServerAddress,
  parseSocketAddress,
  parseWorkerCount,
  parseWorkloadInfo,
} from "../../src/cli/values.ts";

test("duration: reads Go durations as milliseconds", () => {
  const table: [string, number][] = [
    ["5m", 300_000],
    ["10s", 10_000],
    ["300ms", 300],
    ["1h30m", 5_400_000],
    ["1.5s", 1500],
    [".5s", 500],
    ["2.s", 2000],
    ["0", 0],
    ["0s", 0],
    ["400us", 0],
    ["1500µs", 2],
    ["24h", 86_400_000],
  ];
  for (const [text, ms] of table) assert.equal(parseDuration(text), ms, text);
});

test("duration: refuses what Go refuses, negative and overlong ones", () => {
  for (
    const text of ["", "5", "s", "5 s", " 5s", "5s ", "-5s", "+5s", "1e3s", "5d", "5S", "1..5s", "597h", "9".repeat(70)]
  ) {
    assert.throws(() => parseDuration(text), /must be a duration/, text);
  }
});

test("duration: what it formats it reads back", () => {
  fc.assert(fc.property(fc.integer({ min: 0, max: 2 ** 31 - 1 }), (ms) => parseDuration(formatDuration(ms)) === ms));
});

test("boolean: takes true and false only", () => {
  assert.equal(parseBoolean("true"), true);
  assert.equal(parseBoolean("false"), false);
  for (const text of ["", "TRUE", "True", "1", "0", "yes", " true", "t"]) {
    assert.throws(() => parseBoolean(text), /must be true or false/, text);
  }
});

test("integer: takes decimal digits within the range only", () => {
  assert.equal(parseInteger("15", 1, 15), 15);
  for (const text of ["", "0", "16", "-1", "+1", "1.0", "1e1", "0x5", " 5", "5 ", "99999999999999999999"]) {
    assert.throws(() => parseInteger(text, 1, 15), /must be a whole number from 1 to 15/, text);
  }
});

test("workers: reads counts, percentages and all", () => {
  assert.deepEqual(parseWorkerCount("3"), { kind: "count", count: 3 });
  assert.deepEqual(parseWorkerCount("50%"), { kind: "percent", percent: 50 });
  assert.deepEqual(parseWorkerCount("0"), { kind: "all" });
  for (const text of ["", "-1", "0%", "101%", "%", "2000", "1.5"]) {
    assert.throws(() => parseWorkerCount(text), Error, text);
  }
});

test("cpu quantity: rounds up to whole CPUs", () => {
  const table: [string, number][] = [["2", 2], ["200m", 1], ["1500m", 2], ["0.5", 1], ["0", 0]];
  for (const [text, cpus] of table) assert.equal(parseCpuQuantity(text), cpus, text);
  for (const text of ["", "m", "-1", "1k", "1.5.0"]) assert.throws(() => parseCpuQuantity(text), Error, text);
});

test("workload info: has exactly three parts", () => {
  assert.deepEqual(parseWorkloadInfo("a/b/c"), { namespace: "a", name: "b", serviceAccount: "c" });
  for (const text of ["", "a/b", "a/b/c/d", "/b/c", "a//c", "a/b/"]) {
    assert.throws(() => parseWorkloadInfo(text), Error, text);
  }
});

test("server address: gets https, and only https", () => {
  assert.equal(parseServerAddress("istiod.istio-system.svc:15012"), "https://istiod.istio-system.svc:15012");
  assert.equal(parseServerAddress("https://[::1]:15012"), "https://[::1]:15012");
  assert.equal(parseServerAddress(""), undefined);
  for (
    const text of ["http://a:1", "https://", "https://u:p@a:1", "https://a:1/path", "https://a:1?x", "a b", "a:99999"]
  ) {
    assert.throws(() => parseServerAddress(text), /must be host:port/, text);
  }
});

test("header name: is lower-cased and must be a token", () => {
  assert.equal(parseHeaderName("X-Tenant"), "x-tenant");
  for (const text of ["", "a b", "a:b", "é", "a\n"]) assert.throws(() => parseHeaderName(text), Error, text);
});

test("socket address: is localhost or an address, with a port", () => {
  assert.equal(parseSocketAddress("localhost:53"), "localhost:53");
  assert.equal(parseSocketAddress("[::1]:53"), "[::1]:53");
  for (const text of ["", "localhost", "host:53", "1.2.3.4:0", "1.2.3.4:65536", "::1:53"]) {
    assert.throws(() => parseSocketAddress(text), Error, text);
  }
});
