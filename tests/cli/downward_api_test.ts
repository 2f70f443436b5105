/** Files of the downward API, as a kubelet writes them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { parseDownwardFile } from "../../src/cli/downward_api.ts";

test("downward api: reads labels and annotations with every escape that Go writes", () => {
  const text = [
    'app="echo"',
    'gateway.networking.k8s.io/gateway-name="waypoint"',
    'kubectl.kubernetes.io/last-applied="{\\"a\\":\\"b\\\\c\\"}\\n"',
    'note="caf\\u00e9 \\U0001f600 \\x41\\t"',
    'bytes="\\xe2\\x82\\xac"',
    'octal="\\101"',
    'equals="a=b"',
    'empty=""',
    "",
  ].join("\n");
  const { entries, skipped } = parseDownwardFile(text);
  assert.equal(skipped, 0);
  assert.deepEqual(entries, {
    app: "echo",
    "gateway.networking.k8s.io/gateway-name": "waypoint",
    "kubectl.kubernetes.io/last-applied": '{"a":"b\\c"}\n',
    note: "café 😀 A\t",
    bytes: "€",
    octal: "A",
    equals: "a=b",
    empty: "",
  });
});

test("downward api: passes over what it cannot read, and keeps the rest", () => {
  const bad = ["no value", '="x"', "a=b", 'b="unfinished', 'c="\\q"', 'd="\\x4"', 'e="\\ud800"', 'f="a"b"', 'g="\\"'];
  const { entries, skipped } = parseDownwardFile([...bad, 'good="yes"'].join("\n"));
  assert.deepEqual(entries, { good: "yes" });
  assert.equal(skipped, bad.length);
});

test("downward api: a name is a name, whatever it is", () => {
  const { entries } = parseDownwardFile('__proto__="x"\nconstructor="y"');
  assert.deepEqual(Object.entries(entries), [["__proto__", "x"], ["constructor", "y"]]);
  assert.equal(({} as Record<string, unknown>)["x"], undefined);
});
