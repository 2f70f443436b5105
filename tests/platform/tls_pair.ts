/** Two TLS sessions over a socket pair, driven in one thread. */
import assert from "node:assert/strict";
import { closeDescriptor, socketPair } from "../../src/platform/socket.ts";
import { TlsContext, type TlsMaterial } from "../../src/platform/tls_context.ts";
import { TLS_WANT_READ, TLS_WANT_WRITE, TlsSession } from "../../src/platform/tls_session.ts";

const MAX_ROUNDS = 64;

export interface TlsPair {
  readonly client: TlsSession;
  readonly server: TlsSession;
  readonly clientFd: number;
  readonly serverFd: number;
  /** 1, or the TLS_* value of the failure. */
  readonly clientOutcome: number;
  readonly serverOutcome: number;
  close(): void;
}

/** Hands both contexts over: they are closed at once, which live sessions do not mind. */
export function handshake(clientContext: TlsContext, serverContext: TlsContext): TlsPair {
  const fds = socketPair();
  assert.ok(fds !== undefined);
  const client = new TlsSession(clientContext, fds[0]);
  const server = new TlsSession(serverContext, fds[1]);
  clientContext.close();
  serverContext.close();
  let clientOutcome = TLS_WANT_READ;
  let serverOutcome = TLS_WANT_READ;
  for (let i = 0; i < MAX_ROUNDS && (pending(clientOutcome) || pending(serverOutcome)); i++) {
    if (pending(clientOutcome)) clientOutcome = client.handshake();
    if (pending(serverOutcome)) serverOutcome = server.handshake();
    if (failed(clientOutcome) || failed(serverOutcome)) break;
  }
  return {
    client,
    server,
    clientFd: fds[0],
    serverFd: fds[1],
    clientOutcome,
    serverOutcome,
    close() {
      client.free();
      server.free();
      closeDescriptor(fds[0]);
      closeDescriptor(fds[1]);
    },
  };
}

/** Shakes hands with this material, closes, and tells both failures: "" is success. */
export function tryHandshake(client: TlsMaterial, server: TlsMaterial): { client: string; server: string } {
  const pair = handshake(new TlsContext("client", client), new TlsContext("server", server));
  const text = (outcome: number, session: TlsSession) => outcome === 1 ? "" : session.failure || `outcome ${outcome}`;
  const result = {
    client: text(pair.clientOutcome, pair.client),
    server: text(pair.serverOutcome, pair.server),
  };
  pair.close();
  return result;
}

function pending(outcome: number): boolean {
  return outcome === TLS_WANT_READ || outcome === TLS_WANT_WRITE;
}

function failed(outcome: number): boolean {
  return outcome !== 1 && !pending(outcome);
}
