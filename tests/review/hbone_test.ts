/** Orders of events in a tunnel that a friendly peer never causes. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type HandshakeFailure, HboneConnection, type HboneOwner } from "../../src/hbone/connection.ts";
import { HboneServer } from "../../src/hbone/server.ts";
import { SocketLink } from "../../src/hbone/link.ts";
import { createHboneSettings } from "../../src/hbone/settings.ts";
import { closeDescriptor, socketPair } from "../../src/platform/socket.ts";
import { TlsContext } from "../../src/platform/tls_context.ts";
import { TlsSession } from "../../src/platform/tls_session.ts";
import { FrameType, PREFACE } from "../../src/protocol/http2/constants.ts";
import { createLoop, type Loop } from "../net/support.ts";
import { TestAuthority } from "../platform/authority.ts";

const authority = await TestAuthority.create();
const material = await authority.material();
const EMPTY_SETTINGS = new Uint8Array([0, 0, 0, FrameType.SETTINGS, 0, 0, 0, 0, 0]);

/** Notes every call that comes after `free`, each of which reads memory that is somebody else's by then. */
class GuardedSession extends TlsSession {
  readonly late: string[] = [];
  freed = false;

  override read(bytes: Uint8Array, start: number, end: number): number {
    return this.#allowed("read") ? super.read(bytes, start, end) : -4;
  }

  override write(bytes: Uint8Array, start: number, end: number): number {
    return this.#allowed("write") ? super.write(bytes, start, end) : -4;
  }

  override hasPending(): boolean {
    return this.#allowed("hasPending") && super.hasPending();
  }

  override free(): void {
    if (!this.#allowed("free")) return;
    this.freed = true;
    super.free();
  }

  #allowed(what: string): boolean {
    if (this.freed) this.late.push(what);
    return !this.freed;
  }
}

function serverOwner(closed: (reason: string, failure: HandshakeFailure | undefined) => void): HboneOwner {
  return {
    admit: () => undefined,
    established: () => {},
    request: () => {},
    available: () => {},
    closed: (_connection, reason, failure) => closed(reason, failure),
  };
}

/** Completes the client's half of a handshake whose server is on the loop. */
function shakeHands(loop: Loop, client: TlsSession): void {
  loop.until(() => client.handshake() === 1, "the client's handshake");
}

test("hbone: a peer that says hello and goodbye in one flight is not written to after its session was freed", () => {
  const loop = createLoop();
  const [near, far] = socketPair() as readonly [number, number];
  const session = new GuardedSession(new TlsContext("server", material), near);
  let ended = false;
  new HboneConnection(
    loop.io,
    new SocketLink(loop.reactor, near, session),
    createHboneSettings("server"),
    serverOwner(() => ended = true),
  );
  const client = new TlsSession(new TlsContext("client", material), far);
  shakeHands(loop, client);
  const hello = new Uint8Array([...PREFACE, ...EMPTY_SETTINGS]);
  assert.equal(client.write(hello, 0, hello.length), hello.length);
  client.shutdown();
  loop.until(() => ended, "the end of the connection");
  loop.settle();
  assert.ok(session.freed);
  assert.deepEqual(session.late, []);
  client.free();
  closeDescriptor(far);
});

test("hbone: a drain lets a handshake finish that had begun, and what it asks then is served", () => {
  const loop = createLoop();
  const [near, far] = socketPair() as readonly [number, number];
  const context = new TlsContext("server", material);
  const requests: string[] = [];
  const server = new HboneServer(loop.io, createHboneSettings("server"), {
    admit: () => ({ identity: "spiffe://test/ns/default/sa/test" }),
    request: (tunnel, stream, fields) => {
      requests.push(fields[1]);
      tunnel.connection.h2.respond(stream, [":status", "200"], true);
    },
    handshakeFailed: (_peer, failure) => assert.fail(failure.message),
  });
  const nobody = { ip: "127.0.0.1", port: 1 };
  server.accept(near, nobody, nobody, context);
  server.drain();
  let over: string | undefined;
  const client = new HboneConnection(
    loop.io,
    new SocketLink(loop.reactor, far, new TlsSession(new TlsContext("client", material), far)),
    createHboneSettings("client"),
    {
      admit: () => undefined,
      established: (connection) => {
        connection.h2.openStream([":method", "CONNECT", ":authority", "10.0.0.1:80"], true, undefined);
        connection.touch();
      },
      request: () => {},
      available: () => {},
      closed: (_connection, reason) => over = reason,
    },
  );
  loop.until(() => requests.length === 1 || over !== undefined, "the request");
  assert.deepEqual(requests, ["CONNECT"], `the connection ended instead: ${over}`);
  loop.until(() => server.tunnels.size === 0, "the end of the drain");
  client.close("done");
});
