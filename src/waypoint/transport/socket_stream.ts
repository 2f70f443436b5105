/**
 * A TCP connection as a byte stream. What a turn writes in small pieces goes out at its end, in one call; large pieces go at once. Reading stops while
 * the sink holds back credit for a whole window.
 */
import { describeErrno, EAGAIN, ECONNRESET, EPIPE } from "../../platform/errno.ts";
import type { IoContext } from "../../net/io_context.ts";
import type { Deferred } from "../../net/reactor.ts";
import { type TcpSink, TcpStream } from "../../net/tcp_stream.ts";
import { type ByteSink, HIGH_WATER_BYTES, type Uint8ArrayAt } from "./byte_stream.ts";
import { NOTHING, type OwnedStream, Room } from "./owned_stream.ts";

/** Unread bytes that a sink may hold: as much as a tunnel's stream may have queued. */
const WINDOW_BYTES = 2 * HIGH_WATER_BYTES;
/** What is put together before it is sent. */
const GATHER_BYTES = 16 * 1024;

export class SocketStream implements OwnedStream, TcpSink, Deferred {
  deferred = false;
  whenOver: (() => void) | undefined;
  peerEnded = false;
  readonly #io: IoContext;
  readonly #tcp: TcpStream;
  readonly #room = new Room();
  #sink: ByteSink | undefined;
  /** Bytes given to the sink that it has not consumed. */
  #held = 0;
  #isPaused = false;
  /** Small pieces that wait for the end of the turn. */
  #gathered: Uint8Array = NOTHING;
  #gatheredBytes = 0;
  #isFull = false;
  #isEnding = false;
  #isOver = false;
  /** errno that a send came back with: told at the end of the turn. */
  #failure = 0;

  /** Takes over a connected descriptor. Reading begins when there is a sink. */
  constructor(io: IoContext, fd: number) {
    this.#io = io;
    this.#tcp = new TcpStream(io.reactor, io.pool, fd, this);
  }

  setSink(sink: ByteSink): void {
    this.#sink = sink;
    if (!this.#isPaused && !this.peerEnded && !this.#isOver) this.#tcp.resumeRead();
  }

  get closed(): boolean {
    return this.#isOver;
  }

  // ---- in

  readable(): void {
    const bytes = this.#io.readBuffer;
    let filled = 0;
    let n = this.#tcp.read(bytes, 0, bytes.length);
    if (n > 0) filled = n;
    // The end is known to be there: it travels with the last bytes.
    while (n > 0 && filled < bytes.length && this.#tcp.endWaits) {
      n = this.#tcp.read(bytes, filled, bytes.length);
      if (n > 0) filled += n;
    }
    const ended = n === 0;
    this.#held += filled;
    if (this.#held >= WINDOW_BYTES && !ended) this.#pause();
    if (ended) this.peerEnded = true;
    if (filled > 0 || ended) this.#sink?.data(bytes, 0, filled, ended);
    if (n < 0 && n !== -EAGAIN) this.#break(-n);
    else if (ended) this.#checkOver();
  }

  #pause(): void {
    this.#isPaused = true;
    this.#tcp.pauseRead();
  }

  consume(bytes: number): void {
    this.#held -= bytes;
    if (!this.#isPaused || this.#held * 2 > WINDOW_BYTES || this.#isOver) return;
    this.#isPaused = false;
    this.#tcp.resumeRead();
  }

  // ---- out

  get queued(): number {
    return this.#gatheredBytes + this.#tcp.queued;
  }

  write(bytes: Uint8Array, start: number, end: number): void {
    const size = end - start;
    if (this.#isEnding || this.#isOver || size <= 0) return;
    if (this.#gatheredBytes + size <= GATHER_BYTES) {
      this.#roomFor(size);
      this.#gathered.set(start === 0 && end === bytes.length ? bytes : bytes.subarray(start, end), this.#gatheredBytes);
      return this.#gather(size);
    }
    this.#sendGathered(false);
    this.#send(bytes, start, end, false);
  }

  reserve(minBytes: number): Uint8ArrayAt {
    this.#roomFor(minBytes);
    return this.#room.set(this.#gathered, this.#gatheredBytes, this.#gathered.length);
  }

  commit(bytes: number): void {
    this.#room.set(NOTHING, 0, 0);
    if (!this.#isEnding && !this.#isOver) this.#gather(bytes);
  }

  #roomFor(bytes: number): void {
    if (this.#gathered.length - this.#gatheredBytes >= bytes) return;
    this.#sendGathered(false);
    if (this.#gathered.length >= bytes) return;
    if (this.#gathered.length > 0) this.#io.pool.give(this.#gathered);
    this.#gathered = this.#io.pool.take(Math.max(bytes, GATHER_BYTES));
  }

  #gather(bytes: number): void {
    this.#gatheredBytes += bytes;
    if (this.queued >= HIGH_WATER_BYTES) this.#isFull = true;
    this.#io.reactor.defer(this);
  }

  #sendGathered(last: boolean): void {
    const bytes = this.#gatheredBytes;
    this.#gatheredBytes = 0;
    if (bytes > 0) this.#send(this.#gathered, 0, bytes, last);
  }

  #send(bytes: Uint8Array, start: number, end: number, last: boolean): void {
    if (this.#failure !== 0 || this.#isOver) return;
    const n = this.#tcp.write(bytes, start, end, last);
    if (n < 0) {
      this.#failure = -n;
      this.#io.reactor.defer(this);
    } else if (this.queued >= HIGH_WATER_BYTES) {
      this.#isFull = true;
    }
  }

  flush(): void {
    if (this.#isOver) return;
    this.#sendGathered(this.#isEnding);
    if (this.#gathered.length > 0) {
      this.#io.pool.give(this.#gathered);
      this.#gathered = NOTHING;
    }
    if (this.#failure !== 0) return this.#break(this.#failure);
    if (this.#isEnding) {
      this.#tcp.endWrite();
      this.#checkOver();
    } else {
      this.#checkRoom();
    }
  }

  drained(): void {
    this.#checkRoom();
    this.#checkOver();
  }

  #checkRoom(): void {
    if (!this.#isFull || this.queued >= HIGH_WATER_BYTES) return;
    this.#isFull = false;
    this.#sink?.writable();
  }

  // ---- its end

  end(): void {
    if (this.#isEnding || this.#isOver) return;
    this.#isEnding = true;
    this.#io.reactor.defer(this);
  }

  reset(): void {
    this.#sink = undefined;
    if (this.#isOver) return;
    this.#tcp.abort();
    this.#over();
  }

  broken(code: number): void {
    this.#break(code);
  }

  #break(code: number): void {
    if (this.#isOver) return;
    const sink = this.#sink;
    this.#sink = undefined;
    this.#tcp.close();
    this.#over();
    const isPeer = code === ECONNRESET || code === EPIPE;
    sink?.broken({ by: isPeer ? "peer" : "transport", detail: describeErrno(code) });
  }

  /** Both ends of stream have passed. */
  #checkOver(): void {
    if (this.#isOver || !this.peerEnded || !this.#tcp.writeFlushed) return;
    this.#tcp.close();
    this.#over();
  }

  #over(): void {
    this.#isOver = true;
    if (this.#gathered.length > 0) this.#io.pool.give(this.#gathered);
    this.#gathered = NOTHING;
    this.#gatheredBytes = 0;
    this.whenOver?.();
  }
}
