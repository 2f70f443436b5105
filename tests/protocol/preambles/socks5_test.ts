import assert from "node:assert/strict";
import { test } from "node:test";
import { encodeSocksReply, type SocksEvent, SocksHandshake, SocksReply } from "../../../src/protocol/socks5.ts";

const ascii = (text: string) => [...text].map((character) => character.charCodeAt(0));
const GREETING = [5, 1, 0];
const named = (name: string, port = 80) => [5, 1, 0, 3, name.length, ...ascii(name), port >> 8, port & 255];

/** Gives the handshake a stream in pieces of `size`, never more than it wants; what it did not want is left. */
function run(bytes: readonly number[], size: number): { readonly events: SocksEvent[]; readonly left: number } {
  const handshake = new SocksHandshake();
  const stream = new Uint8Array(bytes);
  const events: SocksEvent[] = [];
  let at = 0;
  while (handshake.wanted > 0 && at < stream.length) {
    const n = Math.min(size, handshake.wanted, stream.length - at);
    const event = handshake.receive(stream, at, at + n);
    at += n;
    if (event !== undefined) events.push(event);
  }
  return { events, left: stream.length - at };
}

const TARGETS: readonly (readonly [readonly number[], unknown])[] = [
  [[5, 1, 0, 1, 10, 0, 0, 1, 0x1f, 0x90], { kind: "address", ip: new Uint8Array([10, 0, 0, 1]), port: 8080 }],
  [[5, 1, 0, 4, 0x20, 1, 13, 0xb8, ...Array(11).fill(0), 1, 1, 187], {
    kind: "address",
    ip: new Uint8Array([0x20, 1, 13, 0xb8, ...Array(11).fill(0), 1]),
    port: 443,
  }],
  [named("Web.Shop"), { kind: "name", name: "Web.Shop", port: 80 }],
  [named("a".repeat(254)), { kind: "name", name: "a".repeat(254), port: 80 }],
  [named("2001:db8::2"), { kind: "name", name: "2001:db8::2", port: 80 }],
];

test("socks5: a CONNECT by address or name, in any split, takes no byte of what follows", () => {
  for (const [request, target] of TARGETS) {
    for (const greeting of [GREETING, [5, 3, 2, 1, 0]]) {
      const stream = [...greeting, ...request, 1, 2, 3, 4];
      for (let size = 1; size <= stream.length; size++) {
        const { events, left } = run(stream, size);
        assert.deepEqual(events, [
          { kind: "reply", bytes: new Uint8Array([5, 0]) },
          { kind: "connect", target },
        ]);
        assert.equal(left, 4);
      }
    }
  }
});

const REFUSED: readonly (readonly [string, readonly number[], readonly number[]])[] = [
  ["another version", [4, 1], []],
  ["a version that changes", [...GREETING, 4, 1, 0, 1, 1, 1, 1, 1, 0, 80], []],
  ["a client that must authenticate", [5, 2, 1, 2], [5, 0xff]],
  ["a client without a method", [5, 0], [5, 0xff]],
  ["BIND", [...GREETING, 5, 2, 0, 1, 1, 1, 1, 1, 0, 80], [5, 7, 0, 1, 0, 0, 0, 0, 0, 0]],
  ["an unknown address type", [...GREETING, 5, 1, 0, 9, 0], [5, 8, 0, 1, 0, 0, 0, 0, 0, 0]],
  ["an empty name", [...GREETING, ...named("")], [5, 4, 0, 1, 0, 0, 0, 0, 0, 0]],
  ["a name that is none", [...GREETING, ...named("a b")], [5, 4, 0, 1, 0, 0, 0, 0, 0, 0]],
  ["a name with a NUL", [...GREETING, ...named("a\0b")], [5, 4, 0, 1, 0, 0, 0, 0, 0, 0]],
];

for (const [name, stream, reply] of REFUSED) {
  test(`socks5: refuses ${name}`, () => {
    for (const size of [1, 100]) {
      const last = run(stream, size).events.at(-1);
      assert.ok(last?.kind === "failed");
      assert.deepEqual([...last.bytes], reply);
      assert.notEqual(last.message, "");
    }
  });
}

test("socks5: a reply says how it went", () => {
  assert.deepEqual([...encodeSocksReply(SocksReply.SUCCEEDED)], [5, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
});
