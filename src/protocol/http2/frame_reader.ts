/**
 * HTTP/2 frame reader, RFC 9113 section 4.1. Sans-io.
 *
 * Takes the byte stream in any split. DATA goes out in pieces as it arrives, as views into the chunk; every other
 * payload goes out whole, as a view where it arrived in one chunk, and is kept only up to what `begin` agreed to.
 */
import type { BufferPool } from "./types.ts";
import { Flag, FRAME_HEADER_BYTES, FrameType, PREFACE } from "./constants.ts";
import { readUint31 } from "./output.ts";

/** What becomes of the payload of a frame. */
export const Payload = {
  SKIP: 0,
  WHOLE: 1,
  /** DATA, in pieces. */
  PIECES: 2,
} as const;

export interface FrameSink {
  /** A frame header was read. Returns a Payload. */
  begin(type: number, flags: number, streamId: number, length: number): number;
  /** PIECES: `dataBytes` without padding will follow; `paddingBytes` counts the length field too. */
  body(dataBytes: number, paddingBytes: number): void;
  /** PIECES: a piece of DATA; the last one says so. A frame without data has one empty piece. */
  piece(bytes: Uint8Array, start: number, end: number, last: boolean): void;
  /** WHOLE. */
  payload(bytes: Uint8Array, start: number, end: number): void;
  /** The bytes are not HTTP/2; nothing more is read. */
  badPreface(): void;
  /** Padding as long as the frame or longer. */
  badPadding(): void;
}

const State = { PREFACE: 0, HEADER: 1, PAD_LENGTH: 2, DATA: 3, SKIP: 4, GATHER: 5 } as const;
/** Header of a frame, or the payload of one of the short ones, that came in two chunks. */
const SMALL_BYTES = 256;
const NOTHING = new Uint8Array(0);

export class FrameReader {
  /** Set by the owner when the connection has failed. */
  stopped = false;
  #state: number;
  readonly #sink: FrameSink;
  readonly #pool: BufferPool;
  /** Bytes still to come in this state, and for SKIP and DATA also the padding after them. */
  #left = 0;
  #padding = 0;
  #gathered: Uint8Array = NOTHING;
  #gatheredLength = 0;
  #pooled = false;

  constructor(sink: FrameSink, pool: BufferPool, expectPreface: boolean) {
    this.#sink = sink;
    this.#pool = pool;
    this.#state = expectPreface ? State.PREFACE : State.HEADER;
    this.#left = expectPreface ? PREFACE.length : 0;
  }

  /** Inside a frame, so that the end of the stream here cuts it short. */
  get midFrame(): boolean {
    return this.#state !== State.HEADER || this.#gatheredLength > 0;
  }

