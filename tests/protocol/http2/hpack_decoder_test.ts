import { test } from "node:test";
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { FieldKind } from "../../../src/protocol/http2/field_kind.ts";
import { HpackDecoder } from "../../../src/protocol/http2/hpack_decoder.ts";
import { STATIC_NAMES, STATIC_VALUES } from "../../../src/protocol/http2/hpack_static.ts";
import { decodeBlock } from "./harness.ts";
import { EXAMPLES } from "./hpack_vectors.ts";

const hex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, "hex"));

/** The dynamic table, newest first, read through its indexes. */
function tableOf(decoder: HpackDecoder): string[] {
  const entries: string[] = [];
  for (let i = 0; i < decoder.tableEntries; i++) {
    const [name, value] = decodeBlock(decoder, new Uint8Array([0x80 | 62 + i]));
    entries.push(`${name}: ${value}`);
  }
  return entries;
}

for (const example of EXAMPLES) {
  test(`hpack_decoder: RFC 7541 ${example.name}`, () => {
    const decoder = new HpackDecoder(example.tableLimit);
    for (const step of example.steps) {
      assert.deepEqual(decodeBlock(decoder, hex(step.block)), step.fields);
      assert.deepEqual(tableOf(decoder), step.table);
      assert.equal(decoder.tableBytes, step.tableBytes);
    }
  });
}

test("hpack_decoder: integers of RFC 7541 C.1, as sizes and lengths", () => {
  // 10 in 5 bits and 1337 in 5 bits, as table sizes.
  assert.deepEqual(decodeBlock(new HpackDecoder(), hex("2a")), []);
  assert.deepEqual(decodeBlock(new HpackDecoder(), hex("3f9a0a")), []);
  const limited = new HpackDecoder(1336);
  assert.throws(() => decodeBlock(limited, hex("3f9a0a")), /table size above the limit/);
});

test("hpack_decoder: has the static table of appendix A", () => {
  assert.equal(STATIC_NAMES.length, 62);
  const decoder = new HpackDecoder();
  for (let index = 1; index <= 61; index++) {
    assert.deepEqual(decodeBlock(decoder, new Uint8Array([0x80 | index])), [STATIC_NAMES[index], STATIC_VALUES[index]]);
  }
  assert.deepEqual([STATIC_NAMES[1], STATIC_NAMES[16], STATIC_VALUES[16]], [
    ":authority",
    "accept-encoding",
    "gzip, deflate",
  ]);
  assert.deepEqual([STATIC_NAMES[14], STATIC_VALUES[14], STATIC_NAMES[61]], [":status", "500", "www-authenticate"]);
});

const FAULTS: [string, string, RegExp][] = [
  ["index 0", "80", /index outside/],
  ["an index beyond the static table while the dynamic one is empty", "be", /index outside/],
  ["a literal whose name is beyond the tables", "7f00", /index outside/],
  ["a block that ends inside an index", "ff", /integer cut short/],
  ["a block that ends inside a name", "400a6375", /string cut short/],
  ["a block that ends before the value", "4001610561", /string cut short/],
  ["a block that ends after the name", "400161", /string cut short/],
  ["a length beyond any block", "4001617fffffffff7f", /too large/],
  ["an index that takes more than 28 bits", "ffffffffffff0f", /too large/],
  ["an integer padded without end", "ff8080808080808000", /too large/],
  ["a Huffman string with a byte of padding", "400161821fff", /Huffman/],
  ["a table size update after a field", "8220", /after a field/],
  ["a table size above what we announced", "3fe21f", /above the limit/],
];
for (const [what, block, message] of FAULTS) {
  test(`hpack_decoder: refuses ${what}`, () => {
    assert.throws(() => decodeBlock(new HpackDecoder(), hex(block)), message);
  });
}

test("hpack_decoder: a size update empties the table, and later entries obey it", () => {
  const decoder = new HpackDecoder();
  decodeBlock(decoder, hex("400161016240016301644001650166"));
  assert.deepEqual(tableOf(decoder), ["e: f", "c: d", "a: b"]);
  // 70 bytes hold two entries of 34.
  decodeBlock(decoder, hex("3f27"));
  assert.deepEqual(tableOf(decoder), ["e: f", "c: d"]);
  decodeBlock(decoder, hex("20"));
  assert.equal(decoder.tableBytes, 0);
  decodeBlock(decoder, hex("4001610162"));
  assert.equal(decoder.tableEntries, 0);
});

