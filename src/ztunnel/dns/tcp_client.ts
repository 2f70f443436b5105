/**
 * A DNS client's TCP connection: questions come one after the other, answers go back as they are ready (RFC 7766). It ends when the client
 * ends it, or after five seconds without a question while none is waiting.
 */
import { EAGAIN } from "../../platform/errno.ts";
import type { IoContext } from "../../net/io_context.ts";
import { Timer, type TimerTarget } from "../../net/reactor.ts";
import { type TcpSink, TcpStream } from "../../net/tcp_stream.ts";
import { frame, FrameReader } from "../../protocol/dns/mod.ts";

/** ztunnel's. */
const IDLE_MS = 5_000;
const MAX_WAITING = 32;
/** A client that does not read its answers gets no more. */
const MAX_QUEUED_BYTES = 256 * 1024;

export interface TcpClientHandler {
  /** A question, valid until this returns. It is answered by `TcpClient.answer`, once, at any time. */
  question(bytes: Uint8Array, client: TcpClient): void;
  clientClosed(client: TcpClient): void;
}

export class TcpClient implements TcpSink, TimerTarget {
  readonly #io: IoContext;
  readonly #handler: TcpClientHandler;
  readonly #stream: TcpStream;
  readonly #timer = new Timer(this);
  readonly #frames = new FrameReader((message) => this.#take(message));
  /** Questions that came in one piece behind the last that may wait. */
  #held: Uint8Array[] = [];
  #waiting = 0;
  #finishing = false;
  #closed = false;

  /** Takes over a connected descriptor. */
  constructor(io: IoContext, fd: number, handler: TcpClientHandler) {
    this.#io = io;
    this.#handler = handler;
    this.#stream = new TcpStream(io.reactor, io.pool, fd, this);
    this.#stream.resumeRead();
    io.reactor.setTimer(this.#timer, IDLE_MS);
  }

  /** `message`: undefined when there is nothing to say. */
  answer(message: Uint8Array | undefined): void {
    if (this.#closed) return;
    this.#waiting--;
    if (message !== undefined) {
      const bytes = frame(message);
      const outcome = this.#stream.write(bytes, 0, bytes.length);
      if (outcome < 0 || this.#stream.queued > MAX_QUEUED_BYTES) return this.close();
    }
    while (!this.#closed && this.#waiting < MAX_WAITING && this.#held.length > 0) this.#ask(this.#held.shift()!);
    if (this.#closed || this.#waiting > 0) return;
    if (this.#stream.readEnded || this.#finishing) return this.#end();
    this.#stream.resumeRead();
    this.#io.reactor.setTimer(this.#timer, IDLE_MS);
  }

  readable(): void {
    const buffer = this.#io.readBuffer;
    const n = this.#stream.read(buffer, 0, buffer.length);
    if (n === -EAGAIN) return;
    if (n < 0) return this.close();
    if (n === 0) {
      // The client may still read: what it asked is answered first.
      if (this.#waiting === 0) this.#end();
      return;
    }
    // Questions are taken apart after their bytes were read: answering may read other sockets into the same buffer.
    this.#frames.push(buffer.slice(0, n));
  }

  drained(): void {
    if ((this.#stream.readEnded || this.#finishing) && this.#waiting === 0) this.#end();
  }

  broken(): void {
    this.close();
  }

  expired(): void {
    if (this.#waiting === 0) this.close();
  }

  /** Takes no more questions, and ends when those that wait are answered. */
  finish(): void {
    this.#finishing = true;
    if (this.#waiting === 0) this.#end();
    else this.#stream.pauseRead();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#held = [];
    this.#io.reactor.cancelTimer(this.#timer);
    this.#stream.close();
    this.#handler.clientClosed(this);
  }

  #take(message: Uint8Array): void {
    if (this.#closed) return;
    if (this.#waiting < MAX_WAITING) return this.#ask(message);
    this.#held.push(message.slice());
    this.#stream.pauseRead();
  }

  #ask(message: Uint8Array): void {
    this.#waiting++;
    this.#io.reactor.cancelTimer(this.#timer);
    this.#handler.question(message, this);
  }

  /** When everything is answered and sent. */
  #end(): void {
    if (this.#stream.queued === 0) this.close();
    else this.#io.reactor.setTimer(this.#timer, IDLE_MS);
  }
}
