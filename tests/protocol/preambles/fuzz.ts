/** Fuzz targets of what comes before a connection's own bytes: PROXY headers and SOCKS handshakes. */
import assert from "node:assert/strict";
import { decodeProxyHeader, encodeProxyHeader } from "../../../src/protocol/proxy_protocol.ts";
import { readClientHello } from "../../../src/protocol/tls_client_hello.ts";
import { SocksHandshake } from "../../../src/protocol/socks5.ts";
import type { Random } from "../../support/fuzz.ts";

/** A header's end does not depend on what follows; what is told is told again when it is written anew. */
function fuzzProxyHeader(bytes: Uint8Array, random: Random): void {
  const whole = decodeProxyHeader(bytes);
  const cut = decodeProxyHeader(bytes.subarray(0, random.below(bytes.length + 1)));
  if (whole.kind !== "header") return assert.notEqual(cut.kind, "header");
  assert.ok(whole.length >= 16 && whole.length <= bytes.length);
  assert.deepEqual(decodeProxyHeader(bytes.subarray(0, whole.length)), whole);
  if (whole.length > 16) assert.equal(decodeProxyHeader(bytes.subarray(0, whole.length - 1)).kind, "incomplete");
  const { source, destination } = whole;
  assert.equal(source === undefined, destination === undefined);
  if (source === undefined || destination === undefined) return;
  assert.ok(source.ip.length === destination.ip.length && [4, 16].includes(source.ip.length));
  const again = decodeProxyHeader(encodeProxyHeader(source, destination, undefined));
  assert.ok(again.kind === "header");
  assert.deepEqual([again.source, again.destination], [source, destination]);
}

/** The same outcome in any split, and not a byte more than it needs. */
function fuzzSocks(bytes: Uint8Array, random: Random): void {
  const run = (size: () => number) => {
    const handshake = new SocksHandshake();
    const events = [];
    let at = 0;
    while (handshake.wanted > 0 && at < bytes.length) {
      const n = Math.min(size(), handshake.wanted, bytes.length - at);
      const event = handshake.receive(bytes, at, at + n);
      at += n;
      if (event !== undefined) events.push(event);
    }
    const last = events.at(-1);
    assert.equal(handshake.wanted === 0, last?.kind === "connect" || last?.kind === "failed");
    if (last?.kind === "connect" && last.target.kind === "address") assert.ok([4, 16].includes(last.target.ip.length));
    return { events, at };
  };
  const whole = run(() => 600);
  const pieces = run(() => 1 + random.below(8));
  if (whole.events.at(-1)?.kind === "connect") assert.deepEqual(pieces, whole);
  else assert.equal(pieces.events.at(-1)?.kind, whole.events.at(-1)?.kind);
}

/** A name or none, the same for every longer beginning; never more than it says. */
function fuzzClientHello(bytes: Uint8Array, random: Random): void {
  const whole = readClientHello(bytes);
  if (whole.kind === "hello") assert.match(whole.sni, /^[a-z0-9_.-]{0,253}$/);
  const part = readClientHello(bytes.subarray(0, random.below(bytes.length + 1)));
  // What a beginning says is what all of it says.
  if (part.kind !== "more") assert.deepEqual(part, whole);
}

export const targets = [
  { name: "proxy header", corpusDir: "tests/corpus/proxy_protocol", target: fuzzProxyHeader, maxBytes: 512 },
  { name: "tls client hello", corpusDir: "tests/corpus/tls_client_hello", target: fuzzClientHello, maxBytes: 2048 },
  { name: "socks handshake", corpusDir: "tests/corpus/socks5", target: fuzzSocks, maxBytes: 600 },
];
