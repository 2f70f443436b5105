import assert from "node:assert/strict";
import { before, test } from "node:test";
import { TlsContext, type TlsMaterial } from "../../src/platform/tls_context.ts";
import { TLS_CLOSED, TLS_WANT_READ, TLS_WANT_WRITE, TlsSession } from "../../src/platform/tls_session.ts";
import { TlsWire } from "../../src/platform/tls_wire.ts";
import { TestAuthority } from "./authority.ts";

const SERVER = "spiffe://test/ns/b/sa/server";
let client: TlsMaterial;
let server: TlsMaterial;

before(async () => {
  const authority = await TestAuthority.create();
  client = await authority.material({ uris: ["spiffe://test/ns/a/sa/client"] });
  server = await authority.material({ uris: [SERVER] });
});

class End {
  readonly wire = new TlsWire();
  readonly session: TlsSession;
  constructor(side: "client" | "server") {
    const context = new TlsContext(side, side === "client" ? client : server);
    this.session = new TlsSession(context, this.wire);
    context.close();
  }
}

/** Carries what waits at one end to the other, in pieces of at most `size`. */
function carry(from: End, to: End, size = Infinity): number {
  const bytes = new Uint8Array(64 * 1024);
  let total = 0;
  for (let n = 1; n > 0; total += n) {
    n = from.wire.take(bytes, 100, 100 + Math.min(size, bytes.length - 100));
    assert.equal(to.wire.put(bytes, 100, 100 + n), true);
  }
  return total;
}

function shakeHands(size = Infinity): readonly [End, End] {
  const ends = [new End("client"), new End("server")] as const;
  const done = [0, 0];
  for (let round = 0; round < 20 && !(done[0] === 1 && done[1] === 1); round++) {
    for (const i of [0, 1]) {
      if (done[i] !== 1) done[i] = ends[i].session.handshake();
      assert.ok(done[i] === 1 || done[i] === TLS_WANT_READ, ends[i].session.failure);
      carry(ends[i], ends[1 - i], size);
    }
  }
  assert.deepEqual(done, [1, 1]);
  return ends;
}

function free(...ends: readonly End[]): void {
  for (const end of ends) end.session.free();
}

test("tls_wire: a handshake without a socket, in pieces of any size, ends as over one", () => {
  for (const size of [1, 7, 1000, Infinity]) {
    const [a, b] = shakeHands(size);
    assert.equal(a.session.negotiatedH2(), true);
    assert.deepEqual(a.session.peerUris(), [SERVER]);
    free(a, b);
  }
});

test("tls_wire: bytes come out as they went in, several records at once, and what waits is told", () => {
  const [a, b] = shakeHands();
  const sent = new Uint8Array(50_000).map((_, i) => i * 7);
  for (let at = 0; at < sent.length;) {
    const n = a.session.write(sent, at, sent.length);
    assert.ok(n > 0);
    at += n;
  }
  assert.ok(a.wire.pending > sent.length);
  assert.equal(b.session.hasPending(), false);
  carry(a, b);
  assert.equal(a.wire.pending, 0);
  assert.ok(b.session.hasPending() && b.wire.unread > 0);
  const received = new Uint8Array(sent.length);
  let at = 0;
  while (b.session.hasPending()) {
    const n = b.session.read(received, at, received.length);
    if (n === TLS_WANT_READ) break;
    assert.ok(n > 0);
    at += n;
  }
  assert.equal(at, sent.length);
  assert.deepEqual(received, sent);
  assert.equal(b.wire.unread, 0);
  assert.equal(b.session.read(received, 0, 1), TLS_WANT_READ);
  free(a, b);
});

test("tls_wire: takes no more than a burst before it is carried", () => {
  const [a, b] = shakeHands();
  const bytes = new Uint8Array(16 * 1024);
  let taken = 0;
  for (let n = 0; n !== TLS_WANT_WRITE; n = a.session.write(bytes, 0, bytes.length)) {
    assert.ok(n >= 0);
    taken += n;
    assert.ok(taken <= 256 * 1024, "it takes for ever");
  }
  assert.ok(a.wire.full && taken >= 64 * 1024);
  carry(a, b);
  assert.equal(a.session.write(bytes, 0, bytes.length), bytes.length);
  free(a, b);
});

test("tls_wire: an end that was said arrives behind the bytes", () => {
  const [a, b] = shakeHands();
  const bytes = new Uint8Array(100);
  a.session.write(bytes, 0, 100);
  a.session.shutdown();
  carry(a, b);
  assert.equal(b.session.read(new Uint8Array(200), 0, 200), 100);
  assert.equal(b.session.read(new Uint8Array(200), 0, 200), TLS_CLOSED);
  free(a, b);
});

test("tls_wire: after its session is freed it is empty and takes nothing; one that no session took is freed by itself", () => {
  const [a, b] = shakeHands();
  a.session.write(new Uint8Array(10), 0, 10);
  free(a, b);
  assert.deepEqual([a.wire.pending, a.wire.unread, a.wire.full], [0, 0, false]);
  assert.equal(a.wire.take(new Uint8Array(10), 0, 10), 0);
  assert.equal(a.wire.put(new Uint8Array(10), 0, 10), true);
  a.wire.discard();
  const unused = new TlsWire();
  unused.discard();
  unused.discard();
  assert.equal(unused.pending, 0);
});
