/** The chunked coding, RFC 9112 section 7.1, in any split. Sizes are read by hand: a number parser would take signs, spaces and underscores. */
import { hexValue } from "./grammar.ts";
import { fail } from "./head.ts";

const CR = 13;
const LF = 10;
const SEMICOLON = 59;

/** A chunk may be that long: below 2^53, so that counting is exact. */
const MAX_SIZE_DIGITS = 13;
/** Extensions mean nothing to a proxy; whoever sends many around little data does so to keep it busy. */
const MAX_EXTENSION_BYTES = 4096;
/** A chunk of this size pays for the extensions before it: object stores sign each chunk of some kilobytes. */
const PAYING_CHUNK_BYTES = 1024;

const At = {
  SIZE: 0,
  EXTENSION: 1,
  SIZE_LF: 2,
  DATA: 3,
  DATA_CR: 4,
  DATA_LF: 5,
  /** The last chunk's line is over: field lines of the trailer section, or its empty line, follow. */
  TRAILERS: 6,
} as const;

export class ChunkReader {
  #at: number = At.SIZE;
  #size = 0;
  #digits = 0;
  /** Since the last chunk that paid for them. */
  #extensionBytes = 0;

  reset(): void {
    this.#at = At.SIZE;
    this.#size = 0;
    this.#digits = 0;
    this.#extensionBytes = 0;
  }

  /** The trailer section begins where the last `read` stopped. */
  get atTrailers(): boolean {
    return this.#at === At.TRAILERS;
  }

  /** Reads until `end`, or until the trailer section. Returns where it stopped. @throws Http1Error */
  read(bytes: Uint8Array, start: number, end: number, data: (start: number, end: number) => void): number {
    let at = start;
    while (at < end) {
      switch (this.#at) {
        case At.DATA: {
          const stop = Math.min(end, at + this.#size);
          this.#size -= stop - at;
          if (this.#size === 0) this.#at = At.DATA_CR;
          data(at, stop);
          at = stop;
          break;
        }
        case At.TRAILERS:
          return at;
        default:
          this.#readByte(bytes[at++]);
      }
    }
    return at;
  }

  #readByte(byte: number): void {
    switch (this.#at) {
      case At.SIZE: {
        const value = hexValue(byte);
        if (value >= 0) {
          if (++this.#digits > MAX_SIZE_DIGITS) fail("http1.chunk_too_large");
          this.#size = this.#size * 16 + value;
          return;
        }
        if (this.#digits === 0) fail("http1.invalid_chunk_size");
        if (byte === CR) this.#at = At.SIZE_LF;
        else if (byte === SEMICOLON) this.#at = At.EXTENSION;
        else fail("http1.invalid_chunk_size");
        return;
      }
      case At.EXTENSION:
        if (byte === CR) this.#at = At.SIZE_LF;
        else if ((byte < 0x20 && byte !== 9) || byte === 0x7f) fail("http1.invalid_chunk_extension");
        else if (++this.#extensionBytes > MAX_EXTENSION_BYTES) fail("http1.chunk_extensions_too_long");
        return;
      case At.SIZE_LF:
        if (byte !== LF) fail("http1.invalid_chunk_size");
        this.#digits = 0;
        if (this.#size >= PAYING_CHUNK_BYTES) this.#extensionBytes = 0;
        this.#at = this.#size === 0 ? At.TRAILERS : At.DATA;
        return;
      case At.DATA_CR:
        if (byte !== CR) fail("http1.invalid_chunk_end");
        this.#at = At.DATA_LF;
        return;
      default:
        if (byte !== LF) fail("http1.invalid_chunk_end");
        this.#at = At.SIZE;
        this.#size = 0;
    }
  }
}
