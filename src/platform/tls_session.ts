/**
 * One TLS connection over a non-blocking socket. Reads and writes are plain calls that say how far they came.
 *
 * The session does not own the descriptor. After `free` no method may be called.
 */
import { type CertificateName, certificateNames, certificateUris } from "./certificates.ts";
import { errnoWord } from "./libc.ts";
import { crypto, readText, ssl, takeErrors, verifyErrorText } from "./openssl.ts";
import { type RevocationList, type Revoked, X509_V_ERR_CERT_REVOKED } from "./revocations.ts";
import type { Pointer } from "./runtime.ts";
import { runtime } from "./runtime.ts";
import type { TlsSide } from "./tls_context.ts";
import type { TlsWire } from "./tls_wire.ts";

const SSL_ERROR_WANT_READ = 2;
const SSL_ERROR_WANT_WRITE = 3;
const SSL_ERROR_SYSCALL = 5;
const SSL_ERROR_ZERO_RETURN = 6;
const SSL_CTRL_SET_TLSEXT_HOSTNAME = 55;
const TLSEXT_NAMETYPE_HOST = 0;
const SSL_CTRL_GET_NEGOTIATED_GROUP = 134;
const encoder = new TextEncoder();
/** Marks what OpenSSL has no number of its own for. */
const TLSEXT_NID_UNKNOWN = 0x100_0000;
/** OpenSSL's numbers of the groups we offer. */
const GROUPS: Readonly<Record<number, number>> = { 415: 23, 715: 24, 1034: 29 };
const X509_V_OK = 0;

/** A record's payload; a longer write is cut into records anyway, and partial writes are enabled. */
const RECORD_BYTES = 16 * 1024;

/** Results of `handshake`, `read` and `write` below zero. */
export const TLS_WANT_READ = -1;
export const TLS_WANT_WRITE = -2;
/** The peer said close_notify, or closed its side of the socket. */
export const TLS_CLOSED = -3;
/** Broken; `failure` tells why. */
export const TLS_FAILED = -4;

/** What a session is made of: a tunnel's context, or one for a server outside of the mesh. */
export interface SessionContext {
  readonly side: TlsSide;
  readonly pointer: Pointer | null;
}

export class TlsSession {
  #ssl: Pointer;
  #failure = "";
  #verifyFailed = false;
  #revoked = false;
  #refused = false;
  readonly #wire: TlsWire | undefined;

  /** Over a connected socket, or over a wire that somebody else carries. */
  constructor(context: SessionContext, over: number | TlsWire) {
    if (context.pointer === null) throw new Error("TLS session: the context was closed");
    const session = ssl.SSL_new(context.pointer);
    if (session === null) throw new Error(`TLS session: cannot allocate: ${takeErrors()}`);
    this.#ssl = session;
    if (typeof over !== "number") {
      this.#wire = over;
      over.attach(session);
    } else if (ssl.SSL_set_fd(session, over) !== 1) {
      throw new Error(`TLS session: cannot attach descriptor ${over}`);
    }
    if (context.side === "server") ssl.SSL_set_accept_state(session);
    else ssl.SSL_set_connect_state(session);
  }

