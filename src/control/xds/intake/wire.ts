/**
 * Protobuf's wire format (protobuf.dev/programming-guides/encoding), read in place. Nothing is copied or allocated but what a
 * caller keeps: measured, a message object per resource costs four times the time and garbage.
 *
 * Strict where a lenient reader would have to guess: a message that ends early, a field of the wrong wire type, groups and text that
 * is no UTF-8 are refused, and so is a second occurrence of a message that may be there once (`once`).
 */
import { Buffer } from "node:buffer";

/** A resource that cannot be used; the text says what is wrong with it. */
export class Unreadable extends Error {
  override readonly name = "Unreadable";
}

export const VARINT = 0;
const FIXED64 = 1;
export const BYTES = 2;
const FIXED32 = 5;

/** A varint has at most ten bytes. */
const MAX_VARINT_BYTES = 10;
/** Of 32 bits, four are in the fifth byte. */
const MAX_VARINT32_BYTES = 5;
const MAX_LAST_BITS = 0x0f;

const NO_BYTES = new Uint8Array(0);
const NO_TEXT = Buffer.alloc(0);
const scratch = Buffer.alloc(15);
const DOT = 46;
const ZERO = 48;
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** A cursor over one buffer. `from` begins a message; nested messages are read with an end of their own. */
export class WireReader {
  bytes: Uint8Array = NO_BYTES;
  pos = 0;
  /** Of the tag read last. */
  field = 0;
  wireType = 0;
  /** Where the tag read last began. */
  tagStart = 0;
  #text: Buffer = NO_TEXT;

  /** Begins at the first byte of `bytes`, which must stay as they are while they are read. */
  from(bytes: Uint8Array): void {
    if (this.bytes.buffer !== bytes.buffer) this.#text = Buffer.from(bytes.buffer);
    this.bytes = bytes;
    this.pos = 0;
  }

  /** Lets go of the buffer. */
  release(): void {
    this.bytes = NO_BYTES;
    this.#text = NO_TEXT;
  }

  /** Reads the next tag of a message that ends at `end`; false at its end. */
  next(end: number): boolean {
    if (this.pos >= end) {
      if (this.pos > end) throw new Unreadable("malformed: a field is longer than its message");
      return false;
    }
    this.tagStart = this.pos;
    const tag = this.#whole32("a tag");
    this.field = tag >>> 3;
    this.wireType = tag & 7;
    if (this.field === 0) throw new Unreadable("malformed: a field without a number");
    return true;
  }

  /** The low 32 bits of a varint, as protobuf reads every shorter type. */
  uint32(): number {
    const { bytes } = this;
    let byte = bytes[this.pos++];
    if (byte < 0x80) return byte;
    let value = byte & 0x7f;
    for (let shift = 7; shift < 7 * MAX_VARINT_BYTES; shift += 7) {
      byte = bytes[this.pos++];
      if (byte === undefined) break;
      // Shifts of 32 and more come round in JavaScript; those bits are the high ones, which nobody asked for.
      if (shift < 32) value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value >>> 0;
    }
    throw new Unreadable("malformed: a number that does not end");
  }

  /** A varint of which no bit may be lost: tags and lengths. */
  #whole32(what: string): number {
    const start = this.pos;
    const value = this.uint32();
    const bytes = this.pos - start;
    if (bytes > MAX_VARINT32_BYTES || (bytes === MAX_VARINT32_BYTES && this.bytes[this.pos - 1] > MAX_LAST_BITS)) {
      throw new Unreadable(`malformed: ${what} of more than 32 bits`);
    }
    return value;
  }

  varint(): number {
    if (this.wireType !== VARINT) throw new Unreadable(`malformed: field ${this.field} has wire type ${this.wireType}`);
    return this.uint32();
  }

  /** True for any bit of 64. */
  flag(): boolean {
    if (this.wireType !== VARINT) throw new Unreadable(`malformed: field ${this.field} has wire type ${this.wireType}`);
    const { bytes } = this;
    let value = 0;
    for (let i = 0; i < MAX_VARINT_BYTES; i++) {
      const byte = bytes[this.pos++];
      if (byte === undefined) break;
      value |= byte & 0x7f;
      if (byte < 0x80) return value !== 0;
    }
    throw new Unreadable("malformed: a number that does not end");
  }

  /** Where the length-delimited value that begins here ends. The caller moves `pos` there. `end`: of the message around it. */
  delimited(end: number): number {
    if (this.wireType !== BYTES) throw new Unreadable(`malformed: field ${this.field} has wire type ${this.wireType}`);
    const length = this.#whole32("a length");
    const stop = this.pos + length;
    if (stop > end) throw new Unreadable(`malformed: field ${this.field} is longer than its message`);
    return stop;
  }

  /** A text; reads past it. */
  text(end: number): string {
    const stop = this.delimited(end);
    const start = this.pos;
    this.pos = stop;
    return this.decode(start, stop);
  }

  /** A byte string as a view, valid as long as the buffer; reads past it. */
  view(end: number): Uint8Array {
    const stop = this.delimited(end);
    const start = this.pos;
    this.pos = stop;
    return this.bytes.subarray(start, stop);
  }

  /** Text from bytes `start` to `stop` of the buffer. */
  decode(start: number, stop: number): string {
    const { bytes } = this;
    for (let i = start; i < stop; i++) {
      if (bytes[i] < 0x80) continue;
      try {
        return decoder.decode(bytes.subarray(start, stop));
      } catch {
        throw new Unreadable("malformed: text that is not UTF-8");
      }
    }
    return this.latin1(start, stop);
  }

  /** Text of the IPv4 address in the four bytes from `start`, made in one piece: concatenated text takes twice the memory. */
  ipv4(start: number): string {
    let length = 0;
    for (let i = start; i < start + 4; i++) {
      if (i > start) scratch[length++] = DOT;
      const byte = this.bytes[i];
      if (byte >= 100) scratch[length++] = ZERO + (byte / 100 | 0);
      if (byte >= 10) scratch[length++] = ZERO + (byte / 10 | 0) % 10;
      scratch[length++] = ZERO + byte % 10;
    }
    return scratch.toString("latin1", 0, length);
  }

  /** A character for each byte. */
  latin1(start: number, stop: number): string {
    const offset = this.bytes.byteOffset;
    return this.#text.toString("latin1", offset + start, offset + stop);
  }

  /** Reads past a field that nobody asked for. */
  skip(end: number): void {
    switch (this.wireType) {
      case VARINT:
        this.uint32();
        break;
      case FIXED64:
        this.pos += 8;
        break;
      case BYTES:
        this.pos = this.delimited(end);
        break;
      case FIXED32:
        this.pos += 4;
        break;
      default:
        throw new Unreadable(`malformed: field ${this.field} has wire type ${this.wireType}`);
    }
  }
}

/** Refuses a second message where one may be: whether the two are merged or one wins would be a guess. */
export function once(seen: boolean, what: string): true {
  if (seen) throw new Unreadable(`malformed: ${what} is there twice`);
  return true;
}

/** A value of an enum by number. */
export function enumName<T>(names: readonly T[], value: number, what: string): T {
  if (value < names.length) return names[value];
  throw new Unreadable(`${what} ${value | 0} is not known to this version`);
}

/** A port that fits; 0 is taken, it often has a meaning of its own. */
export function portNumber(value: number, what: string): number {
  if (value > 65_535) throw new Unreadable(`${what} ${value} is above 65535`);
  return value;
}

/** How text that came from outside reads in a reason: quoted and short. */
export function quote(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);
}
