/**
 * A TLS client over any byte stream, and itself one: handshake, the judgement of the server's names, then records both ways.
 *
 * Backpressure: what is encrypted goes on as the stream below takes it; what came in stays encrypted, and its credit is held back, while the sink has
 * a whole window of plain bytes. A server that ends without saying so by TLS may have been cut off by somebody else: that is a cut here.
 */
import type { BufferPool } from "../../net/buffer_pool.ts";
import { type Deferred, Timer, type TimerTarget } from "../../net/reactor.ts";
import type { CertificateName } from "../../platform/certificates.ts";
import { type SessionContext, TLS_CLOSED, TLS_FAILED, TLS_WANT_READ, TlsSession } from "../../platform/tls_session.ts";
import { TlsWire } from "../../platform/tls_wire.ts";
import type { Timing } from "../http/timing.ts";
import { type ByteSink, HIGH_WATER_BYTES, type StreamCut, type Uint8ArrayAt } from "./byte_stream.ts";
import { NOTHING, type OwnedStream, Room } from "./owned_stream.ts";
import { plainBuffer } from "./plain_buffer.ts";
import { TlsSender } from "./tls_sender.ts";

const WINDOW_BYTES = 2 * HIGH_WATER_BYTES;
const RECORD_BYTES = 16 * 1024;
/** As long as Linux lets a socket without an owner wait for its peer's end (tcp_fin_timeout). */
const LINGER_MS = 60_000;

export interface TlsOwner {
  /** The server is who it should be: set the sink before returning. */
  tlsReady(stream: TlsStream): void;
  tlsFailed(detail: string): void;
}

export interface TlsTerms {
  readonly context: SessionContext;
  /** "" none is asked for. */
  readonly serverName: string;
  /** A text refuses the names of the server's certificate. */
  judge(names: readonly CertificateName[]): string | undefined;
}

export class TlsStream implements OwnedStream, ByteSink, Deferred, TimerTarget {
  deferred = false;
  whenOver: (() => void) | undefined;
  peerEnded = false;
  readonly #timing: Timing;
  readonly #pool: BufferPool;
  readonly #below: OwnedStream;
  readonly #terms: TlsTerms;
  readonly #session: TlsSession;
  readonly #wire = new TlsWire();
  readonly #room = new Room();
  readonly #linger = new Timer(this);
  /** Of the handshake; nobody afterwards. */
  #owner: TlsOwner | undefined;
  #phase: "handshake" | "open" | "over" = "handshake";
  #sink: ByteSink | undefined;
  #isBelowEnded = false;
  /** Encrypted bytes whose credit is held back. */
  #unread = 0;
  /** Plain bytes that the sink has not consumed. */
  #held = 0;
  readonly #sender: TlsSender;
  #aside: Uint8Array | undefined;
  #isFull = false;

  /** Takes the stream over. The owner is told in a later turn at the earliest. @throws Error when there is no memory */
  constructor(timing: Timing, pool: BufferPool, below: OwnedStream, terms: TlsTerms, owner: TlsOwner) {
    this.#timing = timing;
    this.#pool = pool;
    this.#below = below;
    this.#terms = terms;
    this.#owner = owner;
    try {
      this.#session = new TlsSession(terms.context, this.#wire);
    } catch (error) {
      this.#wire.discard();
      throw error;
    }
    this.#sender = new TlsSender(pool, below, this.#session, this.#wire);
    if (terms.serverName !== "") this.#session.setServerName(terms.serverName);
    below.whenOver = () => this.#belowOver();
    below.setSink(this);
    timing.defer(this);
  }

  // ---- handshake

  #shakeHands(): void {
    const outcome = this.#session.handshake();
    this.#sender.carry();
    if (outcome === TLS_FAILED) return this.#refuse(this.#session.failure);
    if (outcome === TLS_CLOSED || (outcome !== 1 && this.#isBelowEnded)) {
      return this.#refuse("the server ended the connection during the TLS handshake");
    }
    if (outcome !== 1) return this.#credit();
    const refusal = this.#terms.judge(this.#session.peerNames() ?? []);
    if (refusal !== undefined) return this.#refuse(refusal);
    this.#phase = "open";
    const owner = this.#owner;
    this.#owner = undefined;
    owner?.tlsReady(this);
    // Its first bytes may have come with its last handshake message.
    if (!this.#isOver) this.#timing.defer(this);
  }

  get #isOver(): boolean {
    return this.#phase === "over";
  }

