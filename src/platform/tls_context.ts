/**
 * OpenSSL contexts for HBONE: TLS 1.3 (and 1.2 where it is asked for), AES-GCM suites, ALPN h2, a certificate from both sides, chains
 * verified by OpenSSL against the mesh's roots and revocation lists (reference ztunnel 5.9). No tickets and no resumption: a
 * resumed session would skip rotation and revocation. The name in the certificate is not checked here but by the caller, after the handshake.
 */
import { crypto, ssl, takeErrors, withPem } from "./openssl.ts";
import type { RevocationList } from "./revocations.ts";
import { type Pointer, runtime } from "./runtime.ts";
import { configureProtocol, type TlsPolicy } from "./tls_policy.ts";

/** What one side of a tunnel presents and trusts. All in PEM. */
export interface TlsMaterial {
  readonly privateKey: string;
  /** The leaf first, then its intermediates; the root is not sent. */
  readonly chain: readonly string[];
  /** Every root that a peer's chain may end in; one text may hold several certificates. */
  readonly roots: readonly string[];
}

export type TlsSide = "client" | "server";

export interface TlsContextOptions {
  /** "nothing" makes a client without a certificate, which every server must refuse: the self-test sees to it that they do. */
  readonly presents?: "identity" | "nothing";
  readonly policy?: TlsPolicy | undefined;
  /** Looked up for every peer's chain. Freeing it does not take it from the context. */
  readonly revocations?: RevocationList | undefined;
}

const SSL_CTRL_MODE = 33;
const SSL_CTRL_SET_READ_AHEAD = 41;
const SSL_CTRL_SET_SESS_CACHE_MODE = 44;
const SSL_CTRL_CHAIN_CERT = 89;
const SSL_MODE_ENABLE_PARTIAL_WRITE = 1;
const SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER = 2;
/** Without it OpenSSL adds what it finds among the roots to the chain: the root itself, in every handshake. */
const SSL_MODE_NO_AUTO_CHAIN = 8;
const SSL_MODE_RELEASE_BUFFERS = 0x10;
const SSL_VERIFY_PEER_REQUIRED = 1 | 2;
const SSL_OP_CIPHER_SERVER_PREFERENCE = 1n << 22n;
const SSL_OP_NO_RENEGOTIATION = 1n << 30n;
const SSL_OP_NO_TICKET = 1n << 14n;
const SSL_OP_IGNORE_UNEXPECTED_EOF = 1n << 7n;
const SSL_TLSEXT_ERR_OK = 0;
const SSL_TLSEXT_ERR_ALERT_FATAL = 2;

/**
 * One read takes several records of 16 KiB from the kernel; OpenSSL gives the buffer back while a connection is quiet. It stays
 * below 64 KiB: freeing more makes the allocator tidy up its whole heap, at every read.
 */
const READ_BUFFER_BYTES = 3 * (16 * 1024 + 256);
const ALPN_H2 = new Uint8Array([2, 0x68, 0x32]);
const H2 = new Uint8Array([0x68, 0x32]);

/** Without a passphrase to try OpenSSL asks the terminal for one, and waits. */
const NO_PASSPHRASE = new Uint8Array(1);

/** Chooses "h2" from the client's list, or ends the handshake with the alert no_application_protocol. */
const selectH2 = runtime.callback(
  { args: ["pointer", "pointer", "pointer", "pointer", "u32", "pointer"], returns: "i32" },
  (_ssl: never, out: never, outLength: never, offered: never, length: never): number => {
    const list = runtime.view(offered as Pointer, 0, length as number);
    for (let i = 0; i < list.length; i += list[i] + 1) {
      if (list[i] === 2 && list[i + 1] === H2[0] && list[i + 2] === H2[1]) {
        const address = new BigUint64Array([runtime.addressOf(H2)]);
        runtime.view(out as Pointer, 0, 8).set(new Uint8Array(address.buffer));
        runtime.view(outLength as Pointer, 0, 1)[0] = 2;
        return SSL_TLSEXT_ERR_OK;
      }
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  },
);

function fail(what: string): never {
  const reason = takeErrors();
  throw new Error(`TLS context: cannot ${what}${reason === "" ? "" : `: ${reason}`}`);
}

/** Splits a text that may hold several PEM certificates. */
export function splitCertificates(pem: string): string[] {
  return pem.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g) ?? [];
}

