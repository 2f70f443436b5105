/**
 * A CPU profile as pprof's `profile.proto` (github.com/google/pprof), which `go tool pprof` and most profile viewers read.
 * Sans-io; the file is gzip'd by whoever sends it.
 */

export interface PprofThread {
  /** Becomes the label `thread`, and the outermost frame. */
  readonly name: string;
  readonly nodes: readonly PprofNode[];
}

export interface PprofNode {
  /** Index in the same list; -1: none. */
  readonly parent: number;
  readonly name: string;
  readonly url: string;
  /** Counts from 1; 0: unknown. */
  readonly line: number;
  /** In the function itself. */
  readonly cpuNs: number;
}

export interface PprofSettings {
  /** Milliseconds since the epoch. */
  readonly startMs: number;
  readonly durationMs: number;
  readonly periodNs: number;
}

/** No real stack is deeper; a list that refers to itself ends here. */
const MAX_DEPTH = 512;

export function encodePprof(threads: readonly PprofThread[], settings: PprofSettings): Uint8Array {
  const strings = new Table([""]);
  const functions = new Map<string, number>();
  const functionBytes: Uint8Array[] = [];
  const locationBytes: Uint8Array[] = [];

  /** One location a function: its own line is all that is known of where in it a sample was taken. */
  function locationOf(name: string, url: string, line: number): number {
    const key = `${name}\0${url}\0${line}`;
    const known = functions.get(key);
    if (known !== undefined) return known;
    const id = functions.size + 1;
    functions.set(key, id);
    const nameIndex = strings.add(name);
    functionBytes.push(
      new Writer().uint(1, id).uint(2, nameIndex).uint(3, nameIndex).uint(4, strings.add(url)).uint(5, line).finish(),
    );
    const lineBytes = new Writer().uint(1, id).uint(2, line).finish();
    locationBytes.push(new Writer().uint(1, id).uint(2, 1).bytes(4, lineBytes).finish());
    return id;
  }

  const out = new Writer();
  const valueType = (type: string, unit: string) =>
    new Writer().uint(1, strings.add(type)).uint(2, strings.add(unit)).finish();
  out.bytes(1, valueType("samples", "count")).bytes(1, valueType("cpu", "nanoseconds"));
  const threadKey = strings.add("thread");
  for (const { name, nodes } of threads) {
    const root = locationOf(`[${name}]`, "", 0);
    const label = new Writer().uint(1, threadKey).uint(2, strings.add(name)).finish();
    for (const node of nodes) {
      if (node.cpuNs <= 0) continue;
      const stack: number[] = [];
      for (let at: PprofNode | undefined = node; at !== undefined && stack.length < MAX_DEPTH; at = nodes[at.parent]) {
        if (at.name !== "(root)") stack.push(locationOf(at.name, at.url, at.line));
      }
      stack.push(root);
      const count = Math.max(1, Math.round(node.cpuNs / settings.periodNs));
      out.bytes(2, new Writer().packed(1, stack).packed(2, [count, node.cpuNs]).bytes(3, label).finish());
    }
  }
  const program = strings.add("ambit");
  // The mapping says that functions, files and lines are known, so that nobody looks for a binary.
  out.bytes(3, new Writer().uint(1, 1).uint(5, program).uint(7, 1).uint(8, 1).uint(9, 1).finish());
  for (const location of locationBytes) out.bytes(4, location);
  for (const entry of functionBytes) out.bytes(5, entry);
  const period = valueType("cpu", "nanoseconds");
  for (const text of strings.items) out.bytes(6, new TextEncoder().encode(text));
  return out.uint(9, Math.round(settings.startMs * 1e6)).uint(10, Math.round(settings.durationMs * 1e6))
    .bytes(11, period).uint(12, Math.round(settings.periodNs)).finish();
}

class Table {
  readonly items: string[];
  readonly #index = new Map<string, number>();
  constructor(items: readonly string[]) {
    this.items = [];
    for (const item of items) this.add(item);
  }
  add(text: string): number {
    let index = this.#index.get(text);
    if (index === undefined) {
      index = this.items.push(text) - 1;
      this.#index.set(text, index);
    }
    return index;
  }
}

/** The few wire types of protobuf that a profile has. */
class Writer {
  #buffer = new Uint8Array(64);
  #length = 0;

  /** A field of wire type 0; 0 is left out, as proto3 does. */
  uint(field: number, value: number): this {
    if (value === 0) return this;
    this.#varint(field << 3);
    this.#varint(value);
    return this;
  }

  bytes(field: number, value: Uint8Array): this {
    this.#varint((field << 3) | 2);
    this.#varint(value.length);
    this.#reserve(value.length);
    this.#buffer.set(value, this.#length);
    this.#length += value.length;
    return this;
  }

  packed(field: number, values: readonly number[]): this {
    const inner = new Writer();
    for (const value of values) inner.#varint(value);
    return this.bytes(field, inner.finish());
  }

  finish(): Uint8Array {
    return this.#buffer.subarray(0, this.#length);
  }

  /** Up to 2^53; times in nanoseconds since the epoch lose their last bits, which nobody reads. */
  #varint(value: number): void {
    this.#reserve(10);
    let rest = BigInt(Math.max(0, Math.round(value)));
    while (rest > 127n) {
      this.#buffer[this.#length++] = Number(rest & 127n) | 128;
      rest >>= 7n;
    }
    this.#buffer[this.#length++] = Number(rest);
  }

  #reserve(more: number): void {
    if (this.#length + more <= this.#buffer.length) return;
    const grown = new Uint8Array(Math.max(this.#buffer.length * 2, this.#length + more));
    grown.set(this.#buffer.subarray(0, this.#length));
    this.#buffer = grown;
  }
}
