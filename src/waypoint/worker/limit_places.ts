/** Where the workers' counts of each cluster stand in shared memory. */
import type { ClusterName } from "../spec/mod.ts";
import { type LimitBoard, LIMITED_KINDS } from "../upstream/limits.ts";

/** Clusters in one piece of shared memory. */
export const CHUNK_SLOTS = 1024;

/** As the main thread posts it: what is new. */
export interface LimitPlaces {
  readonly slots: Readonly<Record<ClusterName, number>>;
  readonly chunks: readonly SharedArrayBuffer[];
  /** Number of the first of `chunks`. */
  readonly firstChunk: number;
}

export function chunkBytes(workers: number): number {
  return CHUNK_SLOTS * workers * LIMITED_KINDS * Int32Array.BYTES_PER_ELEMENT;
}

/** A worker's view of them. */
export class LimitBoards {
  readonly #own: number;
  readonly #workers: number;
  readonly #chunks: SharedArrayBuffer[] = [];
  readonly #slots = new Map<string, number>();

  constructor(own: number, workers: number) {
    this.#own = own;
    this.#workers = workers;
  }

  apply({ slots, chunks, firstChunk }: LimitPlaces): void {
    for (const [i, chunk] of chunks.entries()) this.#chunks[firstChunk + i] = chunk;
    for (const [name, slot] of Object.entries(slots)) this.#slots.set(name, slot);
  }

  forget(names: Iterable<string>): void {
    for (const name of names) this.#slots.delete(name);
  }

  /** This worker's first. */
  of(name: string): readonly LimitBoard[] {
    const slot = this.#slots.get(name);
    const chunk = slot === undefined ? undefined : this.#chunks[Math.floor(slot / CHUNK_SLOTS)];
    if (slot === undefined || chunk === undefined) return [];
    const board = (worker: number) => {
      const index = ((slot % CHUNK_SLOTS) * this.#workers + worker) * LIMITED_KINDS;
      return new Int32Array(chunk, index * Int32Array.BYTES_PER_ELEMENT, LIMITED_KINDS);
    };
    const others = Array.from({ length: this.#workers }, (_, worker) => worker).filter((worker) =>
      worker !== this.#own
    );
    return [board(this.#own), ...others.map(board)];
  }
}