  read(bytes: Uint8Array, pos: number, end: number): void {
    while (pos < end && !this.stopped) {
      switch (this.#state) {
        case State.HEADER:
          pos = this.#header(bytes, pos, end);
          break;
        case State.DATA:
          pos = this.#data(bytes, pos, end);
          break;
        case State.GATHER:
          pos = this.#gather(bytes, pos, end);
          break;
        case State.SKIP: {
          const taken = Math.min(this.#left, end - pos);
          this.#left -= taken;
          pos += taken;
          if (this.#left === 0) this.#state = State.HEADER;
          break;
        }
        case State.PAD_LENGTH:
          this.#padLength(bytes[pos++]);
          break;
        default:
          pos = this.#preface(bytes, pos, end);
      }
    }
  }

  /** Gives back what is held; the reader is done. */
  close(): void {
    this.stopped = true;
    this.#giveBack();
  }

  #preface(bytes: Uint8Array, pos: number, end: number): number {
    while (pos < end && this.#left > 0) {
      if (bytes[pos++] !== PREFACE[PREFACE.length - this.#left]) {
        this.#sink.badPreface();
        return end;
      }
      this.#left--;
    }
    if (this.#left === 0) this.#state = State.HEADER;
    return pos;
  }

  #header(bytes: Uint8Array, pos: number, end: number): number {
    if (this.#gatheredLength === 0 && end - pos >= FRAME_HEADER_BYTES) {
      this.#begin(bytes, pos);
      return pos + FRAME_HEADER_BYTES;
    }
    if (this.#gathered.length === 0) this.#gathered = new Uint8Array(SMALL_BYTES);
    while (pos < end && this.#gatheredLength < FRAME_HEADER_BYTES) {
      this.#gathered[this.#gatheredLength++] = bytes[pos++];
    }
    if (this.#gatheredLength === FRAME_HEADER_BYTES) {
      this.#gatheredLength = 0;
      this.#begin(this.#gathered, 0);
    }
    return pos;
  }

  #begin(bytes: Uint8Array, pos: number): void {
    const length = bytes[pos] << 16 | bytes[pos + 1] << 8 | bytes[pos + 2];
    const type = bytes[pos + 3];
    const flags = bytes[pos + 4];
    const use = this.#sink.begin(type, flags, readUint31(bytes, pos + 5), length);
    if (this.stopped) return;
    this.#left = length;
    this.#padding = 0;
    if (use === Payload.PIECES) {
      if (type === FrameType.DATA && (flags & Flag.PADDED) !== 0) {
        if (length === 0) this.#sink.badPadding();
        this.#state = State.PAD_LENGTH;
      } else {
        this.#startData();
      }
    } else if (use === Payload.WHOLE) {
      if (length === 0) this.#sink.payload(bytes, pos, pos);
      else this.#state = State.GATHER;
    } else if (length > 0) {
      this.#state = State.SKIP;
    }
  }

  #padLength(padding: number): void {
    this.#left--;
    if (padding > this.#left) {
      this.#sink.badPadding();
      return;
    }
    this.#padding = padding;
    this.#left -= padding;
    this.#sink.body(this.#left, padding + 1);
    this.#afterBody();
  }

  #startData(): void {
    this.#sink.body(this.#left, 0);
    this.#afterBody();
  }

  #afterBody(): void {
    if (this.stopped) return;
    if (this.#left > 0) {
      this.#state = State.DATA;
    } else {
      this.#sink.piece(NOTHING, 0, 0, true);
      this.#endData();
    }
  }

  #data(bytes: Uint8Array, pos: number, end: number): number {
    const taken = Math.min(this.#left, end - pos);
    this.#left -= taken;
    if (this.#left === 0) this.#endData();
    this.#sink.piece(bytes, pos, pos + taken, this.#state !== State.DATA);
    return pos + taken;
  }

  #endData(): void {
    this.#left = this.#padding;
    this.#state = this.#padding > 0 ? State.SKIP : State.HEADER;
  }

  #gather(bytes: Uint8Array, pos: number, end: number): number {
    const taken = Math.min(this.#left, end - pos);
    if (this.#gatheredLength === 0 && taken === this.#left) {
      this.#state = State.HEADER;
      this.#sink.payload(bytes, pos, pos + taken);
      return pos + taken;
    }
    this.#room(this.#left);
    for (let i = 0; i < taken; i++) this.#gathered[this.#gatheredLength++] = bytes[pos + i];
    this.#left -= taken;
    if (this.#left === 0) {
      const length = this.#gatheredLength;
      this.#gatheredLength = 0;
      this.#state = State.HEADER;
      this.#sink.payload(this.#gathered, 0, length);
      if (this.#pooled) this.#giveBack();
    }
    return pos + taken;
  }

  /** Room for a payload of which `left` bytes are to come; taken once, for the whole of it. */
  #room(left: number): void {
    const needed = this.#gatheredLength + left;
    if (needed <= this.#gathered.length) return;
    if (needed <= SMALL_BYTES) {
      this.#gathered = new Uint8Array(SMALL_BYTES);
    } else {
      this.#giveBack();
      this.#gathered = this.#pool.take(needed);
      this.#pooled = true;
    }
  }

  #giveBack(): void {
    const buffer = this.#gathered;
    this.#gathered = NOTHING;
    this.#gatheredLength = 0;
    if (this.#pooled) this.#pool.give(buffer);
    this.#pooled = false;
  }
}
