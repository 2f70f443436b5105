import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { formatResult, parseResult } from "../../../src/cni/plugin/result.ts";
import type { CniVersion } from "../../../src/cni/plugin/versions.ts";

interface GoldenCase {
  readonly name: string;
  readonly version: CniVersion;
  readonly prevResult?: unknown;
  /** What the Go library prints. */
  readonly result?: unknown;
  /** Its words, when it refuses. */
  readonly refused?: string;
}

const { cases }: { readonly cases: readonly GoldenCase[] } = JSON.parse(
  readFileSync(new URL("./result_golden.json", import.meta.url), "utf8"),
);

function convert({ version, prevResult }: GoldenCase): string {
  return formatResult(prevResult === undefined ? undefined : parseResult(prevResult, version), version);
}

test("result: every version is converted as CNI's Go library does", () => {
  assert.ok(cases.length > 50);
  for (const item of cases) {
    const name = `${item.version}: ${item.name}`;
    if (item.refused === undefined) assert.deepEqual(JSON.parse(convert(item)), item.result, name);
    else assert.throws(() => convert(item), { message: /^(prevResult|cannot convert)/ }, name);
  }
});

test("result: what was converted is read and written unchanged", () => {
  for (const item of cases.filter(({ result }) => result !== undefined)) {
    if (!/^1|^0\.[34]/.test(item.version)) continue;
    const again = formatResult(parseResult(item.result, item.version), item.version);
    assert.equal(again, convert(item), `${item.version}: ${item.name}`);
  }
});

test("result: errors name the field", () => {
  const table: [unknown, RegExp][] = [
    [{ ips: [{ address: "10.0.0.7" }] }, /^prevResult\.ips\[0\]\.address: "10\.0\.0\.7" is no address with a prefix/],
    [{ ips: [{}] }, /^prevResult\.ips\[0\]\.address: "" is no address/],
    [{ ips: [null] }, /^prevResult\.ips\[0\]: must be an object, is null$/],
    [{ routes: [{ dst: "0.0.0.0/0", gw: "gw" }] }, /^prevResult\.routes\[0\]\.gw: "gw" is no IP address$/],
    [{ dns: { search: [1] } }, /^prevResult\.dns\.search\[0\]: must be a string, is 1$/],
    [{ cniVersion: "0.4.0" }, /^prevResult: version "0\.4\.0" is not one of 1\.0\.0, 1\.1\.0$/],
  ];
  for (const [value, message] of table) assert.throws(() => parseResult(value, "1.0.0"), { message });
});
