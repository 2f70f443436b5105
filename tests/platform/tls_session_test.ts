import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { closeDescriptor, receive, send, setResetOnClose, shutdownWrite } from "../../src/platform/socket.ts";
import { TlsContext, type TlsMaterial } from "../../src/platform/tls_context.ts";
import { TLS_CLOSED, TLS_FAILED, TLS_WANT_READ, TLS_WANT_WRITE, TlsSession } from "../../src/platform/tls_session.ts";
import { TestAuthority } from "./authority.ts";
import { tcpPair, waitFor } from "./support.ts";
import { handshake, type TlsPair } from "./tls_pair.ts";

const CLIENT = "spiffe://test/ns/a/sa/client";
const SERVER = "spiffe://test/ns/b/sa/server";
let authority: TestAuthority;
let client: TlsMaterial;
let server: TlsMaterial;

before(async () => {
  authority = await TestAuthority.create();
  client = await authority.material({ uris: [CLIENT] });
  server = await authority.material({ uris: [SERVER] });
});

function established(): TlsPair {
  const pair = handshake(new TlsContext("client", client), new TlsContext("server", server));
  assert.equal(pair.clientOutcome, 1);
  assert.equal(pair.serverOutcome, 1);
  return pair;
}

function encrypt(session: TlsSession, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length;) {
    const n = session.write(bytes, at, bytes.length);
    assert.ok(n > 0, `write: ${n}`);
    at += n;
  }
}

