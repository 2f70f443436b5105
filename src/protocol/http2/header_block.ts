/**
 * Puts a header block together from HEADERS and CONTINUATION frames, RFC 9113 section 4.3.
 *
 * Bounded in bytes and in frames: a peer that keeps a block open (CONTINUATION flood, CVE-2024-27316 and its kin)
 * is cut off before it costs more than one request would.
 */
import type { BufferPool } from "./types.ts";

const NOTHING = new Uint8Array(0);
/** Beside what the byte limit needs at this size, so many frames may a block take. */
const BYTES_PER_FRAME = 1024;
const SPARE_FRAMES = 8;
/** A small list limit must not refuse blocks that any peer sends. */
const MIN_BLOCK_BYTES = 16_384;

export class HeaderBlock {
  /** The stream whose block is open, or 0. */
  streamId = 0;
  endStream = false;
  /** The HEADERS frame made the stream depend on itself: an error once the block is decoded. */
  selfDependent = false;
  bytes: Uint8Array = NOTHING;
  length = 0;
  /** Most bytes of one block as coded: twice the list, as Huffman coding can make a string longer. */
  readonly maxBytes: number;
  readonly #maxFrames: number;
  readonly #pool: BufferPool;
  #frames = 0;

  constructor(maxListBytes: number, pool: BufferPool) {
    this.maxBytes = Math.max(2 * maxListBytes, MIN_BLOCK_BYTES);
    this.#maxFrames = SPARE_FRAMES + Math.ceil(this.maxBytes / BYTES_PER_FRAME);
    this.#pool = pool;
  }

  open(streamId: number, endStream: boolean, selfDependent: boolean): void {
    this.streamId = streamId;
    this.endStream = endStream;
    this.selfDependent = selfDependent;
    this.length = 0;
    this.#frames = 0;
  }

  /** Adds a fragment; false when the block is past its limits. */
  append(bytes: Uint8Array, start: number, end: number): boolean {
    const needed = this.length + end - start;
    if (needed > this.maxBytes || ++this.#frames > this.#maxFrames) return false;
    if (needed > this.bytes.length) {
      const larger = this.#pool.take(Math.max(needed, 2 * this.length));
      larger.set(this.bytes.subarray(0, this.length));
      this.#giveBack();
      this.bytes = larger;
    }
    for (let i = start; i < end; i++) this.bytes[this.length++] = bytes[i];
    return true;
  }

  close(): void {
    this.streamId = 0;
    this.length = 0;
    this.#giveBack();
  }

  #giveBack(): void {
    if (this.bytes.length === 0) return;
    const buffer = this.bytes;
    this.bytes = NOTHING;
    this.#pool.give(buffer);
  }
}
