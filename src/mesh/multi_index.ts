/** An index from a key to every value filed under it, each value under its own id. No key is kept without values. */
export class MultiIndex<Id extends string, Value> {
  readonly #buckets = new Map<string, Map<Id, Value>>();

  set(key: string, id: Id, value: Value): void {
    const bucket = this.#buckets.get(key);
    if (bucket === undefined) this.#buckets.set(key, new Map([[id, value]]));
    else bucket.set(id, value);
  }

  delete(key: string, id: Id): void {
    const bucket = this.#buckets.get(key);
    if (bucket?.delete(id) && bucket.size === 0) this.#buckets.delete(key);
  }

  get(key: string): ReadonlyMap<Id, Value> | undefined {
    return this.#buckets.get(key);
  }
}
