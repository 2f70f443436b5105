/**
 * What an informer knows: the objects by name, and what changes when others come. An object that was deleted and made again under its name
 * is first deleted, then added, also when nobody saw the deletion.
 */
import type { KubeObject } from "./types.ts";
import type { WatchStep } from "./watch_lines.ts";

export interface StoreEvents<T> {
  added(object: T): void;
  updated(before: T, after: T): void;
  /** As it was last seen. */
  deleted(last: T): void;
}

/** `namespace/name`, or `name` of what has no namespace. */
export function keyOf({ metadata }: KubeObject): string {
  return metadata.namespace === undefined ? metadata.name ?? "" : `${metadata.namespace}/${metadata.name}`;
}

export class ObjectStore<T extends KubeObject> {
  readonly #objects = new Map<string, T>();
  readonly #events: StoreEvents<T>;

  constructor(events: StoreEvents<T>) {
    this.#events = events;
  }

  get(key: string): T | undefined {
    return this.#objects.get(key);
  }

  list(): readonly T[] {
    return [...this.#objects.values()];
  }

  /** Everything there is, from a list. Deletions come first: an address may have changed hands. */
  replace(objects: readonly T[]): void {
    const wanted = new Map(objects.map((object) => [keyOf(object), object]));
    for (const [key, object] of [...this.#objects]) {
      const next = wanted.get(key);
      if (next === undefined || isOther(object, next)) this.#delete(key, object);
    }
    for (const object of wanted.values()) this.#put(object);
  }

  apply(step: Extract<WatchStep, { readonly object: unknown }>): void {
    const object = step.object as T;
    if (step.kind !== "deleted") return this.#put(object);
    const key = keyOf(object);
    const known = this.#objects.get(key);
    if (known === undefined) return;
    this.#delete(key, isOther(known, object) ? known : object);
  }

  #put(object: T): void {
    withoutNoise(object);
    const key = keyOf(object);
    let before = this.#objects.get(key);
    if (before !== undefined && isOther(before, object)) {
      this.#delete(key, before);
      before = undefined;
    }
    if (before !== undefined && before.metadata.resourceVersion === object.metadata.resourceVersion) return;
    this.#objects.set(key, object);
    if (before === undefined) this.#events.added(object);
    else this.#events.updated(before, object);
  }

  #delete(key: string, last: T): void {
    this.#objects.delete(key);
    this.#events.deleted(last);
  }
}

function isOther(a: KubeObject, b: KubeObject): boolean {
  return a.metadata.uid !== b.metadata.uid;
}

/** Who changed which field is often half of an object, and nobody asks. */
function withoutNoise(object: KubeObject): void {
  delete (object.metadata as { managedFields?: unknown }).managedFields;
}
