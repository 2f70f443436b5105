/**
 * HPACK encoder, RFC 7541. Sans-io: a flat field list in, one header block out, written in place.
 *
 * A field that repeats costs one or two bytes and one map look-up. Its table mirrors the peer's decoder exactly, within
 * the lesser of the peer's limit and ours. Secrets never enter a table: a proxy mixes clients on one connection, and
 * a shared table would let one client guess another's (RFC 7541 7.1).
 */
import type { Fields } from "./types.ts";
import {
  DEFAULT_TABLE_BYTES,
  ENTRY_OVERHEAD_BYTES,
  STATIC_COUNT,
  STATIC_NAMES,
  STATIC_VALUES,
} from "./hpack_static.ts";
import { huffmanEncode, huffmanEncodedLength } from "./huffman.ts";

/** Fields that authenticate somebody. */
const NEVER_INDEXED: ReadonlySet<string> = new Set([
  "authorization",
  "cookie",
  "proxy-authorization",
  "set-cookie",
]);

/** Fields whose value hardly ever repeats: in the table they would only push out those that do. */
const VOLATILE: ReadonlySet<string> = new Set([
  ":path",
  "age",
  "content-length",
  "content-range",
  "etag",
  "expires",
  "forwarded",
  "if-match",
  "if-modified-since",
  "if-none-match",
  "last-modified",
  "location",
  "range",
  "traceparent",
  "tracestate",
  "x-b3-spanid",
  "x-b3-traceid",
  "x-forwarded-for",
  "x-request-id",
]);

/** A name whose values missed the table more often than this without a hit for every fourth is treated as volatile. */
const PATIENCE_MISSES = 16;
/** Names a caller may mark as sensitive; past this nothing enters the table any more. */
const MAX_SENSITIVE_NAMES = 64;
/** Most bytes the representation adds to a field: a type and index, and two lengths. */
const FIELD_OVERHEAD_BYTES = 16;
/** Two table size updates. */
const BLOCK_OVERHEAD_BYTES = 12;

interface StaticName {
  readonly index: number;
  readonly values: ReadonlyMap<string, number>;
}

function indexStaticTable(): ReadonlyMap<string, StaticName> {
  const names = new Map<string, { index: number; values: Map<string, number> }>();
  for (let index = 1; index <= STATIC_COUNT; index++) {
    const name = STATIC_NAMES[index];
    const known = names.get(name) ?? { index, values: new Map<string, number>() };
    if (STATIC_VALUES[index] !== "") known.values.set(STATIC_VALUES[index], index);
    names.set(name, known);
  }
  return names;
}
const STATIC: ReadonlyMap<string, StaticName> = indexStaticTable();

/** What the dynamic table holds under one name; present only while it holds something. */
interface DynamicName {
  /** Value to the running number of its entry. */
  readonly values: Map<string, number>;
  newest: number;
  hits: number;
  misses: number;
}

interface Entry {
  readonly name: string;
  readonly value: string;
  readonly owner: DynamicName;
}

export class HpackEncoder {
  readonly #limit: number;
  #capacity: number;
  #size = 0;
  /** Entries ever inserted; entry number n has index STATIC_COUNT + 1 + #inserted - n. */
  #inserted = 0;
  #oldest = 1;
  readonly #names = new Map<string, DynamicName>();
  readonly #ring: (Entry | undefined)[] = [];
  readonly #mask: number;
  readonly #sensitive = new Set<string>();
  #indexing = true;
  /** Size updates due at the start of the next block; -1 is none. */
  #lowestUpdate = -1;
  #lastUpdate = -1;

  /** `limitBytes`: the most this end keeps, whatever the peer allows. */
  constructor(limitBytes: number = DEFAULT_TABLE_BYTES) {
    this.#limit = limitBytes;
    this.#capacity = Math.min(limitBytes, DEFAULT_TABLE_BYTES);
    let slots = 8;
    while (slots * ENTRY_OVERHEAD_BYTES < limitBytes) slots *= 2;
    this.#mask = slots - 1;
  }

  get tableBytes(): number {
    return this.#size;
  }

