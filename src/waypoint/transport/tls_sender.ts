/** The outgoing half of TLS over a byte stream: plain bytes into records, records into the stream below as far as that takes them, and the end behind all. */
import type { BufferPool } from "../../net/buffer_pool.ts";
import { ByteQueue } from "../../net/byte_queue.ts";
import { TLS_CLOSED, TLS_FAILED, type TlsSession } from "../../platform/tls_session.ts";
import type { TlsWire } from "../../platform/tls_wire.ts";
import { type ByteStream, HIGH_WATER_BYTES, type StreamCut } from "./byte_stream.ts";

const RECORD_BYTES = 16 * 1024;

export class TlsSender {
  /** TLS broke down as it was written to. Told later: a write calls nobody. */
  failure: StreamCut | undefined;
  /** close_notify, and the end of the stream below, are on their way. */
  isEndSent = false;
  readonly #pool: BufferPool;
  readonly #below: ByteStream;
  readonly #session: TlsSession;
  readonly #wire: TlsWire;
  /** What the session does not take while the stream below is full. */
  #queue: ByteQueue | undefined;
  #isEnding = false;
  #isNotified = false;

  constructor(pool: BufferPool, below: ByteStream, session: TlsSession, wire: TlsWire) {
    this.#pool = pool;
    this.#below = below;
    this.#session = session;
    this.#wire = wire;
  }

  get #waiting(): number {
    return this.#queue === undefined ? 0 : this.#queue.length;
  }

  get queued(): number {
    return this.#waiting + this.#wire.pending + this.#below.queued;
  }

  write(bytes: Uint8Array, start: number, end: number): void {
    if (this.#isEnding || this.failure !== undefined) return;
    const at = this.#waiting === 0 ? this.#encrypt(bytes, start, end) : start;
    if (at === end || this.failure !== undefined) return;
    this.#queue ??= new ByteQueue(this.#pool);
    this.#queue.push(bytes, at, end);
  }

  /** How far it came. */
  #encrypt(bytes: Uint8Array, start: number, end: number): number {
    let at = start;
    while (at < end && this.failure === undefined) {
      const n = this.#session.write(bytes, at, end);
      this.carry();
      if (n <= 0) {
        if (n === TLS_FAILED || n === TLS_CLOSED) {
          this.failure = { by: "peer", detail: this.#session.failure || "the server ended the connection" };
        }
        break;
      }
      at += n;
    }
    return at;
  }

  /** Moves what the session has made to the stream below, as far as that takes it. */
  carry(): void {
    if (this.#below.closed) return;
    for (let pending = this.#wire.pending; pending > 0; pending = this.#wire.pending) {
      if (this.#below.queued >= HIGH_WATER_BYTES) return;
      const { bytes, at, end } = this.#below.reserve(Math.min(pending, RECORD_BYTES));
      const n = this.#wire.take(bytes, at, Math.min(end, at + pending));
      this.#below.commit(n);
      if (n === 0) return;
    }
  }

  /** The stream below takes more. */
  push(): void {
    this.carry();
    this.#queue?.drain((bytes, start, end) => this.#encrypt(bytes, start, end) - start);
    this.#finish();
  }

  end(): void {
    this.#isEnding = true;
    this.#finish();
  }

  #finish(): void {
    if (!this.#isEnding || this.isEndSent || this.#waiting > 0) return;
    if (!this.#isNotified) {
      this.#isNotified = true;
      this.#session.shutdown();
    }
    this.carry();
    if (this.#wire.pending > 0) return;
    this.isEndSent = true;
    this.#below.end();
  }

  clear(): void {
    this.#queue?.clear();
  }
}
