/**
 * OpenSSL contexts for clients of servers outside of the mesh: TLS 1.2 and 1.3 with the suites that Envoy offers, ALPN as it is asked for, a certificate
 * of our own where there is one, and the server's chain verified unless that was expressly given up. Names are checked by the caller, after the handshake.
 */
import { crypto, ssl, takeErrors } from "./openssl.ts";
import type { RevocationList } from "./revocations.ts";
import { type Pointer, runtime } from "./runtime.ts";
import { loadIdentity, loadRoots, type TlsMaterial } from "./tls_context.ts";

export interface TlsClientOptions {
  /** PEM; undefined: the server is not verified at all. */
  readonly roots: readonly string[] | undefined;
  readonly revocations?: RevocationList | undefined;
  readonly identity: Omit<TlsMaterial, "roots"> | undefined;
  /** In order of preference; none: the extension is not sent. */
  readonly alpn: readonly string[];
  readonly minVersion: "1.2" | "1.3";
  readonly maxVersion: "1.2" | "1.3";
}

const SSL_CTRL_MODE = 33;
const SSL_CTRL_SET_READ_AHEAD = 41;
const SSL_CTRL_SET_SESS_CACHE_MODE = 44;
const SSL_CTRL_SET_GROUPS_LIST = 92;
const SSL_CTRL_SET_MIN_PROTO_VERSION = 123;
const SSL_CTRL_SET_MAX_PROTO_VERSION = 124;
/** Partial writes, a moving buffer, released buffers, no chain made up from the roots. */
const MODES = 1 | 2 | 8 | 0x10;
const SSL_OP_NO_RENEGOTIATION = 1n << 30n;
const SSL_OP_NO_TICKET = 1n << 14n;
const VERIFY_NONE = 0;
const VERIFY_PEER = 1;
const VERSIONS = { "1.2": 0x0303, "1.3": 0x0304 } as const;

const encoder = new TextEncoder();
/** They live as long as the module: OpenSSL is given their address only. */
const SUITES = encoder.encode("TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256\0");
const TLS12_SUITES = encoder.encode(
  "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-AES128-GCM-SHA256:" +
    "ECDHE-RSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384\0",
);
const GROUPS = encoder.encode("X25519:P-256:P-384\0");

export class TlsClientContext {
  readonly side = "client";
  #pointer: Pointer | null;

  /** @throws Error when the material is not usable */
  constructor(options: TlsClientOptions) {
    crypto.ERR_clear_error();
    const pointer = ssl.SSL_CTX_new(ssl.TLS_method());
    if (pointer === null) throw new Error(`TLS context: cannot allocate: ${takeErrors()}`);
    this.#pointer = pointer;
    try {
      configure(pointer, options);
      if (options.identity !== undefined) loadIdentity(pointer, options.identity);
      if (options.roots !== undefined) loadRoots(pointer, options.roots, options.revocations);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** For TlsSession only; null after `close`. */
  get pointer(): Pointer | null {
    return this.#pointer;
  }

  /** Sessions that live keep what they need of it. */
  close(): void {
    if (this.#pointer !== null) ssl.SSL_CTX_free(this.#pointer);
    this.#pointer = null;
  }
}

function configure(context: Pointer, { roots, alpn, minVersion, maxVersion }: TlsClientOptions): void {
  ssl.SSL_CTX_ctrl(context, SSL_CTRL_SET_SESS_CACHE_MODE, 0, null);
  ssl.SSL_CTX_ctrl(context, SSL_CTRL_MODE, MODES, null);
  ssl.SSL_CTX_ctrl(context, SSL_CTRL_SET_READ_AHEAD, 1, null);
  ssl.SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
  must(ssl.SSL_CTX_ctrl(context, SSL_CTRL_SET_MIN_PROTO_VERSION, VERSIONS[minVersion], null), "set the lowest version");
  must(
    ssl.SSL_CTX_ctrl(context, SSL_CTRL_SET_MAX_PROTO_VERSION, VERSIONS[maxVersion], null),
    "set the highest version",
  );
  must(ssl.SSL_CTX_set_ciphersuites(context, SUITES), "set the cipher suites");
  must(ssl.SSL_CTX_set_cipher_list(context, TLS12_SUITES), "set the cipher suites of TLS 1.2");
  const groups = runtime.pointerFrom(runtime.addressOf(GROUPS));
  must(ssl.SSL_CTX_ctrl(context, SSL_CTRL_SET_GROUPS_LIST, 0, groups), "set the key exchange groups");
  ssl.SSL_CTX_set_verify(context, roots === undefined ? VERIFY_NONE : VERIFY_PEER, null);
  if (alpn.length === 0) return;
  const list = alpnList(alpn);
  // Zero is success here, unlike everywhere else.
  must(ssl.SSL_CTX_set_alpn_protos(context, list, list.length) === 0 ? 1 : 0, "set ALPN");
}

function alpnList(names: readonly string[]): Uint8Array<ArrayBuffer> {
  const bytes: number[] = [];
  for (const name of names) {
    const text = encoder.encode(name);
    if (text.length === 0 || text.length > 255) throw new RangeError(`TLS context: "${name}" is no ALPN name`);
    bytes.push(text.length, ...text);
  }
  return new Uint8Array(bytes);
}

function must(outcome: number, what: string): void {
  if (outcome !== 1) throw new Error(`TLS context: cannot ${what}: ${takeErrors()}`);
}
