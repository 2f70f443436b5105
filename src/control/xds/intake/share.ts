/**
 * Equal parts of many resources as one object: a mesh of 10,000 workloads has a few hundred namespaces, accounts, nodes and lists of
 * services. Found by their bytes, before anything is decoded.
 *
 * A cache of fixed size with two places for each hash: what is pushed out is merely decoded again, so nothing leaks when names come
 * and go for months.
 */
import type { WireReader } from "./wire.ts";

/** 16,384 places; a mesh of 50,000 workloads has some thousands of distinct texts. */
const BITS = 14;
/** Longer texts are hardly ever shared. */
const MAX_TEXT_BYTES = 128;
const MAX_PART_BYTES = 2048;

interface Part {
  readonly kind: number;
  /** A character for each byte. */
  readonly bytes: string;
  readonly value: unknown;
}

export class Shared {
  readonly #texts: (string | undefined)[] = new Array(1 << BITS).fill(undefined);
  readonly #parts: (Part | undefined)[] = new Array(1 << BITS).fill(undefined);

  /** The text that begins with its length here, up to `end` of the message; reads past it. */
  text(reader: WireReader, end: number): string {
    const stop = reader.delimited(end);
    const start = reader.pos;
    reader.pos = stop;
    if (start === stop) return "";
    if (stop - start > MAX_TEXT_BYTES) return reader.decode(start, stop);
    const first = hash(reader.bytes, start, stop, 0);
    for (let slot = first; slot <= first + 1; slot++) {
      const known = this.#texts[slot];
      if (known !== undefined && sameText(known, reader.bytes, start, stop)) return known;
    }
    const made = reader.decode(start, stop);
    this.#texts[this.#texts[first] === undefined ? first : first + 1] = made;
    return made;
  }

  /**
   * The value that `make` reads from bytes `start` to `stop`; the same object for the same bytes and kind. `make` and what it is given
   * come apart, because a closure for each of 50,000 workloads would be garbage.
   */
  part<Context, T>(
    kind: number,
    reader: WireReader,
    start: number,
    stop: number,
    make: (context: Context, stop: number) => T,
    context: Context,
  ): T {
    reader.pos = start;
    if (stop - start > MAX_PART_BYTES) return make(context, stop);
    const first = hash(reader.bytes, start, stop, kind);
    for (let slot = first; slot <= first + 1; slot++) {
      const known = this.#parts[slot];
      if (known !== undefined && known.kind === kind && sameBytes(known.bytes, reader.bytes, start, stop)) {
        return known.value as T;
      }
    }
    const part: Part = { kind, value: make(context, stop), bytes: reader.latin1(start, stop) };
    this.#parts[this.#parts[first] === undefined ? first : first + 1] = part;
    return part.value as T;
  }
}

/** FNV-1a, folded to an even place. */
function hash(bytes: Uint8Array, start: number, stop: number, seed: number): number {
  let sum = 0x811c9dc5 ^ seed;
  for (let i = start; i < stop; i++) sum = Math.imul(sum ^ bytes[i], 0x01000193);
  return (sum ^ sum >>> BITS ^ sum >>> 2 * BITS) & (1 << BITS) - 2;
}

/** Only ASCII compares equal. */
export function sameText(text: string, bytes: Uint8Array, start: number, stop: number): boolean {
  if (text.length !== stop - start) return false;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code !== bytes[start + i] || code > 0x7f) return false;
  }
  return true;
}

function sameBytes(known: string, bytes: Uint8Array, start: number, stop: number): boolean {
  if (known.length !== stop - start) return false;
  for (let i = 0; i < known.length; i++) {
    if (known.charCodeAt(i) !== bytes[start + i]) return false;
  }
  return true;
}
