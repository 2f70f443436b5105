/** A byte stream that tells its owner, beside its sink, when it is over: whoever counts connections. */
import type { ByteStream, Uint8ArrayAt } from "./byte_stream.ts";

export interface OwnedStream extends ByteStream {
  /** Called once, when both halves have ended or the stream was cut, by whomever. Not from within `write`. */
  whenOver: (() => void) | undefined;
}

/** The one object that a stream's reservations are told by. */
export class Room implements Uint8ArrayAt {
  bytes: Uint8Array = NOTHING;
  at = 0;
  end = 0;

  set(bytes: Uint8Array, at: number, end: number): this {
    this.bytes = bytes;
    this.at = at;
    this.end = end;
    return this;
  }
}

export const NOTHING = new Uint8Array(0);
