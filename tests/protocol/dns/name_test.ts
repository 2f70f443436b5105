import assert from "node:assert/strict";
import { test } from "node:test";
import { labelBytes, NameReader, parseName, splitName } from "../../../src/protocol/dns/mod.ts";
import { bytes } from "./support.ts";

test("dns name: bytes that are no letters are escaped", () => {
  const reader = new NameReader(bytes('04 "a.b" 5c 02 00 ff 03 "A-_" 00'));
  assert.equal(reader.read(0), "a\\.b\\\\.\\000\\255.A-_");
  assert.equal(reader.next, 13);
});

test("dns name: the root is empty text", () => {
  assert.equal(new NameReader(bytes("00")).read(0), "");
  assert.deepEqual(splitName(""), []);
});

test("dns name: labels are split at dots that are not escaped", () => {
  assert.deepEqual(splitName("a.b.c"), ["a", "b", "c"]);
  assert.deepEqual(splitName("a\\.b.c\\\\.d"), ["a\\.b", "c\\\\", "d"]);
  assert.deepEqual(labelBytes("a\\.b\\\\\\000\\255"), bytes('"a.b" 5c 00 ff'));
  for (const label of ["", "x".repeat(64), "\\256", "\\", "\u00e4\u0100"]) assert.equal(labelBytes(label), undefined);
});

test("dns name: what people write is made canonical", () => {
  assert.equal(parseName("WWW.Example.COM."), "www.example.com");
  assert.equal(parseName("."), "");
  assert.equal(parseName("a\\046b"), "a\\.b");
  for (const text of ["a..b", ".a", `${"x".repeat(64)}.com`, "abcdefg.".repeat(32)]) {
    assert.equal(parseName(text), undefined, text);
  }
});