  /** A client's: the name it asks for (RFC 6066 section 3), before the handshake. False: the name cannot be asked for. */
  setServerName(name: string): boolean {
    const text = encoder.encode(`${name}\0`);
    const address = runtime.pointerFrom(runtime.addressOf(text));
    return ssl.SSL_ctrl(this.#ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_HOST, address) === 1;
  }

  /** Text of the last failure, "" before one. */
  get failure(): string {
    return this.#failure;
  }

  /** True when the handshake failed because the peer's chain did not verify. */
  get verifyFailed(): boolean {
    return this.#verifyFailed;
  }

  /** True when that was because a list revokes one of its certificates. */
  get revoked(): boolean {
    return this.#revoked;
  }

  /** True when the last failure is one of TLS itself, such as the peer's alert, and not of the socket. */
  get refused(): boolean {
    return this.#refused;
  }

  /** 1 when done, else TLS_WANT_READ, TLS_WANT_WRITE, TLS_CLOSED or TLS_FAILED. */
  handshake(): number {
    crypto.ERR_clear_error();
    const n = ssl.SSL_do_handshake(this.#ssl);
    if (n === 1) {
      // `read` and `write` rely on an empty queue, and a handshake that succeeds may leave something in it.
      crypto.ERR_clear_error();
      return 1;
    }
    const outcome = this.#outcome(n);
    if (outcome === TLS_FAILED) {
      const verify = ssl.SSL_get_verify_result(this.#ssl);
      if (verify !== X509_V_OK) {
        this.#verifyFailed = true;
        this.#revoked = verify === X509_V_ERR_CERT_REVOKED;
        this.#failure = `certificate verification failed: ${verifyErrorText(verify)}`;
      }
    }
    return outcome;
  }

  /** Decrypts into `bytes[start, end)`: the count (one record at most), or a TLS_* value. */
  read(bytes: Uint8Array, start: number, end: number): number {
    const n = ssl.SSL_read(this.#ssl, start === 0 ? bytes : bytes.subarray(start), end - start);
    return n > 0 ? n : this.#outcome(n);
  }

  /** True when bytes that were already read from the kernel wait to be decrypted: a further `read` may make progress. */
  hasPending(): boolean {
    return ssl.SSL_has_pending(this.#ssl) === 1 || (this.#wire !== undefined && this.#wire.unread > 0);
  }

  /** Encrypts and sends from `bytes[start, end)`: how many were taken (one record at most), or a TLS_* value. */
  write(bytes: Uint8Array, start: number, end: number): number {
    // Memory takes everything; a wire says when it is enough.
    if (this.#wire !== undefined && this.#wire.full) return TLS_WANT_WRITE;
    const length = end - start;
    const n = ssl.SSL_write(
      this.#ssl,
      start === 0 ? bytes : bytes.subarray(start),
      length > RECORD_BYTES ? RECORD_BYTES : length,
    );
    return n > 0 ? n : this.#outcome(n);
  }

  /** Sends close_notify if the socket takes it; does not wait for the peer's. */
  shutdown(): void {
    crypto.ERR_clear_error();
    ssl.SSL_shutdown(this.#ssl);
    crypto.ERR_clear_error();
  }

  /** Looks the peer's chain, as it was verified, up in lists that came later. "unknown": there is no chain to look up. */
  checkRevocation(list: RevocationList): Revoked | "unknown" | undefined {
    const chain = ssl.SSL_get0_verified_chain(this.#ssl);
    return chain === null ? "unknown" : list.check(chain);
  }

  /** The URI names of the peer's leaf certificate, as OpenSSL parsed them; undefined when it presented none. */
  peerUris(): string[] | undefined {
    const certificate = ssl.SSL_get1_peer_certificate(this.#ssl);
    if (certificate === null) return undefined;
    const uris = certificateUris(certificate);
    crypto.X509_free(certificate);
    return uris;
  }

  /** All names of the peer's leaf certificate that can be told; undefined when it presented none. */
  peerNames(): CertificateName[] | undefined {
    const certificate = ssl.SSL_get1_peer_certificate(this.#ssl);
    if (certificate === null) return undefined;
    const names = certificateNames(certificate);
    crypto.X509_free(certificate);
    return names;
  }

  /** True when both sides agreed on "h2". A peer without ALPN ends here as false. */
  negotiatedH2(): boolean {
    const pointer = new BigUint64Array(1);
    const length = new Uint32Array(1);
    ssl.SSL_get0_alpn_selected(this.#ssl, new Uint8Array(pointer.buffer), new Uint8Array(length.buffer));
    if (length[0] !== 2) return false;
    const address = runtime.pointerFrom(pointer[0]);
    if (address === null) return false;
    const name = runtime.view(address, 0, 2);
    return name[0] === 0x68 && name[1] === 0x32;
  }

  /** Name of the suite in use, such as "TLS_AES_128_GCM_SHA256". */
  cipher(): string {
    const cipher = ssl.SSL_get_current_cipher(this.#ssl);
    const name = cipher === null ? null : ssl.SSL_CIPHER_get_name(cipher);
    return name === null ? "none" : readText(name);
  }

  /** The version in use, such as "TLSv1.3". */
  version(): string {
    const name = ssl.SSL_get_version(this.#ssl);
    return name === null ? "none" : readText(name);
  }

  /** Number of the key exchange group in use, as TLS numbers them (RFC 8446 section 4.2.7): 29 is X25519. */
  group(): number {
    const number = ssl.SSL_ctrl(this.#ssl, SSL_CTRL_GET_NEGOTIATED_GROUP, 0, null);
    return (number & TLSEXT_NID_UNKNOWN) === 0 ? GROUPS[number] ?? 0 : number & 0xffff;
  }

  free(): void {
    this.#wire?.release();
    ssl.SSL_free(this.#ssl);
  }

  /** Classifies a result that is not success. The error queue was empty before the call: each failure empties it. */
  #outcome(n: number): number {
    const code = errnoWord[0];
    const kind = ssl.SSL_get_error(this.#ssl, n);
    if (kind === SSL_ERROR_WANT_READ) return TLS_WANT_READ;
    if (kind === SSL_ERROR_WANT_WRITE) return TLS_WANT_WRITE;
    if (kind === SSL_ERROR_ZERO_RETURN) return TLS_CLOSED;
    const text = takeErrors();
    if (kind === SSL_ERROR_SYSCALL && text === "") {
      if (code === 0) return TLS_CLOSED;
      this.#refused = false;
      this.#failure = `socket error ${code}`;
      return TLS_FAILED;
    }
    this.#refused = true;
    this.#failure = text === "" ? `TLS error ${kind}` : text;
    return TLS_FAILED;
  }
}
