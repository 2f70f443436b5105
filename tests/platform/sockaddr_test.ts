import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  AF_INET,
  AF_INET6,
  decodeSockaddr,
  encodeSockaddr,
  isIpv6,
  lendSockaddr,
} from "../../src/platform/sockaddr.ts";

const hex = (bytes: Uint8Array) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

describe("sockaddr", () => {
  test("sockaddr: encodes sockaddr_in and sockaddr_in6 as the kernel reads them", () => {
    assert.equal(hex(encodeSockaddr("10.0.0.9", 15008, AF_INET)), "02003aa00a0000090000000000000000");
    assert.equal(
      hex(encodeSockaddr("2001:db8::1", 15008, AF_INET6)),
      "0a003aa000000000" + "20010db8000000000000000000000001" + "00000000",
    );
    assert.equal(
      hex(encodeSockaddr("10.0.0.9", 80, AF_INET6)),
      "0a00005000000000" + "00000000000000000000ffff0a000009" + "00000000",
    );
  });

  test("sockaddr: what was encoded is decoded, a mapped address as IPv4", () => {
    for (const [ip, family] of [["10.0.0.9", AF_INET], ["2001:db8::1", AF_INET6], ["::", AF_INET6]] as const) {
      assert.deepEqual(decodeSockaddr(encodeSockaddr(ip, 65535, family)), { ip, port: 65535 });
    }
    assert.deepEqual(decodeSockaddr(encodeSockaddr("10.0.0.9", 1, AF_INET6)), { ip: "10.0.0.9", port: 1 });
  });

  test("sockaddr: another family has no IP address", () => {
    assert.equal(decodeSockaddr(new Uint8Array([1, 0, 47, 116])), undefined);
  });

  test("sockaddr: a text that is no address throws", () => {
    assert.throws(() => encodeSockaddr("10.0.0", 80, AF_INET), TypeError);
    assert.throws(() => encodeSockaddr("2001:db8::1", 80, AF_INET), TypeError);
  });

  test("sockaddr: lent memory holds one address after the other, nothing of the one before", () => {
    const addresses = [["2001:db8::ffff:1", AF_INET6], ["10.0.0.9", AF_INET6], ["::", AF_INET6], [
      "10.9.8.7",
      AF_INET,
    ]] as const;
    for (const [ip, family] of [...addresses, ...addresses]) {
      assert.equal(hex(lendSockaddr(ip, 513, family)), hex(encodeSockaddr(ip, 513, family)), ip);
    }
  });

  test("sockaddr: texts that are kept for one address are never another's", () => {
    // More of them than are kept, many with the same place.
    for (let round = 0; round < 2; round++) {
      for (let i = 0; i < 5_000; i++) {
        const ip = `10.${i & 255}.${i >> 8}.${i * 7 & 255}`;
        assert.equal(decodeSockaddr(encodeSockaddr(ip, 1, AF_INET))?.ip, ip);
      }
    }
    assert.equal(decodeSockaddr(encodeSockaddr("255.255.255.255", 1, AF_INET))?.ip, "255.255.255.255");
  });

  test("sockaddr: tells the families apart", () => {
    assert.equal(isIpv6("::1"), true);
    assert.equal(isIpv6("127.0.0.1"), false);
  });
});
