/**
 * An index from a key to every value filed under it, each value under its own id. No key is kept without values.
 *
 * Nearly every key has one value, which then stands in the map itself: a map of its own for each of 50,000 addresses would be most
 * of a mesh's memory.
 */
export class MultiIndex<Id extends string, Value extends object> {
  readonly #idOf: (value: Value) => Id;
  readonly #buckets = new Map<string, Value | Map<Id, Value>>();

  constructor(idOf: (value: Value) => Id) {
    this.#idOf = idOf;
  }

  get size(): number {
    return this.#buckets.size;
  }

  /** Files the value, in the place of an older one of its id. */
  set(key: string, value: Value): void {
    const bucket = this.#buckets.get(key);
    if (bucket === undefined) {
      this.#buckets.set(key, value);
      return;
    }
    const id = this.#idOf(value);
    if (bucket instanceof Map) bucket.set(id, value);
    else if (this.#idOf(bucket) === id) this.#buckets.set(key, value);
    else this.#buckets.set(key, new Map([[this.#idOf(bucket), bucket], [id, value]]));
  }

  delete(key: string, id: Id): void {
    const bucket = this.#buckets.get(key);
    if (bucket === undefined) return;
    if (!(bucket instanceof Map)) {
      if (this.#idOf(bucket) === id) this.#buckets.delete(key);
      return;
    }
    if (!bucket.delete(id)) return;
    if (bucket.size === 1) {
      for (const last of bucket.values()) this.#buckets.set(key, last);
    }
  }

  /** Everything filed under a key, in no order that means anything. */
  values(key: string): Iterable<Value> {
    const bucket = this.#buckets.get(key);
    if (bucket === undefined) return NOTHING;
    return bucket instanceof Map ? bucket.values() : [bucket];
  }
}

const NOTHING: readonly never[] = [];
