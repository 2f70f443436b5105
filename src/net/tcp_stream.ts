/**
 * A connected TCP socket under the reactor: reads on demand, queued writes, half-close in both directions.
 *
 * It owns the descriptor. After `close` or `abort` the sink is not called again. Level-triggered interest is kept exact: an
 * end of stream that was read, a paused reader and a hung-up peer never make the loop spin.
 */
import { EAGAIN } from "../platform/errno.ts";
import { EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP } from "../platform/epoll.ts";
import { receive, send, sendLast, setResetOnClose, shutdownWrite, takeSocketError } from "../platform/socket.ts";
import type { BufferPool } from "./buffer_pool.ts";
import { ByteQueue } from "./byte_queue.ts";
import type { EventHandler, Reactor } from "./reactor.ts";

export interface TcpSink {
  /** Bytes or the end of stream wait; call `read`. Called again in the next turn as long as something waits. */
  readable(): void;
  /** The kernel took `bytes` of what had been queued; `TcpStream.queued` tells what remains. */
  drained(bytes: number): void;
  /** The connection failed with an errno; the stream is closed already. */
  broken(code: number): void;
}

export class TcpStream implements EventHandler {
  readonly fd: number;
  readonly #reactor: Reactor;
  readonly #pool: BufferPool;
  /** Made when a socket does not take something, which most never do. */
  #queue: ByteQueue | undefined;
  #sink: TcpSink;
  #mask = 0;
  #watched = false;
  #wantsRead = false;
  #readEnded = false;
  #inReadable = false;
  #endWaits = false;
  /** `-errno` that `readOn` met. The kernel tells it once; that the socket has hung up it tells for ever. */
  #failure = 0;
  #endAfterQueue = false;
  #writeEnded = false;
  #closed = false;

