/** Byte streams and time for tests: two ends of a pipe, delivered when the test runs the turn, in pieces of its choice. */
import type { Deferred, Timer } from "../../../src/net/reactor.ts";
import type { ByteSink, ByteStream, Uint8ArrayAt } from "../../../src/waypoint/transport/byte_stream.ts";
import type { Timing } from "../../../src/waypoint/http/timing.ts";

/** A clock that the test moves, timers, and the end of a turn. */
export class TestTiming implements Timing {
  nowMs = 1000;
  readonly #timers = new Map<Timer, number>();
  #deferred: Deferred[] = [];

  setTimer(timer: Timer, delayMs: number): void {
    this.#timers.set(timer, this.nowMs + delayMs);
  }

  cancelTimer(timer: Timer): void {
    this.#timers.delete(timer);
  }

  defer(work: Deferred): void {
    if (work.deferred) return;
    work.deferred = true;
    this.#deferred.push(work);
  }

  get pending(): boolean {
    return this.#deferred.length > 0;
  }

  flush(): void {
    const works = this.#deferred;
    this.#deferred = [];
    for (const work of works) {
      work.deferred = false;
      work.flush();
    }
  }

  advance(ms: number): void {
    this.nowMs += ms;
    for (const [timer, atMs] of [...this.#timers]) {
      if (atMs > this.nowMs) continue;
      this.#timers.delete(timer);
      timer.target.expired(this.nowMs);
    }
  }
}

const ROOM = 64 * 1024;

export class MemoryStream implements ByteStream {
  other!: MemoryStream;
  peerEnded = false;
  closed = false;
  /** Bytes delivered to the sink here for which it has not given credit. */
  outstanding = 0;
  /** What the far end wrote and has not been delivered. */
  inbox: Uint8Array[] = [];
  wasReset = false;
  #sink: ByteSink | undefined;
  #endQueued = false;
  #endSent = false;
  readonly #room: { bytes: Uint8Array; at: number; end: number } = { bytes: new Uint8Array(ROOM), at: 0, end: ROOM };
  #delivering = false;

  setSink(sink: ByteSink): void {
    this.#sink = sink;
  }

  consume(bytes: number): void {
    this.outstanding -= bytes;
    if (this.outstanding < 0) throw new Error(`credit given back twice: ${this.outstanding}`);
  }

  write(bytes: Uint8Array, start: number, end: number): void {
    if (this.#endSent) throw new Error("write after the end");
    if (end > start) this.other.inbox.push(new Uint8Array(bytes.subarray(start, end)));
  }

  reserve(minBytes: number): Uint8ArrayAt {
    if (minBytes > ROOM) throw new Error(`reserve ${minBytes}`);
    return this.#room;
  }

  commit(bytes: number): void {
    this.write(this.#room.bytes, 0, bytes);
    this.#room.bytes.fill(0xee);
  }

  get queued(): number {
    return 0;
  }

  end(): void {
    if (this.#endSent) return;
    this.#endSent = true;
    this.other.#endQueued = true;
    if (this.peerEnded) this.closed = true;
  }

  reset(): void {
    this.closed = true;
    this.#endSent = true;
    this.other.wasReset = true;
  }

  /** Delivers what waits, in pieces of at most `pieceBytes`. False when there was nothing. */
  deliver(pieceBytes: number): boolean {
    if (this.#delivering) throw new Error("delivered from within a delivery");
    if (this.closed || this.#sink === undefined) return false;
    this.#delivering = true;
    try {
      const [first] = this.inbox;
      if (first !== undefined) {
        const piece = first.slice(0, pieceBytes);
        if (piece.length === first.length) this.inbox.shift();
        else this.inbox[0] = first.subarray(piece.length);
        this.outstanding += piece.length;
        this.#sink.data(piece, 0, piece.length, false);
        // A view is valid until the sink returns.
        piece.fill(0xdd);
        return true;
      }
      if (this.wasReset) {
        this.wasReset = false;
        this.closed = true;
        this.#sink.broken({ by: "peer", detail: "reset by the peer" });
        return true;
      }
      if (this.#endQueued) {
        this.#endQueued = false;
        this.peerEnded = true;
        this.#sink.data(new Uint8Array(0), 0, 0, true);
        if (this.#endSent) this.closed = true;
        return true;
      }
      return false;
    } finally {
      this.#delivering = false;
    }
  }
}

export function memoryPair(): readonly [MemoryStream, MemoryStream] {
  const [left, right] = [new MemoryStream(), new MemoryStream()];
  left.other = right;
  right.other = left;
  return [left, right];
}

/** Turns until nothing moves any more. */
export function run(timing: TestTiming, streams: readonly MemoryStream[], pieceBytes = 1 << 20): void {
  for (let idle = 0; idle < 2;) {
    let moved = false;
    for (const stream of streams) while (stream.deliver(pieceBytes)) moved = true;
    if (timing.pending) {
      timing.flush();
      moved = true;
    }
    idle = moved ? 0 : idle + 1;
  }
}
