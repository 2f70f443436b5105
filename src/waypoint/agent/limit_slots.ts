/**
 * Places in shared memory where workers count what a cluster has under way, so that a limit is the cluster's and not a worker's. Slots are numbers that
 * the main thread gives out; what stands in them is the workers' affair (upstream/limits.ts).
 */
import type { ClusterName } from "../spec/mod.ts";
import { CHUNK_SLOTS, chunkBytes, type LimitPlaces } from "../worker/limit_places.ts";

/** Connections of a removed cluster go on counting down for a while: its slot rests behind this many others. */
const RESTING_SLOTS = 1024;

export class LimitSlots {
  readonly #workers: number;
  readonly #chunks: SharedArrayBuffer[] = [];
  readonly #slots = new Map<ClusterName, number>();
  readonly #free: number[] = [];
  #next = 0;

  constructor(workers: number) {
    this.#workers = workers;
  }

  /** Slots for clusters that have none; undefined when nothing changed for a worker. */
  take(names: Iterable<ClusterName>): LimitPlaces | undefined {
    const slots: Record<ClusterName, number> = {};
    const chunks = this.#chunks.length;
    for (const name of names) {
      if (this.#slots.has(name)) continue;
      const slot = this.#free.length > RESTING_SLOTS ? this.#free.shift() as number : this.#next++;
      if (slot >= this.#chunks.length * CHUNK_SLOTS) {
        this.#chunks.push(new SharedArrayBuffer(chunkBytes(this.#workers)));
      }
      this.#slots.set(name, slot);
      slots[name] = slot;
    }
    if (Object.keys(slots).length === 0) return undefined;
    return { slots, chunks: this.#chunks.slice(chunks), firstChunk: chunks };
  }

  release(names: Iterable<ClusterName>): void {
    for (const name of names) {
      const slot = this.#slots.get(name);
      if (slot === undefined) continue;
      this.#slots.delete(name);
      this.#free.push(slot);
    }
  }

  /** For a worker that has nothing. */
  all(): LimitPlaces {
    return { slots: Object.fromEntries(this.#slots), chunks: this.#chunks, firstChunk: 0 };
  }
}