  /** Applies the peer's SETTINGS_HEADER_TABLE_SIZE. */
  setPeerLimit(bytes: number): void {
    const capacity = Math.min(bytes, this.#limit);
    if (capacity === this.#capacity && this.#lastUpdate < 0) return;
    this.#capacity = capacity;
    this.#lowestUpdate = this.#lowestUpdate < 0 ? capacity : Math.min(this.#lowestUpdate, capacity);
    this.#lastUpdate = capacity;
    this.#evict(capacity);
  }

  /** Fields of this name are sent as never indexed from now on: for a forwarder that received them so. */
  markSensitive(name: string): void {
    if (this.#sensitive.size < MAX_SENSITIVE_NAMES) this.#sensitive.add(name);
    else if (!this.#sensitive.has(name)) this.#indexing = false;
  }

  /** Room that `encode` needs for `fields`. */
  bound(fields: Fields): number {
    let bytes = BLOCK_OVERHEAD_BYTES;
    for (let i = 0; i < fields.length; i++) bytes += fields[i].length;
    return bytes + (fields.length >>> 1) * FIELD_OVERHEAD_BYTES;
  }

  /** Writes the block at `out[pos..]`, which must have `bound(fields)` of room; returns the position after it. */
  encode(fields: Fields, out: Uint8Array, pos: number): number {
    if (this.#lastUpdate >= 0) {
      if (this.#lowestUpdate < this.#lastUpdate) pos = writeInteger(out, pos, 0x20, 5, this.#lowestUpdate);
      pos = writeInteger(out, pos, 0x20, 5, this.#lastUpdate);
      this.#lowestUpdate = -1;
      this.#lastUpdate = -1;
    }
    for (let i = 0; i + 1 < fields.length; i += 2) pos = this.#encodeField(fields[i], fields[i + 1], out, pos);
    return pos;
  }

  #encodeField(name: string, value: string, out: Uint8Array, pos: number): number {
    const fixed = STATIC.get(name);
    if (fixed !== undefined) {
      const whole = fixed.values.get(value);
      if (whole !== undefined) {
        out[pos] = 0x80 | whole;
        return pos + 1;
      }
    }
    if (NEVER_INDEXED.has(name) || (this.#sensitive.size > 0 && this.#sensitive.has(name)) || !this.#indexing) {
      return writeLiteral(out, pos, 0x10, fixed === undefined ? 0 : fixed.index, name, value);
    }
    const known = this.#names.get(name);
    if (known !== undefined) {
      const number = known.values.get(value);
      if (number !== undefined) {
        known.hits++;
        return writeInteger(out, pos, 0x80, 7, STATIC_COUNT + 1 + this.#inserted - number);
      }
      known.misses++;
    }
    let nameIndex = 0;
    if (fixed !== undefined) nameIndex = fixed.index;
    else if (known !== undefined) nameIndex = STATIC_COUNT + 1 + this.#inserted - known.newest;
    const size = name.length + value.length + ENTRY_OVERHEAD_BYTES;
    const varies = known !== undefined && known.misses > PATIENCE_MISSES && known.hits < known.misses * 4;
    // One entry may take a quarter of the table, no more: a single huge value must not empty it.
    if (varies || size > this.#capacity >>> 2 || VOLATILE.has(name)) {
      return writeLiteral(out, pos, 0x00, nameIndex, name, value);
    }
    pos = writeIndexedLiteral(out, pos, nameIndex, name, value);
    this.#insert(name, value, size);
    return pos;
  }

  #insert(name: string, value: string, size: number): void {
    this.#evict(this.#capacity - size);
    let owner = this.#names.get(name);
    if (owner === undefined) {
      owner = { values: new Map(), newest: 0, hits: 0, misses: 0 };
      this.#names.set(name, owner);
    }
    const number = ++this.#inserted;
    owner.newest = number;
    owner.values.set(value, number);
    this.#ring[number & this.#mask] = { name, value, owner };
    this.#size += size;
  }

  #evict(target: number): void {
    while (this.#size > target) {
      const slot = this.#oldest & this.#mask;
      const entry = this.#ring[slot] as Entry;
      this.#ring[slot] = undefined;
      this.#oldest++;
      this.#size -= entry.name.length + entry.value.length + ENTRY_OVERHEAD_BYTES;
      entry.owner.values.delete(entry.value);
      if (entry.owner.values.size === 0) this.#names.delete(entry.name);
    }
  }
}

/** RFC 7541 section 5.1. */
function writeInteger(out: Uint8Array, pos: number, type: number, prefixBits: number, value: number): number {
  const mask = (1 << prefixBits) - 1;
  if (value < mask) {
    out[pos] = type | value;
    return pos + 1;
  }
  out[pos++] = type | mask;
  value -= mask;
  while (value >= 0x80) {
    out[pos++] = value & 0x7f | 0x80;
    value >>>= 7;
  }
  out[pos] = value;
  return pos + 1;
}

/** A field that does not enter the table. Sent raw: it will be coded again each time, and time costs more than bytes. */
function writeLiteral(out: Uint8Array, pos: number, type: number, index: number, name: string, value: string): number {
  pos = writeInteger(out, pos, type, 4, index);
  if (index === 0) pos = writeRaw(out, pos, name);
  return writeRaw(out, pos, value);
}

/** A field that enters the table. Sent once, so in its shortest form. */
function writeIndexedLiteral(out: Uint8Array, pos: number, index: number, name: string, value: string): number {
  pos = writeInteger(out, pos, 0x40, 6, index);
  if (index === 0) pos = writeShortest(out, pos, name);
  return writeShortest(out, pos, value);
}

function writeShortest(out: Uint8Array, pos: number, text: string): number {
  const coded = huffmanEncodedLength(text);
  if (coded >= text.length) return writeRaw(out, pos, text);
  return huffmanEncode(text, out, writeInteger(out, pos, 0x80, 7, coded));
}

function writeRaw(out: Uint8Array, pos: number, text: string): number {
  const length = text.length;
  pos = writeInteger(out, pos, 0x00, 7, length);
  for (let i = 0; i < length; i++) out[pos + i] = text.charCodeAt(i);
  return pos + length;
}
