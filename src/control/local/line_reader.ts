/**
 * Splits a byte stream into lines of UTF-8 text. Sans-io.
 *
 * A line is delivered once, whole, for every split of the stream; what is held back is never more than the limit.
 */

const NEWLINE = 0x0a;

export class LineReader {
  readonly #maxBytes: number;
  readonly #decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  #pending: Uint8Array[] = [];
  #pendingBytes = 0;

  /** `maxBytes` bounds one line, its newline not counted. */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /**
   * Takes the next bytes and hands every completed line to `line`, in order.
   * Throws `RangeError` when a line is above the limit and `TypeError` when it is not UTF-8; the reader is then spent.
   */
  push(chunk: Uint8Array, line: (text: string) => void): void {
    let start = 0;
    for (;;) {
      const end = chunk.indexOf(NEWLINE, start);
      const part = chunk.subarray(start, end === -1 ? undefined : end);
      if (this.#pendingBytes + part.length > this.#maxBytes) {
        throw new RangeError(`a line is longer than ${this.#maxBytes} bytes`);
      }
      if (end === -1) {
        // The caller may reuse its chunk, so an unfinished line is copied.
        if (part.length > 0) {
          this.#pending.push(part.slice());
          this.#pendingBytes += part.length;
        }
        return;
      }
      line(this.#take(part));
      start = end + 1;
    }
  }

  #take(last: Uint8Array): string {
    if (this.#pendingBytes === 0) return this.#decoder.decode(last);
    const whole = new Uint8Array(this.#pendingBytes + last.length);
    let offset = 0;
    for (const part of this.#pending) {
      whole.set(part, offset);
      offset += part.length;
    }
    whole.set(last, offset);
    this.#pending = [];
    this.#pendingBytes = 0;
    return this.#decoder.decode(whole);
  }
}
