import fc from "fast-check";
import assert from "node:assert/strict";
import { test } from "node:test";
import { formatSocketAddress, parseAuthority, parseSocketAddress } from "../../src/mesh/socket_address.ts";

const ADDRESSES: readonly (readonly [string, string | undefined])[] = [
  ["1.2.3.4:80", "1.2.3.4:80"],
  ["[::1]:80", "[::1]:80"],
  ["[::ffff:1.2.3.4]:80", "1.2.3.4:80"],
  ["0.0.0.0:0", "0.0.0.0:0"],
  ["1.2.3.4", undefined],
  ["1.2.3.4:", undefined],
  ["1.2.3.4:65536", undefined],
  ["[1.2.3.4]:80", undefined],
  ["::1:80", undefined],
  ["host:80", undefined],
];

for (const [text, expected] of ADDRESSES) {
  test(`socket_address: ${text} reads as ${expected}`, () => {
    const address = parseSocketAddress(text);
    assert.equal(address === undefined ? undefined : formatSocketAddress(address), expected);
  });
}

const AUTHORITIES: readonly (readonly [string, string])[] = [
  ["1.2.3.4:80", "address 1.2.3.4 80"],
  ["[2001:DB8::1]:65535", "address 2001:db8::1 65535"],
  ["[::ffff:1.2.3.4]:80", "address 1.2.3.4 80"],
  ["echo.default.svc.cluster.local:80", "hostname echo.default.svc.cluster.local 80"],
  ["Echo.Default:80", "hostname echo.default 80"],
  ["_svc-1.x:80", "hostname _svc-1.x 80"],
  ["1.2.3:80", "hostname 1.2.3 80"],
  ["1.2.3.4", "invalid"],
  ["host", "invalid"],
  ["host:", "invalid"],
  ["host:0", "invalid"],
  ["host:080", "invalid"],
  ["host:65536", "invalid"],
  ["host:+80", "invalid"],
  ["::1:80", "invalid"],
  ["[1.2.3.4]:80", "invalid"],
  ["[host]:80", "invalid"],
  ["[::1", "invalid"],
  ["[::1]80", "invalid"],
  [":80", "invalid"],
  ["", "invalid"],
  ["user@host:80", "invalid"],
  ["a..b:80", "invalid"],
  ["-a:80", "invalid"],
  ["a b:80", "invalid"],
  ["http://host:80", "invalid"],
  [`${"a".repeat(254)}:80`, "invalid"],
];

for (const [text, expected] of AUTHORITIES) {
  test(`authority: ${text.slice(0, 50)} is ${expected}`, () => {
    const authority = parseAuthority(text);
    const shown = authority.kind === "address"
      ? `address ${authority.ip} ${authority.port}`
      : authority.kind === "hostname"
      ? `hostname ${authority.hostname} ${authority.port}`
      : "invalid";
    assert.equal(shown, expected);
  });
}

test("authority: one without a port says that the port is missing", () => {
  const authority = parseAuthority("echo.default");
  assert.equal(authority.kind, "invalid");
  assert.match(authority.kind === "invalid" ? authority.message : "", /"echo.default".*:port, from 1 to 65535/);
});

test("authority: a long one is cut in the message", () => {
  const authority = parseAuthority("x".repeat(10_000));
  assert.ok(authority.kind === "invalid" && authority.message.length < 200);
});

test("socket_address: formatting and parsing are inverse", () => {
  const ip = fc.oneof(fc.ipV4(), fc.ipV6());
  fc.assert(fc.property(ip, fc.nat(65_535), (text, port) => {
    const read = parseSocketAddress(text.includes(":") ? `[${text}]:${port}` : `${text}:${port}`);
    assert.ok(read !== undefined);
    assert.deepEqual(parseSocketAddress(formatSocketAddress(read)), read);
  }));
});
