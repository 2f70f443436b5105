/**
 * One ladder of byte buffers for a worker. Buffers are borrowed for as long as bytes wait in them and given back at
 * once, so an idle connection holds none; what a burst left behind is dropped again by `shrink`.
 */

/** Steps of the ladder: a record, an ordinary turn, a bulk turn, the largest frame that is announced. */
const STEPS = [16 * 1024, 80 * 1024, 320 * 1024, 1280 * 1024, 5 * 1024 * 1024] as const;
/** Idle bytes kept per step; a burst's rest is dropped by halves. */
const KEEP_BYTES = 512 * 1024;

export class BufferPool {
  readonly #free: Uint8Array[][] = STEPS.map(() => []);

  /** A buffer of at least `minBytes`, of any content. Larger than the largest step: made to measure, never kept. */
  take(minBytes: number): Uint8Array {
    for (let i = 0; i < STEPS.length; i++) {
      if (STEPS[i] >= minBytes) return this.#free[i].pop() ?? new Uint8Array(STEPS[i]);
    }
    return new Uint8Array(minBytes);
  }

  /** Takes a buffer back; its owner must hold no view of it. */
  give(buffer: Uint8Array): void {
    for (let i = 0; i < STEPS.length; i++) {
      if (STEPS[i] === buffer.length) {
        this.#free[i].push(buffer);
        return;
      }
    }
  }

  /** Drops half of what lies idle above the kept amount; called every few seconds by the worker. */
  shrink(): void {
    for (let i = 0; i < STEPS.length; i++) {
      const free = this.#free[i];
      const keep = Math.floor(KEEP_BYTES / STEPS[i]);
      if (free.length > keep) free.length = Math.max(keep, free.length >> 1);
    }
  }

  /** Bytes lying idle. */
  get idleBytes(): number {
    let bytes = 0;
    for (let i = 0; i < STEPS.length; i++) bytes += this.#free[i].length * STEPS[i];
    return bytes;
  }
}
