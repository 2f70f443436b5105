/**
 * JSON as `JSON.stringify(value, null, 2)` writes it, in pieces: a large document neither exists as a whole nor holds up the
 * thread that writes it. Lists and objects that are large are given lazily; their items are made when it is their turn.
 */

/** Among the items of a lazy list: nothing yet, but this was work. */
export const TICK: unique symbol = Symbol("tick");

/** A list whose items are made one by one. */
export class LazyArray {
  readonly items: () => Iterable<unknown>;
  constructor(items: () => Iterable<unknown>) {
    this.items = items;
  }
  /** The whole of it, for who wants that. */
  toJSON(): unknown[] {
    return [...this.items()].filter((item) => item !== TICK);
  }
}

/** An object whose entries are made one by one. */
export class LazyObject {
  readonly entries: () => Iterable<readonly [string, unknown] | typeof TICK>;
  constructor(entries: () => Iterable<readonly [string, unknown] | typeof TICK>) {
    this.entries = entries;
  }
  toJSON(): Record<string, unknown> {
    return Object.fromEntries([...this.entries()].filter((entry) => entry !== TICK));
  }
}

/** Pieces of text; some are empty. Lazy parts may stand in plain objects and lists, at any depth. */
export function* jsonPieces(value: unknown, indent = ""): Generator<string> {
  if (value instanceof LazyArray) return yield* listPieces(value.items(), indent);
  if (value instanceof LazyObject) return yield* objectPieces(value.entries(), indent);
  if (holdsLazy(value)) {
    return yield* Array.isArray(value)
      ? listPieces(value, indent)
      : objectPieces(Object.entries(value as object), indent);
  }
  const text = JSON.stringify(value, null, 2) ?? "null";
  yield indent === "" ? text : text.replaceAll("\n", `\n${indent}`);
}

function* listPieces(items: Iterable<unknown>, indent: string): Generator<string> {
  let opened = false;
  for (const item of items) {
    if (item === TICK) {
      yield "";
      continue;
    }
    yield `${opened ? "," : "["}\n${indent}  `;
    opened = true;
    yield* jsonPieces(item, `${indent}  `);
  }
  yield opened ? `\n${indent}]` : "[]";
}

function* objectPieces(entries: Iterable<readonly [string, unknown] | typeof TICK>, indent: string): Generator<string> {
  let opened = false;
  for (const entry of entries) {
    if (entry === TICK) {
      yield "";
      continue;
    }
    const [key, value] = entry;
    if (value === undefined) continue;
    yield `${opened ? "," : "{"}\n${indent}  ${JSON.stringify(key)}: `;
    opened = true;
    yield* jsonPieces(value, `${indent}  `);
  }
  yield opened ? `\n${indent}}` : "{}";
}

/** Looks two levels down, where the lazy parts of a dump are: deeper ones are in what is lazy itself. */
function holdsLazy(value: unknown, depth = 0): boolean {
  if (value instanceof LazyArray || value instanceof LazyObject) return true;
  if (depth > 2 || value === null || typeof value !== "object") return false;
  if (Object.getPrototypeOf(value) !== Object.prototype) return false;
  return Object.values(value).some((inner) => holdsLazy(inner, depth + 1));
}

const RUN = 512;

/** The items in order, with a TICK after each piece of work: 50,000 names sorted at once would take 50 ms. */
export function* sortedInSlices<T>(items: readonly T[], compare: (a: T, b: T) => number): Generator<T | typeof TICK> {
  let runs: T[][] = [];
  for (let at = 0; at < items.length; at += RUN) {
    runs.push(items.slice(at, at + RUN).sort(compare));
    yield TICK;
  }
  while (runs.length > 1) {
    const merged: T[][] = [];
    for (let i = 0; i < runs.length; i += 2) {
      const right = runs[i + 1];
      if (right === undefined) merged.push(runs[i]);
      else merged.push(yield* merge(runs[i], right, compare));
    }
    runs = merged;
  }
  yield* runs[0] ?? [];
}

function* merge<T>(
  left: readonly T[],
  right: readonly T[],
  compare: (a: T, b: T) => number,
): Generator<typeof TICK, T[]> {
  const into: T[] = [];
  let i = 0;
  let j = 0;
  while (i < left.length && j < right.length) {
    into.push(compare(left[i], right[j]) <= 0 ? left[i++] : right[j++]);
    if (into.length % RUN === 0) yield TICK;
  }
  while (i < left.length) into.push(left[i++]);
  while (j < right.length) into.push(right[j++]);
  yield TICK;
  return into;
}
