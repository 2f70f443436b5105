/**
 * HPACK decoder, RFC 7541. Sans-io: one whole header block in, fields out through a sink.
 *
 * Keeps the dynamic table within its limit. Memory for a block is the block's own strings; the sink bounds the list.
 * Any failure is final for the connection (RFC 9113 4.3), because the table no longer matches the peer's.
 */
import { Buffer } from "node:buffer";
import { kindOfField, kindOfName } from "./field_kind.ts";
import {
  DEFAULT_TABLE_BYTES,
  ENTRY_OVERHEAD_BYTES,
  STATIC_COUNT,
  STATIC_NAMES,
  STATIC_VALUES,
} from "./hpack_static.ts";
import { huffmanDecode, huffmanDecodedBound } from "./huffman.ts";

export interface FieldSink {
  /** `kind` is a FieldKind. `neverIndexed`: a forwarder must not let it into a table either (RFC 7541 6.2.3). */
  field(name: string, value: string, kind: number, neverIndexed: boolean): void;
}

interface Entry {
  readonly name: string;
  readonly value: string;
  readonly nameKind: number;
  readonly kind: number;
}

/** Integers on the wire are lengths and indexes: none may need more than 28 bits. */
const MAX_INTEGER_SHIFT = 21;
const SCRATCH_BYTES = 4096;

/** Strings are put together here; the module is single-threaded and never keeps a view of it. */
let scratch: Buffer = Buffer.allocUnsafeSlow(SCRATCH_BYTES);

function staticEntry(index: number): Entry {
  const name = STATIC_NAMES[index];
  const value = Buffer.from(STATIC_VALUES[index], "latin1");
  const nameKind = kindOfName(name);
  // An entry with an empty value is there for its name; whether empty is allowed is judged like any other value.
  return { name, value: STATIC_VALUES[index], nameKind, kind: kindOfField(name, nameKind, value, value.length) };
}
const STATIC: readonly Entry[] = STATIC_NAMES.map((_, index) => staticEntry(index));

export class HpackDecoder {
  /** Why the last `decode` returned false. */
  error = "";
  #limit: number;
  #capacity: number;
  #size = 0;
  #count = 0;
  /** Ring of entries; the newest is at `#head - 1`. */
  #ring: (Entry | undefined)[];
  #mask: number;
  #head = 0;
  #bytes: Uint8Array = scratch;
  #pos = 0;
  #end = 0;
  #stringLength = 0;

  /** `tableBytes`: the SETTINGS_HEADER_TABLE_SIZE that this end announced. */
  constructor(tableBytes: number = DEFAULT_TABLE_BYTES) {
    this.#limit = tableBytes;
    this.#capacity = tableBytes;
    let slots = 8;
    while (slots * ENTRY_OVERHEAD_BYTES < tableBytes) slots *= 2;
    this.#ring = [];
    this.#mask = slots - 1;
  }

  /** Bytes the dynamic table counts, RFC 7541 section 4.1. */
  get tableBytes(): number {
    return this.#size;
  }

  get tableEntries(): number {
    return this.#count;
  }

  /** Decodes the block `bytes[start..end)`. False: a COMPRESSION_ERROR, the decoder must not be used again. */
  decode(bytes: Uint8Array, start: number, end: number, sink: FieldSink): boolean {
    this.#bytes = bytes;
    this.#pos = start;
    this.#end = end;
    const good = this.#decodeBlock(sink);
    this.#bytes = scratch;
    if (scratch.length > SCRATCH_BYTES) scratch = Buffer.allocUnsafeSlow(SCRATCH_BYTES);
    return good;
  }

