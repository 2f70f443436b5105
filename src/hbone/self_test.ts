/**
 * The start-up proof that tunnels authenticate: real handshakes over a socket pair, with throw-away certificates. A
 * proxy whose TLS library would let a peer without a certificate, of a foreign root, or with a wrong name in must not start.
 */
import { createCertificate, PrivateKey } from "../platform/certificates.ts";
import { closeDescriptor, socketPair } from "../platform/socket.ts";
import { TlsContext, type TlsMaterial } from "../platform/tls_context.ts";
import { TLS_FAILED, TLS_WANT_READ, TLS_WANT_WRITE, TlsSession } from "../platform/tls_session.ts";

export interface SelfTestMaterial {
  /** Signed by the first root, for `clientIdentity` and `serverIdentity`. */
  readonly client: TlsMaterial;
  readonly server: TlsMaterial;
  /** Signed by another root and trusting that one only. */
  readonly foreign: TlsMaterial;
  readonly clientIdentity: string;
  readonly serverIdentity: string;
}

/** Judges a peer's names as the data path does: a text refuses. */
export interface SelfTestPolicy {
  /** As a client that expects `expected`. */
  readonly admitServer: (uris: readonly string[], expected: readonly string[]) => string | undefined;
  /** As a server of `trustDomain`. */
  readonly admitClient: (uris: readonly string[], trustDomain: string) => string | undefined;
}

const CLIENT = "spiffe://self-test.invalid/ns/self-test/sa/client";
const SERVER = "spiffe://self-test.invalid/ns/self-test/sa/server";
const LIFE_SECONDS = 3600;

/** With certificates that are thrown away. Throws when this machine's TLS, or the data path's judgement, would let a wrong peer in. */
export function proveAuthentication(policy: SelfTestPolicy): void {
  const own = new PrivateKey();
  const other = new PrivateKey();
  try {
    const issue = (root: PrivateKey, uri: string, serialNumber: number): TlsMaterial => {
      const key = new PrivateKey();
      try {
        return {
          privateKey: key.toPem(),
          chain: [createCertificate(key, { uri, serialNumber, lifeSeconds: LIFE_SECONDS }, root)],
          roots: [createCertificate(root, { uri: undefined, serialNumber: 1, lifeSeconds: LIFE_SECONDS })],
        };
      } finally {
        key.free();
      }
    };
    const material = {
      client: issue(own, CLIENT, 2),
      server: issue(own, SERVER, 3),
      foreign: issue(other, CLIENT, 4),
      clientIdentity: CLIENT,
      serverIdentity: SERVER,
    };
    runTlsSelfTest(material, policy);
  } finally {
    own.free();
    other.free();
  }
}

/** Throws when a handshake that must fail succeeds, or the one that must succeed fails. */
export function runTlsSelfTest(material: SelfTestMaterial, policy: SelfTestPolicy): void {
  const { client, server, foreign, clientIdentity, serverIdentity } = material;
  const good = handshake(new TlsContext("client", client), new TlsContext("server", server));
  if (good.failure !== undefined) throw selfTestError(`a valid pair of peers could not connect: ${good.failure}`);
  expectRefusal(
    handshake(new TlsContext("client", client, { presents: "nothing" }), new TlsContext("server", server)),
    "a client without a certificate",
  );
  expectRefusal(
    handshake(new TlsContext("client", { ...foreign, roots: client.roots }), new TlsContext("server", server)),
    "a client of a foreign root",
  );
  expectRefusal(
    handshake(new TlsContext("client", client), new TlsContext("server", { ...foreign, roots: server.roots })),
    "a server of a foreign root",
  );
  if (policy.admitServer(good.serverUris, [serverIdentity]) !== undefined) {
    throw selfTestError("a server with the expected name was refused");
  }
  if (policy.admitServer(good.serverUris, [serverIdentity + "-other"]) === undefined) {
    throw selfTestError("a server with a wrong name was accepted");
  }
  const trustDomain = clientIdentity.slice("spiffe://".length).split("/")[0];
  if (policy.admitClient(good.clientUris, trustDomain) !== undefined) {
    throw selfTestError("a client of the own trust domain was refused");
  }
  if (policy.admitClient(good.clientUris, "not-" + trustDomain) === undefined) {
    throw selfTestError("a client of another trust domain was accepted");
  }
}

interface Outcome {
  /** Why the server or the client refused; undefined when both were content. */
  readonly failure: string | undefined;
  readonly clientUris: readonly string[];
  readonly serverUris: readonly string[];
}

/** Two local sockets need a handful of rounds; more means that a handshake stands still. */
const MAX_ROUNDS = 64;

function handshake(clientContext: TlsContext, serverContext: TlsContext): Outcome {
  const pair = socketPair();
  if (pair === undefined) throw selfTestError("cannot create a socket pair");
  const client = new TlsSession(clientContext, pair[0]);
  const server = new TlsSession(serverContext, pair[1]);
  try {
    let clientState = TLS_WANT_READ;
    let serverState = TLS_WANT_READ;
    for (let i = 0; i < MAX_ROUNDS && (pending(clientState) || pending(serverState)); i++) {
      if (pending(clientState)) clientState = client.handshake();
      if (pending(serverState)) serverState = server.handshake();
      if (clientState === TLS_FAILED || serverState === TLS_FAILED) break;
    }
    if (clientState !== 1) return refused(`client: ${client.failure}`);
    if (serverState !== 1) return refused(`server: ${server.failure}`);
    return { failure: undefined, clientUris: server.peerUris() ?? [], serverUris: client.peerUris() ?? [] };
  } finally {
    client.free();
    server.free();
    clientContext.close();
    serverContext.close();
    closeDescriptor(pair[0]);
    closeDescriptor(pair[1]);
  }
}

function pending(state: number): boolean {
  return state === TLS_WANT_READ || state === TLS_WANT_WRITE;
}

function refused(failure: string): Outcome {
  return { failure, clientUris: [], serverUris: [] };
}

function expectRefusal(outcome: Outcome, who: string): void {
  if (outcome.failure === undefined) throw selfTestError(`${who} was accepted`);
}

function selfTestError(what: string): Error {
  return new Error(`TLS self-test: ${what}; this OpenSSL or its system configuration is not safe to run a mesh on`);
}