function withCertificate<T>(pem: string, use: (certificate: Pointer) => T): T {
  const certificate = withPem(pem, (bio) => crypto.PEM_read_bio_X509(bio, null, null, null));
  if (certificate === null) fail("read a certificate from PEM");
  try {
    return use(certificate);
  } finally {
    crypto.X509_free(certificate);
  }
}

/**
 * A context of one identity and one side. Contexts are replaced, never changed: a connection keeps the one it began with
 * (OpenSSL counts references), so `close` may be called while connections live.
 */
export class TlsContext {
  readonly side: TlsSide;
  #pointer: Pointer | null;

  /** Throws when the material is not usable: unreadable PEM, a key that does not fit, no root. */
  constructor(side: TlsSide, material: TlsMaterial, options: TlsContextOptions = {}) {
    this.side = side;
    crypto.ERR_clear_error();
    const pointer = ssl.SSL_CTX_new(ssl.TLS_method());
    if (pointer === null) fail("allocate");
    this.#pointer = pointer;
    try {
      configure(pointer, side);
      configureProtocol(pointer, options.policy);
      if (options.presents !== "nothing") loadIdentity(pointer, material);
      loadRoots(pointer, material.roots, options.revocations);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** For TlsSession only; null after `close`. */
  get pointer(): Pointer | null {
    return this.#pointer;
  }

  close(): void {
    if (this.#pointer !== null) ssl.SSL_CTX_free(this.#pointer);
    this.#pointer = null;
  }
}

function configure(context: Pointer, side: TlsSide): void {
  ssl.SSL_CTX_ctrl(context, SSL_CTRL_SET_SESS_CACHE_MODE, 0, null);
  ssl.SSL_CTX_ctrl(
    context,
    SSL_CTRL_MODE,
    SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS |
      SSL_MODE_NO_AUTO_CHAIN,
    null,
  );
  ssl.SSL_CTX_ctrl(context, SSL_CTRL_SET_READ_AHEAD, 1, null);
  ssl.SSL_CTX_set_default_read_buffer_len(context, READ_BUFFER_BYTES);
  ssl.SSL_CTX_set_options(
    context,
    SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_CIPHER_SERVER_PREFERENCE,
  );
  if (ssl.SSL_CTX_set_num_tickets(context, 0) !== 1) fail("turn session tickets off");
  ssl.SSL_CTX_set_verify(context, SSL_VERIFY_PEER_REQUIRED, null);
  if (side === "server") ssl.SSL_CTX_set_alpn_select_cb(context, selectH2, null);
  else if (ssl.SSL_CTX_set_alpn_protos(context, ALPN_H2, ALPN_H2.length) !== 0) fail("set ALPN");
}

/** For contexts of other kinds, too (tls_client_context.ts). */
export function loadIdentity(context: Pointer, material: Omit<TlsMaterial, "roots">): void {
  const chain = material.chain.flatMap(splitCertificates);
  if (chain.length === 0) throw new Error("TLS context: the certificate chain is empty");
  withCertificate(chain[0], (leaf) => {
    if (ssl.SSL_CTX_use_certificate(context, leaf) !== 1) fail("use the leaf certificate");
  });
  for (let i = 1; i < chain.length; i++) {
    withCertificate(chain[i], (intermediate) => {
      if (ssl.SSL_CTX_ctrl(context, SSL_CTRL_CHAIN_CERT, 1, intermediate) !== 1) fail("use an intermediate");
    });
  }
  const key = withPem(material.privateKey, (bio) => crypto.PEM_read_bio_PrivateKey(bio, null, null, NO_PASSPHRASE));
  if (key === null) fail("read the private key from PEM");
  try {
    if (ssl.SSL_CTX_use_PrivateKey(context, key) !== 1) fail("use the private key");
  } finally {
    crypto.EVP_PKEY_free(key);
  }
  if (ssl.SSL_CTX_check_private_key(context) !== 1) fail("match the private key with the certificate");
}

export function loadRoots(
  context: Pointer,
  roots: readonly string[],
  revocations: RevocationList | undefined,
): void {
  const certificates = roots.flatMap(splitCertificates);
  if (certificates.length === 0) throw new Error("TLS context: no root certificate; every peer would be refused");
  const store = ssl.SSL_CTX_get_cert_store(context);
  if (store === null) fail("reach the certificate store");
  for (const root of certificates) {
    withCertificate(root, (certificate) => {
      if (crypto.X509_STORE_add_cert(store, certificate) !== 1) fail("add a root certificate");
    });
  }
  revocations?.enforce(store);
}
