/**
 * Protobuf's wire format, as much of it as a worker needs (protobuf.dev/programming-guides/encoding): a worker does not load the generated code, which
 * would cost it more memory than the rest of its code.
 *
 * The reader is strict: what is cut off, uses groups, or has another wire type than its field is an error. Unknown fields are skipped.
 */
import { Buffer } from "node:buffer";

export const VARINT = 0;
export const FIXED64 = 1;
export const BYTES = 2;
const FIXED32 = 5;

export class ProtoWriter {
  #bytes: Buffer;
  #at = 0;

  constructor(sizeBytes = 256) {
    this.#bytes = Buffer.allocUnsafeSlow(sizeBytes);
  }

  /** Zero is not written: it is the value of a field that is not there. */
  varint(field: number, value: number): void {
    if (value === 0) return;
    this.#room(20);
    this.#varint(field * 8 + VARINT);
    this.#varint(value);
  }

  /** An int64 that may be negative, such as a size that is not known. */
  int64(field: number, value: number): void {
    if (value >= 0) return this.varint(field, value);
    this.#room(20);
    this.#varint(field * 8 + VARINT);
    let rest = BigInt.asUintN(64, BigInt(value));
    for (; rest > 0x7fn; rest >>= 7n) this.#bytes[this.#at++] = Number(rest & 0x7fn) | 0x80;
    this.#bytes[this.#at++] = Number(rest);
  }

  text(field: number, value: string): void {
    if (value === "") return;
    const size = Buffer.byteLength(value, "utf8");
    this.#length(field, size);
    this.#at += this.#bytes.write(value, this.#at, "utf8");
  }

  bytes(field: number, value: Uint8Array): void {
    if (value.length === 0) return;
    this.#length(field, value.length);
    this.#bytes.set(value, this.#at);
    this.#at += value.length;
  }

  /** A message is written also when it is empty: that it is there may say something. */
  message(field: number, write: (inner: ProtoWriter) => void): void {
    const inner = new ProtoWriter();
    write(inner);
    this.#length(field, inner.#at);
    inner.#bytes.copy(this.#bytes, this.#at, 0, inner.#at);
    this.#at += inner.#at;
  }

  finish(): Uint8Array {
    return this.#bytes.subarray(0, this.#at);
  }

  #length(field: number, size: number): void {
    this.#room(size + 20);
    this.#varint(field * 8 + BYTES);
    this.#varint(size);
  }

  /** Below 2^53. */
  #varint(value: number): void {
    let rest = value;
    for (; rest > 0x7f; rest = Math.floor(rest / 128)) this.#bytes[this.#at++] = (rest % 128) | 0x80;
    this.#bytes[this.#at++] = rest;
  }

  #room(size: number): void {
    if (this.#at + size <= this.#bytes.length) return;
    const grown = Buffer.allocUnsafeSlow(Math.max(this.#bytes.length * 2, this.#at + size));
    this.#bytes.copy(grown, 0, 0, this.#at);
    this.#bytes = grown;
  }
}

/** A message that is none. */
export class ProtoError extends Error {
  override readonly name = "ProtoError";
}

const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Reads `bytes[at..end)`: `next` until it is false, and for each field one of the values or nothing, which skips it. */
export class ProtoReader {
  field = 0;
  #type = 0;
  #read = true;
  /** Not zero: the last number had more than 32 bits. */
  #high = 0;
  readonly #bytes: Uint8Array;
  #at: number;
  readonly #end: number;

  constructor(bytes: Uint8Array, at = 0, end = bytes.length) {
    this.#bytes = bytes;
    this.#at = at;
    this.#end = end;
  }

  /** @throws ProtoError, as all of these */
  next(): boolean {
    if (!this.#read) this.#skip();
    if (this.#at === this.#end) return false;
    const tag = this.#varint();
    if (this.#high !== 0) throw new ProtoError("a field's number is too large");
    this.field = Math.floor(tag / 8);
    this.#type = tag % 8;
    this.#read = false;
    if (this.field === 0) throw new ProtoError("a field without a number");
    return true;
  }

  /** The lower 32 bits, signed: an int32 or an enum. */
  int32(): number {
    this.#expect(VARINT);
    return this.#varint() | 0;
  }

  /** Not zero. */
  bool(): boolean {
    this.#expect(VARINT);
    let any = 0;
    for (let i = 0; i < 10; i++) {
      const byte = this.#byte();
      any |= byte & 0x7f;
      if (byte < 0x80) return any !== 0;
    }
    throw new ProtoError("a number that is too long");
  }

  double(): number {
    this.#expect(FIXED64);
    const { buffer, byteOffset } = this.#bytes;
    return new DataView(buffer, byteOffset + this.#take(8), 8).getFloat64(0, true);
  }

  text(): string {
    const bytes = this.bytes();
    try {
      return UTF8.decode(bytes);
    } catch {
      throw new ProtoError("a text that is no UTF-8");
    }
  }

  /** A view. */
  bytes(): Uint8Array {
    this.#expect(BYTES);
    const size = this.#size();
    const start = this.#take(size);
    return this.#bytes.subarray(start, start + size);
  }

  message(): ProtoReader {
    return new ProtoReader(this.bytes());
  }

  #expect(type: number): void {
    if (this.#type !== type || this.#read) throw new ProtoError(`field ${this.field} is of another type`);
    this.#read = true;
  }

  #skip(): void {
    switch (this.#type) {
      case VARINT:
        this.bool();
        break;
      case FIXED64:
        this.#take(8);
        break;
      case BYTES:
        this.bytes();
        break;
      case FIXED32:
        this.#take(4);
        break;
      default:
        throw new ProtoError(`field ${this.field} is of a type that is not known`);
    }
    this.#read = true;
  }

  /** The lower 32 bits; what is above them is in `#high`, and no length or tag has any. */
  #varint(): number {
    let low = 0;
    this.#high = 0;
    for (let i = 0; i < 10; i++) {
      const byte = this.#byte();
      const bits = byte & 0x7f;
      if (i < 4) low += bits * 2 ** (7 * i);
      else if (i === 4) {
        low += (bits & 0x0f) * 2 ** 28;
        this.#high |= bits >> 4;
      } else this.#high |= bits;
      if (byte < 0x80) return low;
    }
    throw new ProtoError("a number that is too long");
  }

  #size(): number {
    const size = this.#varint();
    if (this.#high !== 0) throw new ProtoError("the message is cut off");
    return size;
  }

  #byte(): number {
    return this.#bytes[this.#take(1)];
  }

  #take(size: number): number {
    const at = this.#at;
    if (size > this.#end - at) throw new ProtoError("the message is cut off");
    this.#at = at + size;
    return at;
  }
}
