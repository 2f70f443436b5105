/**
 * One HBONE connection, either end: a TLS session and an HTTP/2 connection over one link.
 *
 * What arrived together is decrypted and parsed whole; what a reactor turn produced is encrypted and written once, in
 * `flush`. The connection owns the link and the session; `closed` is its last call to the owner, exactly once.
 */
import { EPOLLIN, EPOLLOUT } from "../platform/epoll.ts";
import { TLS_CLOSED, TLS_FAILED, TLS_WANT_WRITE, type TlsSession } from "../platform/tls_session.ts";
import type { IoContext } from "../net/io_context.ts";
import { type Deferred, type EventHandler, Timer, type TimerTarget } from "../net/reactor.ts";
import type { Revocations } from "../platform/revocations.ts";
import {
  ErrorCode,
  type Fields,
  Http2Connection,
  type Http2Handlers,
  type Http2Stream,
} from "../protocol/http2/mod.ts";
import type { TunnelLink } from "./link.ts";
import { lookUpPeer, revokedPeer } from "./revocation.ts";
import type { HboneSettings } from "./settings.ts";

/** The one that a stream belongs to: a CONNECT in progress, or the relay that follows it. */
export interface TunnelUser {
  headers(stream: TunnelStream, fields: Fields, endStream: boolean): void;
  data(stream: TunnelStream, bytes: Uint8Array, start: number, end: number, endStream: boolean): void;
  writable(stream: TunnelStream): void;
  reset(stream: TunnelStream, code: number, byPeer: boolean): void;
  closed(stream: TunnelStream): void;
}

export type TunnelStream = Http2Stream<TunnelUser | undefined>;

/** What was wrong with the handshake, or became wrong with it later: a certificate was revoked. */
export interface HandshakeFailure {
  readonly stage: "tls" | "identity" | "revoked";
  readonly message: string;
}

export interface HboneOwner {
  /** TLS is up: judge the peer by the URI names of its certificate. A text refuses it and says why. */
  admit(connection: HboneConnection, peerUris: readonly string[]): string | undefined;
  /** The peer was admitted; streams may flow. */
  established(connection: HboneConnection): void;
  /** A server's new stream; the owner sets `stream.user`. */
  request(connection: HboneConnection, stream: TunnelStream, fields: Fields, endStream: boolean): void;
  /** A stream was refused before anybody saw it: one too many, or with too many headers. */
  refused?(connection: HboneConnection, code: number, fault: string): void;
  /** Room for streams may have appeared: the peer's SETTINGS came, or a stream closed. */
  available(connection: HboneConnection): void;
  /** The connection is gone. `failure` is set when it never got past its handshake. */
  closed(connection: HboneConnection, reason: string, failure: HandshakeFailure | undefined): void;
}

/** Bytes taken from one connection before others get their turn. */
const BYTES_PER_TURN = 512 * 1024;
const RECORD_BYTES = 16 * 1024;

export class HboneConnection implements EventHandler, Deferred, TimerTarget {
  deferred = false;
  readonly h2: Http2Connection<TunnelUser | undefined>;
  readonly #io: IoContext;
  readonly #link: TunnelLink;
  readonly #tls: TlsSession;
  readonly #owner: HboneOwner;
  readonly #timer = new Timer(this);
  #phase: "handshake" | "open" | "closing" | "closed" = "handshake";
  #mask = EPOLLIN;
  #timerAtMs = Infinity;
  #readAgain = false;
  #reason = "";
  #failure: HandshakeFailure | undefined;
  /** The peer has said something after its handshake. */
  #heard = false;
  /** Lists that came while the handshake was under way. */
  #revocations: Revocations | undefined;
  /** What was not sent when somebody looked last, while closing. */
  #left = 0;

