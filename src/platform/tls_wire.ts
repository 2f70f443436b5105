/**
 * The two ends of a TLS session that has no socket: what the peer sent goes in, what is to be sent to it comes out. For a
 * tunnel inside a tunnel, whose records travel as the data of a stream.
 *
 * The bytes lie in OpenSSL's memory. `full` bounds what waits to be sent; what came in is bounded by whoever puts it in.
 */
import { crypto, ssl, takeErrors } from "./openssl.ts";
import type { Pointer } from "./runtime.ts";

const BIO_CTRL_PENDING = 10;
/** Records that wait to be taken: enough for one large frame, and no more than a burst of one connection. */
const FULL_BYTES = 128 * 1024;

export class TlsWire {
  readonly #incoming: Pointer;
  readonly #outgoing: Pointer;
  /** The BIOs are the session's: it frees them. */
  #attached = false;
  #gone = false;

  /** Throws when there is no memory. */
  constructor() {
    const incoming = crypto.BIO_new(crypto.BIO_s_mem());
    const outgoing = crypto.BIO_new(crypto.BIO_s_mem());
    if (incoming === null || outgoing === null) throw new Error(`OpenSSL cannot allocate a BIO: ${takeErrors()}`);
    this.#incoming = incoming;
    this.#outgoing = outgoing;
  }

  /** For TlsSession only: from now on both BIOs are the session's and are freed with it. */
  attach(session: Pointer): void {
    this.#attached = true;
    ssl.SSL_set_bio(session, this.#incoming, this.#outgoing);
  }

  /** For TlsSession only: the session is freed. The wire takes and gives nothing any more. */
  release(): void {
    this.#gone = true;
  }

  /** Frees a wire that no session took. */
  discard(): void {
    if (this.#attached || this.#gone) return;
    this.#gone = true;
    crypto.BIO_free(this.#incoming);
    crypto.BIO_free(this.#outgoing);
  }

  /** Copies what the peer sent, `bytes[start, end)`. False when there is no memory: end the session. */
  put(bytes: Uint8Array, start: number, end: number): boolean {
    if (end === start || this.#gone) return true;
    return crypto.BIO_write(this.#incoming, bytes.subarray(start, end), end - start) === end - start;
  }

  /** Bytes of the peer that the session did not read yet. */
  get unread(): number {
    return this.#gone ? 0 : crypto.BIO_ctrl(this.#incoming, BIO_CTRL_PENDING, 0, null);
  }

  /** Bytes that wait to be taken. */
  get pending(): number {
    return this.#gone ? 0 : crypto.BIO_ctrl(this.#outgoing, BIO_CTRL_PENDING, 0, null);
  }

  get full(): boolean {
    return this.pending >= FULL_BYTES;
  }

  /** Moves what is to be sent into `bytes[start, end)`: the count. */
  take(bytes: Uint8Array, start: number, end: number): number {
    if (this.#gone) return 0;
    const n = crypto.BIO_read(this.#outgoing, bytes.subarray(start, end), end - start);
    return n > 0 ? n : 0;
  }
}
