import fc from "fast-check";
import assert from "node:assert/strict";
import { test } from "node:test";
import { formatForwarded, parseForwarded } from "../../src/mesh/forwarded.ts";

test("forwarded: names the client, and the service if there is one", () => {
  assert.equal(formatForwarded({ ip: "1.2.3.4", port: 80 }, undefined), `for="1.2.3.4:80"`);
  assert.equal(formatForwarded({ ip: "::1", port: 80 }, "echo.default.svc"), `for="[::1]:80";host=echo.default.svc`);
});

const CASES: readonly (readonly [string, string | undefined, string | undefined])[] = [
  [`for="1.2.3.4:80"`, "1.2.3.4", undefined],
  [`for=1.2.3.4:80;host=a.b`, "1.2.3.4", "a.b"],
  [`Host="a b\\"c";proto=http;FOR="[2001:db8::1]:443"`, "2001:db8::1", `a b"c`],
  [`for="1.2.3.4:80" ; host=a`, "1.2.3.4", "a"],
  [`for="1.2.3.4:80", for="5.6.7.8:90";host=x`, "1.2.3.4", undefined],
  [`for=unknown;host=a`, undefined, "a"],
  [`for="1.2.3.4:80`, undefined, undefined],
  [`host=`, undefined, undefined],
  [`host=a;host=b`, undefined, "a"],
  ["", undefined, undefined],
  [";;;", undefined, undefined],
];

for (const [header, ip, host] of CASES) {
  test(`forwarded: ${header || "nothing"} is from ${ip} for ${host}`, () => {
    const read = parseForwarded(header);
    assert.equal(read.for?.ip, ip);
    assert.equal(read.host, host);
  });
}

test("forwarded: whatever is written is read back", () => {
  const host = fc.string({ unit: "grapheme-ascii", minLength: 1, maxLength: 60 });
  fc.assert(fc.property(fc.ipV4(), fc.nat(65_535), fc.option(host, { nil: undefined }), (ip, port, name) => {
    const read = parseForwarded(formatForwarded({ ip, port }, name));
    assert.deepEqual(read, { for: { ip, port }, host: name });
  }));
});
