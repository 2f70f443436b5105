import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import { parseIp } from "../../../src/mesh/ip.ts";
import { decodeProxyHeader, encodeProxyHeader, TLV_SOURCE_IDENTITY } from "../../../src/protocol/proxy_protocol.ts";

const SIGNATURE = "0d0a0d0a000d0a515549540a";
const hex = (text: string) => new Uint8Array(Buffer.from(text.replaceAll(" ", ""), "hex"));
const at = (ip: string, port: number) => ({ ip: parseIp(ip) as Uint8Array, port });
const V4 = at("10.0.0.1", 40_000);
const V4_TO = at("10.1.0.9", 80);
const V6 = at("2001:db8::1", 443);
const V6_TO = at("::1", 8080);
const ID = "spiffe://td/ns/a/sa/b";

const VECTORS: readonly (readonly [string, Uint8Array, string])[] = [
  ["IPv4", encodeProxyHeader(V4, V4_TO, undefined), "21 11 000c 0a000001 0a010009 9c40 0050"],
  [
    "IPv6",
    encodeProxyHeader(V6, V6_TO, undefined),
    "21 21 0024 20010db8000000000000000000000001 00000000000000000000000000000001 01bb 1f90",
  ],
  [
    "IPv4 with an identity",
    encodeProxyHeader(V4, V4_TO, "id"),
    "21 11 0011 0a000001 0a010009 9c40 0050 d0 0002 6964",
  ],
  ["two families, which it cannot tell", encodeProxyHeader(V4, V6, "id"), "21 01 0005 d0 0002 6964"],
];

for (const [name, encoded, expected] of VECTORS) {
  test(`proxy_protocol: writes ${name}`, () => {
    assert.equal(Buffer.from(encoded).toString("hex"), (SIGNATURE + expected).replaceAll(" ", ""));
  });
}

test("proxy_protocol: reads what it writes, whatever follows, and is incomplete before", () => {
  for (const [source, destination] of [[V4, V4_TO], [V6, V6_TO]] as const) {
    const header = encodeProxyHeader(source, destination, ID);
    const stream = new Uint8Array([...header, 1, 2, 3]);
    for (let cut = 0; cut < header.length; cut++) {
      assert.deepEqual(decodeProxyHeader(stream.subarray(0, cut)), { kind: "incomplete" }, `cut at ${cut}`);
    }
    for (let cut = header.length; cut <= stream.length; cut++) {
      const decoded = decodeProxyHeader(stream.subarray(0, cut));
      assert.ok(decoded.kind === "header");
      assert.equal(decoded.length, header.length);
      assert.deepEqual([decoded.source, decoded.destination], [source, destination]);
      assert.deepEqual(decoded.tlvs.map(({ type, value }) => [type, new TextDecoder().decode(value)]), [
        [TLV_SOURCE_IDENTITY, ID],
      ]);
    }
  }
});

test("proxy_protocol: LOCAL tells no addresses, nor does a family that is not told", () => {
  for (const text of ["20 11 000c 0a000001 0a010009 9c40 0050", "20 00 0000", "21 01 0000", "21 00 0003 04 0000"]) {
    const header = decodeProxyHeader(hex(SIGNATURE + text));
    assert.ok(header.kind === "header", text);
    assert.deepEqual([header.source, header.destination], [undefined, undefined]);
  }
});

const INVALID: readonly (readonly [string, string])[] = [
  ["0d0a0d0b", "another signature"],
  [SIGNATURE + "11", "version 1"],
  [SIGNATURE + "22 11 0000", "an unknown command"],
  [SIGNATURE + "21 31 0000", "an unknown family"],
  [SIGNATURE + "21 12 000c 0a000001 0a010009 9c40 0050", "UDP"],
  [SIGNATURE + "21 11 000b 0a000001 0a010009 9c40 00", "cut addresses"],
  [SIGNATURE + "21 11 000e 0a000001 0a010009 9c40 0050 d000", "a cut TLV header"],
  [SIGNATURE + "21 11 0010 0a000001 0a010009 9c40 0050 d0000200", "a cut TLV"],
];

for (const [text, name] of INVALID) {
  test(`proxy_protocol: refuses ${name}`, () => {
    assert.equal(decodeProxyHeader(hex(text)).kind, "invalid");
  });
}

test("proxy_protocol: refuses a longer header than its reader wants before it came", () => {
  const bytes = hex(SIGNATURE + "21 11 1000");
  assert.equal(decodeProxyHeader(bytes, 512).kind, "invalid");
  assert.equal(decodeProxyHeader(bytes, 8192).kind, "incomplete");
});

test("proxy_protocol: an identity that no TLV can hold is the caller's mistake", () => {
  assert.throws(() => encodeProxyHeader(V4, V4_TO, "x".repeat(70_000)), RangeError);
});