test("hpack_decoder: an entry larger than the table empties it and is still delivered", () => {
  const decoder = new HpackDecoder(64);
  decodeBlock(decoder, hex("4001610162"));
  assert.equal(decoder.tableEntries, 1);
  const value = "78".repeat(40);
  assert.deepEqual(decodeBlock(decoder, hex(`40017928${value}`)), ["y", "x".repeat(40)]);
  assert.equal(decoder.tableEntries, 0);
});

test("hpack_decoder: a name taken from an entry that its own insertion evicts is still right", () => {
  const decoder = new HpackDecoder(64);
  decodeBlock(decoder, hex("40046e616d65016f"));
  assert.deepEqual(decodeBlock(decoder, hex(`7e1c${"79".repeat(28)}`)), ["name", "y".repeat(28)]);
  assert.deepEqual(tableOf(decoder), [`name: ${"y".repeat(28)}`]);
});

test("hpack_decoder: the table stays within its limit whatever is inserted", () => {
  const decoder = new HpackDecoder();
  for (let i = 0; i < 5000; i++) {
    const name = i.toString(16).padStart(4, "0");
    decodeBlock(decoder, hex(`4004${Buffer.from(name).toString("hex")}0161`));
    assert.ok(decoder.tableBytes <= 4096);
  }
  assert.equal(decoder.tableEntries, Math.floor(4096 / 37));
});

test("hpack_decoder: bytes become characters one to one", () => {
  const decoder = new HpackDecoder();
  const value = Array.from({ length: 120 }, (_, i) => i + 130);
  const [, read] = decodeBlock(decoder, new Uint8Array([0x00, 1, 0x61, value.length, ...value]));
  assert.deepEqual(Array.from(read, (char) => char.charCodeAt(0)), value);
});

test("hpack_decoder: tells what HTTP/2 makes of each field, and remembers it with the entry", () => {
  const kinds: [string, string, number][] = [
    [":method", "GET", FieldKind.METHOD],
    [":method", "", FieldKind.MALFORMED],
    [":method", "G T", FieldKind.MALFORMED],
    [":status", "200", FieldKind.STATUS],
    [":status", "20", FieldKind.MALFORMED],
    [":status", "2x0", FieldKind.MALFORMED],
    [":path", "/a b", FieldKind.MALFORMED],
    [":path", "/a?b", FieldKind.PATH],
    [":authority", "a\tb", FieldKind.MALFORMED],
    [":unknown", "x", FieldKind.MALFORMED],
    ["x-y", "fine value", FieldKind.REGULAR],
    ["x-y", "", FieldKind.REGULAR],
    ["x-y", " leading", FieldKind.MALFORMED],
    ["x-y", "trailing\t", FieldKind.MALFORMED],
    ["x-y", "a\nb", FieldKind.MALFORMED],
    ["x-y", "a\0b", FieldKind.MALFORMED],
    ["X-y", "a", FieldKind.MALFORMED],
    ["x y", "a", FieldKind.MALFORMED],
    ["x:y", "a", FieldKind.MALFORMED],
    ["", "a", FieldKind.MALFORMED],
    ["x\u00e9", "a", FieldKind.MALFORMED],
    ["connection", "close", FieldKind.MALFORMED],
    ["transfer-encoding", "chunked", FieldKind.MALFORMED],
    ["upgrade", "h2c", FieldKind.MALFORMED],
    ["keep-alive", "1", FieldKind.MALFORMED],
    ["proxy-connection", "x", FieldKind.MALFORMED],
    ["te", "trailers", FieldKind.REGULAR],
    ["te", "gzip", FieldKind.MALFORMED],
    ["content-length", "12", FieldKind.CONTENT_LENGTH],
    ["content-length", "-1", FieldKind.MALFORMED],
    ["content-length", "1, 1", FieldKind.MALFORMED],
    ["host", "a", FieldKind.HOST],
  ];
  for (const [name, value, expected] of kinds) {
    const decoder = new HpackDecoder();
    const seen: number[] = [];
    const sink = { field: (_name: string, _value: string, kind: number) => void seen.push(kind) };
    const bytes = [0x40, name.length, ...Buffer.from(name, "latin1"), value.length, ...Buffer.from(value, "latin1")];
    assert.ok(decoder.decode(new Uint8Array(bytes), 0, bytes.length, sink));
    assert.ok(decoder.decode(new Uint8Array([0xbe]), 0, 1, sink));
    assert.deepEqual(seen, [expected, expected], `${name}: ${value}`);
  }
});

test("hpack_decoder: says which fields must never be indexed", () => {
  const decoder = new HpackDecoder();
  const flags: boolean[] = [];
  const block = hex("100161016200016301644001650166");
  decoder.decode(block, 0, block.length, { field: (_n, _v, _k, never) => void flags.push(never) });
  assert.deepEqual(flags, [true, false, false]);
});
