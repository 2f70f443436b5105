/**
 * Bytes that a socket did not take yet, in pooled chunks. Empty it holds no memory; what it holds is
 * bounded by the flow-control window of whoever fills it.
 */
import type { BufferPool } from "./buffer_pool.ts";

const CHUNK_BYTES = 16 * 1024;

interface Chunk {
  readonly bytes: Uint8Array;
  start: number;
  end: number;
}

export class ByteQueue {
  readonly #pool: BufferPool;
  #chunks: Chunk[] = [];
  #length = 0;

  constructor(pool: BufferPool) {
    this.#pool = pool;
  }

  get length(): number {
    return this.#length;
  }

  /** Copies `bytes[start, end)` to the end of the queue. */
  push(bytes: Uint8Array, start: number, end: number): void {
    this.#length += end - start;
    while (start < end) {
      let tail = this.#chunks[this.#chunks.length - 1];
      if (tail === undefined || tail.end === tail.bytes.length) {
        tail = {
          bytes: this.#pool.take(Math.max(CHUNK_BYTES, Math.min(end - start, 16 * CHUNK_BYTES))),
          start: 0,
          end: 0,
        };
        this.#chunks.push(tail);
      }
      const n = Math.min(end - start, tail.bytes.length - tail.end);
      tail.bytes.set(
        start === 0 && end === bytes.length && n === end ? bytes : bytes.subarray(start, start + n),
        tail.end,
      );
      tail.end += n;
      start += n;
    }
  }

  /**
   * Offers the queue to `write`, front first, until it takes less than it was offered. Returns the bytes taken, or the
   * negative value that `write` returned.
   */
  drain(write: (bytes: Uint8Array, start: number, end: number) => number): number {
    let taken = 0;
    while (this.#chunks.length > 0) {
      const head = this.#chunks[0];
      const n = write(head.bytes, head.start, head.end);
      if (n < 0) return taken > 0 ? taken : n;
      taken += n;
      head.start += n;
      this.#length -= n;
      if (head.start < head.end) return taken;
      this.#pool.give(head.bytes);
      this.#chunks.shift();
    }
    return taken;
  }

  /** Gives all chunks back. */
  clear(): void {
    for (const chunk of this.#chunks) this.#pool.give(chunk.bytes);
    this.#chunks = [];
    this.#length = 0;
  }
}