  #refuse(detail: string): void {
    const owner = this.#owner;
    this.#owner = undefined;
    this.reset();
    owner?.tlsFailed(detail);
  }

  // ---- in

  setSink(sink: ByteSink): void {
    this.#sink = sink;
    if (this.#phase === "open") this.#timing.defer(this);
  }

  data(bytes: Uint8Array, start: number, end: number, ended: boolean): void {
    if (this.#isOver || this.peerEnded) return this.#below.consume(end - start);
    if (!this.#wire.put(bytes, start, end)) return this.#fail({ by: "us", detail: "no memory for TLS" });
    this.#unread += end - start;
    if (ended) this.#isBelowEnded = true;
    this.#advance();
  }

  #advance(): void {
    if (this.#phase === "handshake") this.#shakeHands();
    else if (this.#phase === "open") this.#read();
  }

  #read(): void {
    if (this.#sink === undefined || this.#held >= WINDOW_BYTES || this.peerEnded) return;
    const bytes = plainBuffer.lend();
    if (bytes === undefined) return this.#timing.defer(this);
    try {
      this.#decrypt(bytes);
    } finally {
      plainBuffer.giveBack();
    }
    if (this.#isOver) return;
    this.#credit();
    this.#sender.carry();
    this.#checkOver();
  }

  #decrypt(bytes: Uint8Array): void {
    while (!this.#isOver && this.#held < WINDOW_BYTES) {
      let filled = 0;
      let n = 0;
      while (bytes.length - filled >= RECORD_BYTES && this.#held + filled < WINDOW_BYTES) {
        n = this.#session.read(bytes, filled, bytes.length);
        if (n <= 0) break;
        filled += n;
      }
      this.#held += filled;
      if (n === TLS_CLOSED) {
        this.peerEnded = true;
        return this.#sink?.data(bytes, 0, filled, true);
      }
      const failure = n === TLS_FAILED ? this.#session.failure : undefined;
      if (filled > 0) this.#sink?.data(bytes, 0, filled, false);
      if (this.#isOver) return;
      if (failure !== undefined) return this.#fail({ by: "peer", detail: failure });
      if (n > 0) continue;
      if (this.#isBelowEnded && n === TLS_WANT_READ) {
        this.#fail({ by: "peer", detail: "the server ended the connection without a TLS close_notify" });
      }
      return;
    }
  }

  /** What the session has read makes room for more below. */
  #credit(): void {
    const unread = this.#wire.unread;
    if (unread === this.#unread) return;
    this.#below.consume(this.#unread - unread);
    this.#unread = unread;
  }

  consume(bytes: number): void {
    const wasFull = this.#held >= WINDOW_BYTES;
    this.#held -= bytes;
    // Not from here: the sink may be in the middle of what it was given.
    if (wasFull && this.#held < WINDOW_BYTES && !this.#isOver) this.#timing.defer(this);
  }

  // ---- out

  get queued(): number {
    return this.#isOver ? 0 : this.#sender.queued;
  }

  write(bytes: Uint8Array, start: number, end: number): void {
    if (this.#isOver || end <= start) return;
    this.#sender.write(bytes, start, end);
    if (this.#sender.failure !== undefined) this.#timing.defer(this);
    if (this.queued >= HIGH_WATER_BYTES) this.#isFull = true;
  }

  reserve(minBytes: number): Uint8ArrayAt {
    this.#aside = this.#pool.take(minBytes);
    return this.#room.set(this.#aside, 0, this.#aside.length);
  }

  commit(bytes: number): void {
    const aside = this.#aside;
    this.#aside = undefined;
    this.#room.set(NOTHING, 0, 0);
    if (aside === undefined) return;
    this.write(aside, 0, bytes);
    this.#pool.give(aside);
  }

  writable(): void {
    if (this.#isOver) return;
    this.#push();
    if (this.#phase !== "open" || !this.#isFull || this.queued >= HIGH_WATER_BYTES) return;
    this.#isFull = false;
    this.#sink?.writable();
  }

  #push(): void {
    this.#sender.push();
    if (this.#sender.failure !== undefined) this.#timing.defer(this);
    this.#checkOver();
  }

  flush(): void {
    if (this.#isOver) return;
    if (this.#sender.failure !== undefined) return this.#fail(this.#sender.failure);
    this.#advance();
    if (this.#phase === "open") this.#push();
  }

  // ---- its end

  end(): void {
    if (this.#isOver) return;
    this.#sender.end();
    this.#checkOver();
  }

  /** Both sides have said by TLS that they are done. What is below ends by itself, or is cut after a while. */
  #checkOver(): void {
    if (this.#isOver || !this.peerEnded || !this.#sender.isEndSent) return;
    if (!this.#below.closed) this.#timing.setTimer(this.#linger, LINGER_MS);
    this.#release();
  }

  expired(): void {
    if (!this.#below.closed) this.#below.reset();
  }

  reset(): void {
    this.#sink = undefined;
    this.#owner = undefined;
    if (!this.#below.closed) this.#below.reset();
    this.#release();
  }

  broken(cause: StreamCut): void {
    this.#fail(cause);
  }

  #fail(cause: StreamCut): void {
    if (this.#isOver) return;
    if (this.#phase === "handshake") return this.#refuse(cause.detail);
    const sink = this.#sink;
    this.reset();
    sink?.broken(cause);
  }

  #release(): void {
    if (this.#isOver) return;
    this.#phase = "over";
    this.#sender.clear();
    this.#session.free();
    if (this.#below.closed) this.#tell();
  }

  #belowOver(): void {
    this.#timing.cancelTimer(this.#linger);
    if (this.#isOver) this.#tell();
  }

  #tell(): void {
    const whenOver = this.whenOver;
    this.whenOver = undefined;
    whenOver?.();
  }

  get closed(): boolean {
    return this.#isOver;
  }
}