  /** Takes over the link. The handshake begins in the next turn at the latest. */
  constructor(io: IoContext, link: TunnelLink, settings: HboneSettings, owner: HboneOwner) {
    this.#io = io;
    this.#link = link;
    this.#tls = link.session;
    this.#owner = owner;
    this.h2 = new Http2Connection(
      { ...settings.http2, bufferPool: io.pool },
      createHandlers(this, owner),
      io.reactor.nowMs,
    );
    io.reactor.setTimer(this.#timer, settings.handshakeTimeoutMs);
    const outcome = link.open(this);
    if (outcome < 0) this.#reason = `cannot watch the connection: error ${-outcome}`;
    io.reactor.defer(this);
  }

  get open(): boolean {
    return this.#phase === "open";
  }

  /** What ended it, when that was one of the certificates: known before its streams are told. */
  get failure(): HandshakeFailure | undefined {
    return this.#failure;
  }

  /** True once no new stream should be put on it. */
  get ending(): boolean {
    return this.#phase === "closing" || this.#phase === "closed" || this.h2.draining;
  }

  /** Something was queued for this connection: it is written at the end of the turn. */
  touch(): void {
    this.#io.reactor.defer(this);
  }

  ready(mask: number): void {
    if (this.#phase === "handshake") return this.#shakeHands();
    if ((mask & EPOLLOUT) !== 0) this.touch();
    if ((mask & ~EPOLLOUT) !== 0) this.#read();
  }

  flush(): void {
    if (this.#phase === "closed") return;
    if (this.#phase === "handshake") {
      if (this.#reason !== "") return this.#fail("tls", this.#reason);
      return this.#shakeHands();
    }
    if (this.#readAgain) {
      this.#readAgain = false;
      this.#read();
    }
    this.#write();
    this.#link.flushed();
  }

  expired(nowMs: number): void {
    this.#timerAtMs = Infinity;
    if (this.#phase === "handshake") return this.#fail("tls", "TLS handshake timed out");
    if (this.#phase === "closing") return this.#closeInTime();
    this.h2.tick(nowMs);
    this.#schedule();
    this.touch();
  }

  /** Lets open streams finish and takes no new ones; `closed` follows. */
  drain(): void {
    if (this.#phase === "handshake") return this.close("connection drain");
    this.h2.drain();
    this.touch();
  }

  /**
   * Ends it when the peer's certificate is revoked by now; a peer whose handshake is not done is looked up then. "untracked": nothing is
   * known of its chain any more, so it stays.
   */
  applyRevocations(revocations: Revocations): "revoked" | "untracked" | undefined {
    if (this.#phase === "closed") return undefined;
    if (this.#phase === "handshake") {
      this.#revocations = revocations;
      return undefined;
    }
    const outcome = lookUpPeer(this.#tls, revocations);
    if (outcome === undefined || outcome === "untracked") return outcome;
    this.#failure = outcome;
    this.h2.goaway(ErrorCode.NO_ERROR, "certificate revoked");
    this.#write();
    this.close(outcome.message);
    return "revoked";
  }

  /**
   * Ends at once: open streams get `reset`. What is queued goes out as far as it can: the peer learns which streams were cut on purpose.
   * `failure` is what streams learn when another tunnel takes it along.
   */
  close(reason: string, failure?: HandshakeFailure): void {
    if (this.#phase === "open") this.#writeLast();
    this.#abandon(reason, failure);
  }

  #writeLast(): void {
    const { output } = this.h2;
    while (output.start < output.end) {
      const n = this.#tls.write(output.bytes, output.start, output.end);
      if (n <= 0) return;
      this.h2.sent(n);
    }
  }

  #abandon(reason: string, failure?: HandshakeFailure): void {
    if (this.#phase === "closed") return;
    this.#failure ??= failure;
    this.#reason = reason;
    if (this.#phase !== "handshake") this.h2.receivedEof(reason);
    this.#close();
  }

  /** For the handlers: the HTTP/2 connection is over. What it queued is still written, for a moment. */
  finish(reason: string): void {
    if (this.#phase === "closed" || this.#phase === "closing") return;
    if (this.#reason === "") this.#reason = reason;
    this.#phase = "closing";
    this.#left = this.#unsent;
    this.#io.reactor.setTimer(this.#timer, CLOSING_MS);
    this.touch();
  }

  #shakeHands(): void {
    this.#handshake();
    this.#link.flushed();
  }

  #handshake(): void {
    const outcome = this.#tls.handshake();
    if (outcome !== 1) {
      if (outcome === TLS_FAILED) {
        const { failure, revoked } = this.#tls;
        return revoked ? this.#refuse(revokedPeer("certificate revoked")) : this.#fail("tls", failure);
      }
      if (outcome === TLS_CLOSED) return this.#fail("tls", "the peer closed the connection during the TLS handshake");
      this.#watch(outcome === TLS_WANT_WRITE ? EPOLLIN | EPOLLOUT : EPOLLIN);
      return;
    }
    if (!this.#tls.negotiatedH2()) return this.#fail("tls", "the peer did not negotiate h2 by ALPN");
    const uris = this.#tls.peerUris();
    if (uris === undefined) return this.#fail("tls", "the peer presented no certificate");
    const late = lookUpPeer(this.#tls, this.#revocations);
    if (late !== undefined && late !== "untracked") return this.#refuse(late);
    const refusal = this.#owner.admit(this, uris);
    if (refusal !== undefined) return this.#fail("identity", refusal);
    this.#phase = "open";
    this.#io.reactor.cancelTimer(this.#timer);
    this.#watch(EPOLLIN);
    this.#owner.established(this);
    if (this.#phase !== "open") return;
    this.#schedule();
    // The peer's first frames may have come with its last handshake message and wait inside OpenSSL.
    this.#readAgain = this.#tls.hasPending();
    this.touch();
  }

  #read(): void {
    const bytes = this.#io.readBuffer;
    const nowMs = this.#io.reactor.nowMs;
    let filled = 0;
    let total = 0;
    let stopped = 0;
    for (;;) {
      const n = this.#tls.read(bytes, filled, bytes.length);
      if (n <= 0) {
        stopped = n;
        break;
      }
      filled += n;
      this.#heard = true;
      if (!this.#tls.hasPending()) break;
      if (bytes.length - filled >= RECORD_BYTES) continue;
      total += filled;
      this.h2.receive(bytes, 0, filled, nowMs);
      filled = 0;
      if (this.#phase === "closed") return;
      if (total < BYTES_PER_TURN) continue;
      this.#readAgain = true;
      break;
    }
    if (filled > 0) {
      this.h2.receive(bytes, 0, filled, nowMs);
      if (this.#phase === "closed") return;
    }
    if (stopped === TLS_CLOSED || stopped === TLS_FAILED) return this.#lost(stopped);
    this.#schedule();
    this.touch();
  }

  #write(): void {
    // The read before it may have met the peer's end: the session is freed then.
    if (this.#phase === "closed") return;
    const output = this.h2.output;
    while (output.start < output.end) {
      const n = this.#tls.write(output.bytes, output.start, output.end);
      if (n > 0) {
        this.h2.sent(n);
        continue;
      }
      if (n === TLS_WANT_WRITE) return this.#watch(EPOLLIN | EPOLLOUT);
      if (n === TLS_CLOSED || n === TLS_FAILED) {
        // What the peer said before it closed tells more than that it has.
        if (!this.#heard) this.#tls.read(this.#io.readBuffer, 0, RECORD_BYTES);
        return this.#lost(n);
      }
      return;
    }
    if (this.#phase === "closing") {
      if (this.#link.unsent === 0) return this.#close();
      return this.#watch(EPOLLIN | EPOLLOUT);
    }
    this.#watch(EPOLLIN);
  }

  get #unsent(): number {
    return this.h2.output.end - this.h2.output.start + this.#link.unsent;
  }

  /** The last bytes of streams may still be on their way: whoever takes some of them is waited for. */
  #closeInTime(): void {
    const left = this.#unsent;
    if (left >= this.#left) return this.#close();
    this.#left = left;
    this.#io.reactor.setTimer(this.#timer, CLOSING_MS);
  }

  /** The TLS connection is gone. In TLS 1.3 a server judges our certificate when our handshake is done: its alert comes here. */
  #lost(outcome: number): void {
    if (this.#phase === "closed") return;
    const reason = outcome === TLS_FAILED && this.#tls.failure !== ""
      ? this.#tls.failure
      : "the peer closed the connection";
    if (this.#tls.refused && !this.#heard) this.#failure ??= { stage: "tls", message: reason };
    this.#abandon(reason);
  }

  #watch(mask: number): void {
    if (mask === this.#mask) return;
    this.#mask = mask;
    this.#link.watch(mask);
  }

  #schedule(): void {
    const deadline = this.h2.nextDeadlineMs();
    if (deadline >= this.#timerAtMs || this.#phase !== "open") return;
    this.#timerAtMs = deadline;
    this.#io.reactor.setTimer(this.#timer, Math.max(0, deadline - this.#io.reactor.nowMs));
  }

  #fail(stage: HandshakeFailure["stage"], message: string): void {
    this.#refuse({ stage, message });
  }

  #refuse(failure: HandshakeFailure): void {
    this.#reason = failure.message;
    this.#failure = failure;
    this.#close(failure);
  }

  #close(failure?: HandshakeFailure): void {
    if (this.#phase === "closed") return;
    const wasOpen = this.#phase !== "handshake";
    this.#phase = "closed";
    this.#io.reactor.cancelTimer(this.#timer);
    if (wasOpen) this.#tls.shutdown();
    this.#link.close();
    this.#tls.free();
    this.#owner.closed(this, this.#reason, failure);
  }
}

/** A peer that takes nothing of what is left to send is not waited for longer. */
const CLOSING_MS = 2_000;

function createHandlers(connection: HboneConnection, owner: HboneOwner): Http2Handlers<TunnelUser | undefined> {
  return {
    headers(stream, fields, endStream) {
      if (stream.user === undefined) owner.request(connection, stream, fields, endStream);
      else stream.user.headers(stream, fields, endStream);
    },
    trailers(stream) {
      // Trailers end the peer's half; a tunnel has no use for their content.
      stream.user?.data(stream, EMPTY, 0, 0, true);
    },
    data(stream, bytes, start, end, endStream) {
      if (stream.user !== undefined) stream.user.data(stream, bytes, start, end, endStream);
      else stream.consume(end - start);
    },
    writable(stream) {
      stream.user?.writable(stream);
    },
    reset(stream, code, byPeer) {
      stream.user?.reset(stream, code, byPeer);
    },
    closed(stream) {
      stream.user?.closed(stream);
      owner.available(connection);
    },
    refused: (code, fault) => owner.refused?.(connection, code, fault),
    goaway() {},
    settings() {
      owner.available(connection);
    },
    drained() {
      connection.finish("drained");
    },
    failed(_code, reason) {
      connection.finish(reason);
    },
  };
}

const EMPTY = new Uint8Array(0);