  /** Takes over `fd`, which must be connected and non-blocking, and not be watched. Reading begins paused. */
  constructor(reactor: Reactor, pool: BufferPool, fd: number, sink: TcpSink) {
    this.fd = fd;
    this.#reactor = reactor;
    this.#pool = pool;
    this.#sink = sink;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** The peer's end of stream has been read. */
  get readEnded(): boolean {
    return this.#readEnded;
  }

  /** Our end of stream is sent, or will be when the queue is empty. */
  get writeEnded(): boolean {
    return this.#writeEnded || this.#endAfterQueue;
  }

  /** Our end of stream has reached the kernel. */
  get writeFlushed(): boolean {
    return this.#writeEnded;
  }

  /** Bytes that wait for the kernel. */
  get queued(): number {
    return this.#queue === undefined ? 0 : this.#queue.length;
  }

  /** Within `readable`: the end of stream is behind what `read` still gives, so that reading on until it comes takes no wait. */
  get endWaits(): boolean {
    return this.#endWaits;
  }

  setSink(sink: TcpSink): void {
    this.#sink = sink;
  }

  resumeRead(): void {
    if (this.#wantsRead || this.#readEnded || this.#closed) return;
    this.#wantsRead = true;
    this.#watch();
  }

  /** Like `resumeRead`, for a socket that probably has something to read already: it is read before it is watched. */
  readNow(): void {
    if (this.#wantsRead || this.#readEnded || this.#closed) return;
    this.#wantsRead = true;
    this.#inReadable = true;
    this.#sink.readable();
    this.#inReadable = false;
    this.#watch();
  }

  pauseRead(): void {
    if (!this.#wantsRead) return;
    this.#wantsRead = false;
    this.#watch();
  }

  /**
   * Reads into `bytes[start, end)`: the count, 0 at the end of stream (reading stops then), `-EAGAIN` when nothing waits.
   * Any other negative value is an errno, after which the caller ends the connection.
   */
  read(bytes: Uint8Array, start: number, end: number): number {
    const n = this.#failure === 0 ? receive(this.fd, bytes, start, end) : this.#failure;
    if (n === 0) {
      this.#readEnded = true;
      this.#wantsRead = false;
      if (!this.#inReadable) this.#watch();
    }
    return n;
  }

  /** Reads on behind what `read` gave. A failure waits for the next turn's `read`: what came before it goes its way first. */
  readOn(bytes: Uint8Array, start: number, end: number): number {
    const n = this.read(bytes, start, end);
    if (n >= 0 || n === -EAGAIN) return n;
    this.#failure = n;
    return -EAGAIN;
  }

  /**
   * Sends `bytes[start, end)` and queues what the kernel does not take. Returns how many bytes the kernel took now, or
   * `-errno` when the connection is broken; `drained` reports the rest later. `last`: `endWrite` or `close` follows at once, and the end
   * of stream travels with these bytes.
   */
  write(bytes: Uint8Array, start: number, end: number, last = false): number {
    let sent = 0;
    if (this.queued === 0) {
      sent = last ? sendLast(this.fd, bytes, start, end) : send(this.fd, bytes, start, end);
      if (sent === end - start) return sent;
      if (sent < 0) {
        if (sent !== -EAGAIN) return sent;
        sent = 0;
      }
    }
    this.#queue ??= new ByteQueue(this.#pool);
    this.#queue.push(bytes, start + sent, end);
    this.#watch();
    return sent;
  }

  /** Sends the end of stream once the queue is empty. */
  endWrite(): void {
    if (this.#closed || this.#writeEnded || this.#endAfterQueue) return;
    if (this.queued > 0) {
      this.#endAfterQueue = true;
      return;
    }
    this.#writeEnded = true;
    shutdownWrite(this.fd);
  }

  ready(mask: number): void {
    const queue = this.#queue;
    if ((mask & EPOLLOUT) !== 0 && queue !== undefined && queue.length > 0) {
      const taken = queue.drain((bytes, start, end) => send(this.fd, bytes, start, end));
      if (taken < 0) {
        if (taken !== -EAGAIN) return this.#break(-taken);
      } else if (taken > 0) {
        if (queue.length === 0 && this.#endAfterQueue) {
          this.#endAfterQueue = false;
          this.#writeEnded = true;
          shutdownWrite(this.fd);
        }
        this.#watch();
        this.#sink.drained(taken);
        if (this.#closed) return;
      }
    }
    if (this.#wantsRead && (mask & (EPOLLIN | EPOLLHUP | EPOLLERR)) !== 0) {
      this.#inReadable = true;
      this.#endWaits = (mask & EPOLLRDHUP) !== 0;
      this.#sink.readable();
      this.#inReadable = false;
      this.#endWaits = false;
      // The end of stream ends the interest in reading, unless it ended the whole connection already.
      if (this.#readEnded) this.#watch();
      return;
    }
    if ((mask & EPOLLERR) !== 0) return this.#break(takeSocketError(this.fd));
    if ((mask & EPOLLHUP) !== 0) {
      // Both directions ended. Unread bytes may wait for a paused reader, so the descriptor leaves the set until it resumes.
      this.#reactor.remove(this.fd);
      this.#watched = false;
    }
  }

  /** Closes in order: what is in the kernel's buffers is still delivered, what is queued here is not. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#queue?.clear();
    this.#reactor.close(this.fd);
  }

  /** Closes with a RST, so that the peer sees a failure and not an end of stream. */
  abort(): void {
    if (this.#closed) return;
    setResetOnClose(this.fd);
    this.close();
  }

  /** Hands the descriptor to another owner and forgets it. Only for a stream with nothing queued. */
  release(): number {
    this.#closed = true;
    if (this.#watched) this.#reactor.remove(this.fd);
    return this.fd;
  }

  #break(code: number): void {
    this.close();
    this.#sink.broken(code);
  }

  #watch(): void {
    if (this.#closed) return;
    const mask = (this.#wantsRead ? EPOLLIN | EPOLLRDHUP : 0) | (this.queued > 0 ? EPOLLOUT : 0);
    if (this.#watched) {
      if (mask === this.#mask) return;
      this.#mask = mask;
      this.#reactor.modify(this.fd, mask);
      return;
    }
    this.#mask = mask;
    const outcome = this.#reactor.add(this.fd, mask, this);
    if (outcome === 0) this.#watched = true;
    else this.#break(-outcome);
  }
}
