/**
 * The queue of bytes to send: one contiguous buffer from the pool, given back whenever it is empty.
 *
 * Frames are written in place at `end`; DATA payloads are received by the caller straight behind the header they
 * will travel with. Answers that a peer can provoke (`countReply`) are bounded apart from data.
 */
import type { BufferPool } from "./types.ts";
import { FRAME_HEADER_BYTES } from "./constants.ts";

const NOTHING = new Uint8Array(0);
/** First buffer of a burst; most turns of a connection need less. */
const FIRST_BYTES = 4096;

export class Output {
  bytes: Uint8Array = NOTHING;
  start = 0;
  end = 0;
  readonly #pool: BufferPool;
  /** What recent bursts needed, halving with each: the next one starts at that size and need not grow. */
  #expected = FIRST_BYTES;
  /** Bytes ever taken by the transport. */
  #sentTotal = 0;
  /** Replies queued since `#mark` was set, and those queued before it that may still be here. */
  #replies = 0;
  #olderReplies = 0;
  #mark = 0;

  constructor(pool: BufferPool) {
    this.#pool = pool;
  }

  /** Makes room for `bytes` at `end`. May move what is queued. */
  ensure(bytes: number): void {
    if (this.bytes.length - this.end < bytes) this.#makeRoom(bytes);
  }

  #makeRoom(bytes: number): void {
    const queued = this.end - this.start;
    if (this.bytes.length > 0 && queued + bytes <= this.bytes.length && queued <= this.start) {
      // Moving at most as much as was sent since the last move keeps the cost of moving below that of sending.
      this.bytes.copyWithin(0, this.start, this.end);
    } else {
      const larger = this.#pool.take(Math.max(queued + bytes, 2 * queued, this.#expected));
      if (queued > 0) larger.set(this.bytes.subarray(this.start, this.end));
      if (this.bytes.length > 0) this.#pool.give(this.bytes);
      this.bytes = larger;
    }
    this.start = 0;
    this.end = queued;
  }

  /** The transport took `bytes` from `start`. */
  sent(bytes: number): void {
    this.start += bytes;
    this.#sentTotal += bytes;
    if (this.#sentTotal >= this.#mark) {
      this.#olderReplies = this.#replies;
      this.#replies = 0;
      this.#mark = this.#sentTotal + this.end - this.start;
    }
    if (this.start >= this.end) this.release();
  }

  /** Gives the buffer back if nothing is queued. */
  release(): void {
    if (this.start < this.end || this.bytes.length === 0) return;
    const empty = this.bytes;
    this.#expected = Math.max(FIRST_BYTES, this.end, this.#expected >>> 1);
    this.bytes = NOTHING;
    this.start = 0;
    this.end = 0;
    this.#pool.give(empty);
  }

  /** Counts a reply of `bytes` and returns an upper bound of the bytes of replies that are queued. */
  countReply(bytes: number): number {
    if (this.start === this.end) {
      this.#replies = 0;
      this.#olderReplies = 0;
    }
    this.#replies += bytes;
    return this.#replies + this.#olderReplies;
  }

  /** Starts a frame of `length` payload bytes and returns where the payload goes. `end` is already behind it. */
  frame(length: number, type: number, flags: number, streamId: number): number {
    this.ensure(FRAME_HEADER_BYTES + length);
    const payload = this.end + FRAME_HEADER_BYTES;
    writeFrameHeader(this.bytes, this.end, length, type, flags, streamId);
    this.end = payload + length;
    return payload;
  }
}

/** RFC 9113 section 4.1. */
export function writeFrameHeader(
  bytes: Uint8Array,
  pos: number,
  length: number,
  type: number,
  flags: number,
  streamId: number,
): void {
  bytes[pos] = length >>> 16;
  bytes[pos + 1] = length >>> 8;
  bytes[pos + 2] = length;
  bytes[pos + 3] = type;
  bytes[pos + 4] = flags;
  writeUint32(bytes, pos + 5, streamId);
}

export function writeUint32(bytes: Uint8Array, pos: number, value: number): void {
  bytes[pos] = value >>> 24;
  bytes[pos + 1] = value >>> 16;
  bytes[pos + 2] = value >>> 8;
  bytes[pos + 3] = value;
}

export function readUint32(bytes: Uint8Array, pos: number): number {
  return (bytes[pos] << 24 | bytes[pos + 1] << 16 | bytes[pos + 2] << 8 | bytes[pos + 3]) >>> 0;
}

/** A stream id or window increment: 31 bits, the reserved bit dropped. */
export function readUint31(bytes: Uint8Array, pos: number): number {
  return (bytes[pos] & 0x7f) << 24 | bytes[pos + 1] << 16 | bytes[pos + 2] << 8 | bytes[pos + 3];
}