describe("tls_session", () => {
  test("tls_session: is AES-GCM, h2, and knows its peer's names", () => {
    const pair = established();
    for (const session of [pair.client, pair.server]) {
      assert.match(session.cipher(), /^TLS_AES_(128|256)_GCM_SHA/);
      assert.equal(session.negotiatedH2(), true);
    }
    assert.deepEqual(pair.server.peerUris(), [CLIENT]);
    assert.deepEqual(pair.client.peerUris(), [SERVER]);
    pair.close();
  });

  test("tls_session: lists all URI names in order, and only these", async () => {
    const uris = ["spiffe://a/ns/b/sa/c", "https://example.com/x", "spiffe://a/ns/b/sa/d"];
    const many = await authority.material({ uris, dnsNames: ["spiffe.example.com"] });
    const none = await authority.material({ uris: [], dnsNames: ["only.example.com"] });
    const nameless = await authority.material({ uris: [], dnsNames: [] });
    const first = handshake(new TlsContext("client", many), new TlsContext("server", none));
    assert.deepEqual(first.server.peerUris(), uris);
    assert.deepEqual(first.client.peerUris(), []);
    first.close();
    const second = handshake(new TlsContext("client", nameless), new TlsContext("server", none));
    assert.deepEqual(second.server.peerUris(), []);
    second.close();
  });

  test("tls_session: has no peer before the handshake", () => {
    const [a, b] = tcpPair();
    const context = new TlsContext("server", server);
    const session = new TlsSession(context, a);
    assert.equal(session.peerUris(), undefined);
    assert.equal(session.negotiatedH2(), false);
    assert.equal(session.cipher(), "none");
    assert.equal(session.handshake(), TLS_WANT_READ);
    session.free();
    context.close();
    closeDescriptor(a);
    closeDescriptor(b);
  });

  test("tls_session: bytes arrive as they were sent, at any offset", () => {
    const pair = established();
    const out = crypto.getRandomValues(new Uint8Array(50_000));
    encrypt(pair.client, out);
    const into = new Uint8Array(60_000);
    let at = 7;
    for (;;) {
      const n = pair.server.read(into, at, into.length);
      if (n <= 0) {
        assert.equal(n, TLS_WANT_READ);
        break;
      }
      at += n;
    }
    assert.deepEqual(into.subarray(7, at), out);
    pair.close();
  });

  test("tls_session: one write takes a record at most", () => {
    const pair = established();
    assert.equal(pair.client.write(new Uint8Array(40_000), 0, 40_000), 16_384);
    pair.close();
  });

  test("tls_session: says when decrypted bytes wait that the kernel does not know of", () => {
    const pair = established();
    encrypt(pair.client, new Uint8Array(40_000));
    const into = new Uint8Array(64_000);
    assert.ok(pair.server.read(into, 0, 100) > 0);
    assert.equal(pair.server.hasPending(), true);
    for (let n = 1; n > 0;) n = pair.server.read(into, 0, into.length);
    assert.equal(pair.server.hasPending(), false);
    pair.close();
  });

  test("tls_session: a full socket wants to write, and goes on from another buffer", () => {
    const pair = established();
    const block = new Uint8Array(16_384).fill(1);
    let sent = 0;
    for (;;) {
      const n = pair.client.write(block, 0, block.length);
      if (n === TLS_WANT_WRITE) break;
      assert.ok(n > 0);
      sent += n;
    }
    const into = new Uint8Array(65_536);
    let got = 0;
    const drain = () => {
      for (let n = pair.server.read(into, 0, into.length); n > 0; n = pair.server.read(into, 0, into.length)) got += n;
    };
    drain();
    // The owner's buffer may have moved meanwhile; its content is the same.
    const moved = block.slice();
    for (let n = TLS_WANT_WRITE; n < 0;) {
      n = pair.client.write(moved, 0, moved.length);
      if (n > 0) sent += n;
      drain();
    }
    drain();
    assert.equal(got, sent);
    pair.close();
  });

  test("tls_session: close_notify and a bare end of stream both read as closed", () => {
    const polite = established();
    polite.client.shutdown();
    assert.equal(polite.server.read(new Uint8Array(8), 0, 8), TLS_CLOSED);
    polite.close();
    const abrupt = established();
    shutdownWrite(abrupt.clientFd);
    assert.equal(abrupt.server.read(new Uint8Array(8), 0, 8), TLS_CLOSED);
    abrupt.close();
  });

  test("tls_session: bytes that are no TLS fail it, and only it", () => {
    const broken = established();
    const other = established();
    send(broken.clientFd, new TextEncoder().encode("GET / HTTP/1.1\r\nHost: plaintext\r\n\r\n"), 0, 36);
    assert.equal(broken.server.read(new Uint8Array(64), 0, 64), TLS_FAILED);
    assert.notEqual(broken.server.failure, "");
    assert.equal(other.server.read(new Uint8Array(8), 0, 8), TLS_WANT_READ);
    encrypt(other.client, new Uint8Array(5));
    assert.equal(other.server.read(new Uint8Array(8), 0, 8), 5);
    broken.close();
    other.close();
  });

  test("tls_session: one flipped bit fails the connection", () => {
    const pair = established();
    encrypt(pair.client, new Uint8Array(100).fill(42));
    const record = new Uint8Array(512);
    const n = receive(pair.serverFd, record, 0, record.length);
    assert.ok(n > 100);
    record[n - 20] ^= 1;
    // Both ends are this test's: what was taken from the server's socket is put back by the client's.
    send(pair.clientFd, record, 0, n);
    assert.equal(pair.server.read(new Uint8Array(512), 0, 512), TLS_FAILED);
    assert.match(pair.server.failure, /bad record mac|decryption failed/);
    pair.close();
  });

  test("tls_session: a peer that resets the connection is a failure, in the handshake and after it", () => {
    for (const afterBytes of [false, true]) {
      const [clientFd, serverFd] = tcpPair();
      const context = new TlsContext("server", server);
      const session = new TlsSession(context, serverFd);
      assert.equal(session.handshake(), TLS_WANT_READ);
      if (afterBytes) send(clientFd, new Uint8Array([22, 3, 1]), 0, 3);
      setResetOnClose(clientFd);
      closeDescriptor(clientFd);
      waitFor(serverFd);
      let outcome = session.handshake();
      if (outcome === TLS_WANT_READ) outcome = session.handshake();
      assert.equal(outcome, TLS_FAILED);
      assert.match(session.failure, /socket error 104|reset/);
      session.free();
      context.close();
      closeDescriptor(serverFd);
    }
  });

  test("tls_session: a peer that leaves in the handshake has closed", () => {
    for (const bytes of [new Uint8Array(0), new Uint8Array([22, 3, 1, 0, 50, 1])]) {
      const [clientFd, serverFd] = tcpPair();
      const context = new TlsContext("server", server);
      const session = new TlsSession(context, serverFd);
      send(clientFd, bytes, 0, bytes.length);
      shutdownWrite(clientFd);
      waitFor(serverFd);
      assert.equal(session.handshake(), TLS_CLOSED);
      session.free();
      context.close();
      closeDescriptor(clientFd);
      closeDescriptor(serverFd);
    }
  });

  test("tls_session: goes on with the context it began with when that is replaced", async () => {
    const next = await TestAuthority.create("next");
    const pair = established(); // Its contexts are closed already.
    for (let i = 0; i < 50; i++) {
      new TlsContext("server", server).close();
      const rotated = await next.material();
      new TlsContext("server", rotated).close();
      encrypt(pair.client, new Uint8Array(1_000).fill(i));
      const into = new Uint8Array(1_000);
      assert.equal(pair.server.read(into, 0, 1_000), 1_000);
      assert.equal(into[999], i);
    }
    pair.close();
  });

  test("tls_session: a context that cannot be made leaves no error for the next read to find", () => {
    const pair = established();
    for (const chain of [["-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"], []]) {
      assert.throws(() => new TlsContext("server", { ...server, chain }));
      assert.equal(pair.server.read(new Uint8Array(8), 0, 8), TLS_WANT_READ);
    }
    // Nor does one that can: the loader of keys tries several formats.
    new TlsContext("client", client).close();
    assert.equal(pair.server.read(new Uint8Array(8), 0, 8), TLS_WANT_READ);
    pair.server.peerUris();
    assert.equal(pair.server.read(new Uint8Array(8), 0, 8), TLS_WANT_READ);
    pair.close();
  });
});
