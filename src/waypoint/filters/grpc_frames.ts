/** Counts the messages of a gRPC body as it streams by, in any split: five bytes before each say its length. */

const PREFIX_BYTES = 5;

export class GrpcFrameCounter {
  messages = 0;
  /** Bytes of the prefix that have come, while it is not whole. */
  #prefix = 0;
  #length = 0;
  /** Of the message's own bytes. */
  #left = 0;

  data(bytes: Uint8Array, start: number, end: number): void {
    let at = start;
    while (at < end) {
      if (this.#left > 0) {
        const skipped = Math.min(this.#left, end - at);
        this.#left -= skipped;
        at += skipped;
        continue;
      }
      // The first is a flag: compressed or not.
      if (this.#prefix > 0) this.#length = this.#length * 256 + bytes[at];
      at++;
      if (++this.#prefix < PREFIX_BYTES) continue;
      this.messages++;
      this.#left = this.#length;
      this.#prefix = 0;
      this.#length = 0;
    }
  }
}