  #decodeBlock(sink: FieldSink): boolean {
    let fieldSeen = false;
    while (this.#pos < this.#end) {
      const first = this.#bytes[this.#pos];
      if (first >= 0x80) {
        const index = this.#integer(7);
        if (index < 0) return false;
        const entry = this.#entry(index);
        if (entry === undefined) return this.#fail("an index outside the tables");
        sink.field(entry.name, entry.value, entry.kind, false);
        fieldSeen = true;
      } else if ((first & 0xe0) === 0x20) {
        if (fieldSeen) return this.#fail("a table size update after a field");
        const size = this.#integer(5);
        if (size < 0) return false;
        if (size > this.#limit) return this.#fail("a table size above the limit");
        this.#capacity = size;
        this.#evict(size);
      } else {
        if (!this.#literal(first, sink)) return false;
        fieldSeen = true;
      }
    }
    return true;
  }

  #literal(first: number, sink: FieldSink): boolean {
    const indexed = first >= 0x40;
    const index = this.#integer(indexed ? 6 : 4);
    if (index < 0) return false;
    let name: string;
    let nameKind: number;
    if (index === 0) {
      const read = this.#string();
      if (read === undefined) return false;
      name = read;
      nameKind = kindOfName(name);
    } else {
      const entry = this.#entry(index);
      if (entry === undefined) return this.#fail("an index outside the tables");
      name = entry.name;
      nameKind = entry.nameKind;
    }
    const value = this.#string();
    if (value === undefined) return false;
    const kind = kindOfField(name, nameKind, scratch, this.#stringLength);
    if (indexed) this.#insert({ name, value, nameKind, kind });
    sink.field(name, value, kind, (first & 0xf0) === 0x10);
    return true;
  }

  #entry(index: number): Entry | undefined {
    if (index <= STATIC_COUNT) return index === 0 ? undefined : STATIC[index];
    const age = index - STATIC_COUNT;
    return age > this.#count ? undefined : this.#ring[this.#head - age & this.#mask];
  }

  #insert(entry: Entry): void {
    const size = entry.name.length + entry.value.length + ENTRY_OVERHEAD_BYTES;
    if (size > this.#capacity) {
      // Not an error: it empties the table (RFC 7541 4.4).
      this.#evict(0);
      return;
    }
    this.#evict(this.#capacity - size);
    this.#ring[this.#head & this.#mask] = entry;
    this.#head = this.#head + 1 & 0x3fff_ffff;
    this.#count++;
    this.#size += size;
  }

  #evict(target: number): void {
    while (this.#size > target) {
      const slot = this.#head - this.#count & this.#mask;
      const entry = this.#ring[slot] as Entry;
      this.#size -= entry.name.length + entry.value.length + ENTRY_OVERHEAD_BYTES;
      this.#ring[slot] = undefined;
      this.#count--;
    }
  }

  /** RFC 7541 section 5.1. Returns -1 after noting the error. */
  #integer(prefixBits: number): number {
    const mask = (1 << prefixBits) - 1;
    let value = this.#bytes[this.#pos++] & mask;
    if (value < mask) return value;
    for (let shift = 0; shift <= MAX_INTEGER_SHIFT; shift += 7) {
      if (this.#pos >= this.#end) return this.#failInteger("an integer cut short");
      const byte = this.#bytes[this.#pos++];
      value += (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    return this.#failInteger("an integer that is too large");
  }

  /** RFC 7541 section 5.2. The string's bytes stay in `scratch[0..#stringLength)` until the next one. */
  #string(): string | undefined {
    if (this.#pos >= this.#end) return this.#failString("a string cut short");
    const huffman = this.#bytes[this.#pos] >= 0x80;
    const length = this.#integer(7);
    if (length < 0) return undefined;
    if (length > this.#end - this.#pos) return this.#failString("a string cut short");
    const start = this.#pos;
    this.#pos += length;
    const room = huffman ? huffmanDecodedBound(length) : length;
    if (room > scratch.length) scratch = Buffer.allocUnsafeSlow(room);
    const into = scratch;
    if (huffman) {
      const decoded = huffmanDecode(this.#bytes, start, this.#pos, into);
      if (decoded < 0) return this.#failString("a string with a bad Huffman code");
      this.#stringLength = decoded;
      return into.toString("latin1", 0, decoded);
    }
    const bytes = this.#bytes;
    for (let i = 0; i < length; i++) into[i] = bytes[start + i];
    this.#stringLength = length;
    return into.toString("latin1", 0, length);
  }

  #fail(error: string): false {
    this.error = `header block has ${error}`;
    return false;
  }

  #failInteger(error: string): -1 {
    this.#fail(error);
    return -1;
  }

  #failString(error: string): undefined {
    this.#fail(error);
    return undefined;
  }
}
