/**
 * DNS messages in a TCP stream: two bytes of length before each (RFC 1035 section 4.2.2, RFC 7766). Sans-io; takes the stream in any
 * split. A message is a view into the chunk when it came whole, else into memory of its own; either way it is valid until the sink
 * returns.
 */

const PREFIX_BYTES = 2;
const NOTHING = new Uint8Array(0);

export class FrameReader {
  readonly #sink: (message: Uint8Array) => void;
  /** The beginning of a frame that is not complete. */
  #held = NOTHING;
  #length = 0;

  constructor(sink: (message: Uint8Array) => void) {
    this.#sink = sink;
  }

  /** Bytes of a frame that has begun: at an end of stream they are lost. */
  get pending(): number {
    return this.#length;
  }

  push(chunk: Uint8Array): void {
    let at = 0;
    while (this.#length > 0 && at < chunk.length) at += this.#fill(chunk, at);
    while (chunk.length - at >= PREFIX_BYTES) {
      const end = at + PREFIX_BYTES + (chunk[at] << 8 | chunk[at + 1]);
      if (end > chunk.length) break;
      this.#sink(chunk.subarray(at + PREFIX_BYTES, end));
      at = end;
    }
    if (at < chunk.length) this.#hold(chunk.subarray(at));
  }

  /** Completes the held frame, as far as the chunk goes. Returns how much it took. */
  #fill(chunk: Uint8Array, at: number): number {
    if (this.#length < PREFIX_BYTES) {
      const prefix = this.#held[0];
      this.#hold(Uint8Array.of(prefix, chunk[at]));
      if ((prefix << 8 | chunk[at]) === 0) this.#finish();
      return 1;
    }
    const take = Math.min(this.#held.length - this.#length, chunk.length - at);
    this.#held.set(chunk.subarray(at, at + take), this.#length);
    this.#length += take;
    if (this.#length === this.#held.length) this.#finish();
    return take;
  }

  #finish(): void {
    const message = this.#held.subarray(PREFIX_BYTES);
    this.#held = NOTHING;
    this.#length = 0;
    this.#sink(message);
  }

  /** Keeps the start of a frame, in memory of the frame's size once that is known. */
  #hold(start: Uint8Array): void {
    const size = start.length < PREFIX_BYTES ? PREFIX_BYTES : PREFIX_BYTES + (start[0] << 8 | start[1]);
    this.#held = new Uint8Array(size);
    this.#held.set(start);
    this.#length = start.length;
  }
}

/** A message with its length before it. */
export function frame(message: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(PREFIX_BYTES + message.length);
  bytes[0] = message.length >> 8;
  bytes[1] = message.length;
  bytes.set(message, PREFIX_BYTES);
  return bytes;
}
