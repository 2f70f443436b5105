/**
 * The TLS records of an inner tunnel as the data of a stream of an outer one (double HBONE, reference ztunnel 5.4).
 *
 * Backpressure: what the inner session may have waiting to be sent is bounded by the wire, and moves on as the outer stream has window; credit for
 * what came in is given back as the inner session reads it. The outer stream's end is the inner connection's end: a cut is reported as
 * one, so that no transfer through it looks complete. After `close` the outer half ends in order, and the stream lingers until the
 * other end has ended its own: what is on its way would be lost with a reset.
 */
import type { IoContext } from "../net/io_context.ts";
import { type Deferred, type EventHandler, Timer, type TimerTarget } from "../net/reactor.ts";
import { EPOLLIN, EPOLLOUT } from "../platform/epoll.ts";
import { TlsSession } from "../platform/tls_session.ts";
import type { TlsContext } from "../platform/tls_context.ts";
import { TlsWire } from "../platform/tls_wire.ts";
import { ErrorCode, type Fields } from "../protocol/http2/mod.ts";
import type { HboneConnection, TunnelStream, TunnelUser } from "./connection.ts";
import type { TunnelLink } from "./link.ts";

const FRAME_HEADER_BYTES = 9;
/** As long as Linux lets a socket without an owner wait for its peer's end (tcp_fin_timeout). */
const LINGER_MS = 60_000;

export interface NestedLinkOwner {
  /** The outer stream failed, or its other end closed it, while the inner connection was open: close that. */
  outerLost(reason: string): void;
}

export class NestedLink implements TunnelLink, TunnelUser, Deferred, TimerTarget {
  deferred = false;
  readonly session: TlsSession;
  readonly #io: IoContext;
  readonly #outer: HboneConnection;
  readonly #stream: TunnelStream;
  readonly #owner: NestedLinkOwner;
  readonly #wire = new TlsWire();
  readonly #linger = new Timer(this);
  #handler: EventHandler | undefined;
  #mask = 0;
  /** Ready for reading, to be told at the end of the turn: the inner connection decrypts into the buffer that is being parsed now. */
  #readable = false;
  /** Bytes the session has not read yet, when credit was given back last. */
  #unread = 0;
  #peerEnded = false;
  /** Why the stream is gone, while what came before is still to be read. */
  #gone: string | undefined;
  #closed = false;
  #over = false;

  /** Takes over an answered stream of an open connection. Throws when there is no memory for a session. */
  constructor(
    io: IoContext,
    outer: HboneConnection,
    stream: TunnelStream,
    context: TlsContext,
    owner: NestedLinkOwner,
  ) {
    this.#io = io;
    this.#outer = outer;
    this.#stream = stream;
    this.#owner = owner;
    try {
      this.session = new TlsSession(context, this.#wire);
    } catch (error) {
      this.#wire.discard();
      throw error;
    }
    stream.user = this;
  }

  get unsent(): number {
    return this.#over ? 0 : this.#wire.pending;
  }

  open(handler: EventHandler): number {
    this.#handler = handler;
    this.#mask = EPOLLIN;
    return 0;
  }

  watch(mask: number): void {
    this.#mask = mask;
    if ((mask & EPOLLOUT) !== 0) this.#io.reactor.defer(this);
  }

  flushed(): void {
    if (this.#closed) return;
    this.#credit();
    this.#carry();
    if (this.#peerEnded || this.#gone !== undefined) this.#io.reactor.defer(this);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#handler = undefined;
    if (this.#over) return;
    this.#credit();
    this.#carry();
    if (this.#wire.pending > 0) return this.#cut();
    this.#outer.h2.endStream(this.#stream);
    this.#outer.touch();
    if (this.#over) return;
    this.#io.reactor.setTimer(this.#linger, LINGER_MS);
  }

  /** Cuts the outer stream, as when the inner connection failed: nothing that is on its way matters any more. */
  #cut(): void {
    if (this.#over) return;
    this.#end("");
    this.#outer.h2.resetStream(this.#stream, ErrorCode.CANCEL);
    this.#outer.touch();
  }

  flush(): void {
    const readable = this.#readable;
    this.#readable = false;
    const handler = this.#handler;
    if (handler === undefined) return;
    const writable = (this.#mask & EPOLLOUT) !== 0 && this.#wire.pending === 0;
    if (readable || writable) handler.ready((readable ? EPOLLIN : 0) | (writable ? EPOLLOUT : 0));
    if (this.#wire.unread > 0) return;
    const gone = this.#gone;
    this.#gone = undefined;
    if (gone !== undefined) this.#lost(gone);
    else if (this.#peerEnded && !this.#over) this.#lost("the gateway closed the tunnel, or the far end behind it did");
  }

  expired(): void {
    this.#cut();
  }

  headers(_stream: TunnelStream, _fields: Fields, endStream: boolean): void {
    if (endStream) this.#ended();
  }

  data(stream: TunnelStream, bytes: Uint8Array, start: number, end: number, endStream: boolean): void {
    if (this.#closed) {
      stream.consume(end - start);
      this.#outer.touch();
      return;
    }
    if (!this.#wire.put(bytes, start, end)) return this.#lost("no memory for the inner tunnel's data");
    this.#unread += end - start;
    this.#readable = true;
    this.#io.reactor.defer(this);
    if (endStream) this.#ended();
  }

  writable(): void {
    if (this.#closed) return;
    this.#carry();
    if ((this.#mask & EPOLLOUT) !== 0) this.#io.reactor.defer(this);
  }

  reset(_stream: TunnelStream, code: number): void {
    this.#end(`the tunnel to the gateway was reset with HTTP/2 error ${code}`);
  }

  closed(): void {
    this.#end("the tunnel to the gateway ended");
  }

  /** The far end's half is over: what it sent before is still read. */
  #ended(): void {
    this.#peerEnded = true;
    this.#io.reactor.defer(this);
  }

  #lost(reason: string): void {
    if (!this.#closed) this.#owner.outerLost(reason);
  }

  /** The stream is gone. */
  #end(reason: string): void {
    if (this.#over) return;
    this.#over = true;
    this.#io.reactor.cancelTimer(this.#linger);
    // What the far end said before is still read, unless the gateway itself is not trusted any more.
    if (this.#wire.unread === 0 || this.#outer.failure !== undefined) return this.#lost(reason);
    this.#gone = reason;
    this.#io.reactor.defer(this);
  }

  #credit(): void {
    const unread = this.#wire.unread;
    if (unread === this.#unread || this.#over) return;
    this.#stream.consume(this.#unread - unread);
    this.#unread = unread;
    this.#outer.touch();
  }

  /** Moves what the session produced into the outer tunnel, as far as there is window. */
  #carry(): void {
    if (this.#over) return;
    const { h2 } = this.#outer;
    for (let pending = this.#wire.pending; pending > 0; pending = this.#wire.pending) {
      const room = h2.reserveData(this.#stream, pending);
      if (room === 0) return;
      const at = h2.output.end + FRAME_HEADER_BYTES;
      const n = this.#wire.take(h2.output.bytes, at, at + room);
      h2.commitData(this.#stream, n, false);
      if (n === 0) return;
      this.#outer.touch();
    }
    if ((this.#mask & EPOLLOUT) !== 0 && !this.#closed) this.#io.reactor.defer(this);
  }
}
