import fc from "fast-check";
import assert from "node:assert/strict";
import { isIPv4, isIPv6 } from "node:net";
import { test } from "node:test";
import { canonicalIp, cidrContains, formatCidr, formatIp, parseCidr, parseIp } from "../../src/mesh/ip.ts";

const CANONICAL: readonly (readonly [string, string | undefined])[] = [
  ["10.0.0.1", "10.0.0.1"],
  ["255.255.255.255", "255.255.255.255"],
  ["256.0.0.1", undefined],
  ["01.2.3.4", undefined],
  ["1.2.3", undefined],
  ["1.2.3.4.5", undefined],
  ["1.2.3.4 ", undefined],
  ["1..3.4", undefined],
  ["", undefined],
  ["::", "::"],
  ["::1", "::1"],
  ["1::", "1::"],
  ["2001:DB8:0:0:0:0:0:1", "2001:db8::1"],
  ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
  ["2001:0:0:1:0:0:0:1", "2001:0:0:1::1"],
  ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
  ["::ffff:10.0.0.1", "10.0.0.1"],
  ["::ffff:a00:1", "10.0.0.1"],
  ["::10.0.0.1", "::a00:1"],
  ["1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"],
  ["1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"],
  ["1:2:3:4:5:6:7", undefined],
  ["1:2:3:4:5:6:7:8:9", undefined],
  ["1::2::3", undefined],
  ["1:2:3:4::5:6:7:8", undefined],
  [":1", undefined],
  ["1:", undefined],
  [":::", undefined],
  ["12345::", undefined],
  ["g::", undefined],
  ["fe80::1%eth0", undefined],
  ["::1.2.3.4:5", undefined],
];

for (const [text, expected] of CANONICAL) {
  test(`ip: ${JSON.stringify(text)} reads as ${expected}`, () => assert.equal(canonicalIp(text), expected));
}

test("ip: formatting and parsing are inverse, and agree with the runtime about what an address is", () => {
  const bytes = fc.oneof(
    fc.uint8Array({ minLength: 4, maxLength: 4 }),
    fc.uint8Array({ minLength: 16, maxLength: 16 }),
    fc.array(fc.constantFrom(0, 0, 0, 1, 255), { minLength: 16, maxLength: 16 }).map((list) => Uint8Array.from(list)),
  );
  fc.assert(fc.property(bytes, (address) => {
    const text = formatIp(address);
    assert.ok(isIPv4(text) || isIPv6(text), text);
    const read = parseIp(text);
    assert.ok(read !== undefined);
    assert.equal(formatIp(read), text);
    if (read.length === address.length) assert.deepEqual([...read], [...address]);
  }));
});

test("ip: takes exactly the IPv6 texts without zone that the runtime takes", () => {
  const piece = fc.constantFrom("0", "1", "ffff", "1.2.3.4", ":", "::", "g", "10000");
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 17 }), (pieces) => {
      const text = pieces.join("");
      if (text.includes(":")) assert.equal(parseIp(text) !== undefined, isIPv6(text), text);
    }),
    { numRuns: 2000 },
  );
});

const CIDRS: readonly (readonly [string, string | undefined])[] = [
  ["10.1.2.3/8", "10.0.0.0/8"],
  ["10.1.2.3/0", "0.0.0.0/0"],
  ["10.1.2.3", "10.1.2.3/32"],
  ["10.1.2.3/33", undefined],
  ["10.1.2.3/", undefined],
  ["10.1.2.3/-1", undefined],
  ["10.1.2.3/08", undefined],
  ["2001:db8:ffff::/33", "2001:db8:8000::/33"],
  ["2001:db8::1", "2001:db8::1/128"],
  ["::/129", undefined],
  ["::ffff:10.0.0.0/104", "10.0.0.0/8"],
  ["::ffff:10.0.0.0/90", undefined],
  ["x/8", undefined],
];

for (const [text, expected] of CIDRS) {
  test(`cidr: ${text} reads as ${expected}`, () => {
    const cidr = parseCidr(text);
    assert.equal(cidr === undefined ? undefined : formatCidr(cidr), expected);
  });
}

test("cidr: holds an address exactly if the first bits are the same", () => {
  const bits = (bytes: Uint8Array) => [...bytes].map((byte) => byte.toString(2).padStart(8, "0")).join("");
  const near = fc.tuple(fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.nat(31), fc.nat(32));
  fc.assert(fc.property(near, ([ip, flip, length]) => {
    const other = ip.slice();
    other[flip >> 3] ^= 0x80 >> (flip & 7);
    const cidr = parseCidr(`${formatIp(ip)}/${length}`);
    assert.ok(cidr !== undefined && cidrContains(cidr, ip));
    assert.equal(cidrContains(cidr, other), bits(ip).slice(0, length) === bits(other).slice(0, length));
  }));
});

test("cidr: never holds an address of the other family", () => {
  const all = parseCidr("0.0.0.0/0")!;
  const all6 = parseCidr("::/0")!;
  assert.equal(cidrContains(all, parseIp("::1")!), false);
  assert.equal(cidrContains(all6, parseIp("10.0.0.1")!), false);
});
