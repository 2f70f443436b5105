/** Where TLS decrypts to: one buffer for all streams of a thread, because its content is over when a sink returns. */

/** Four records. */
const BYTES = 64 * 1024;

class PlainBuffer {
  #bytes: Uint8Array<ArrayBuffer> | undefined;
  #isLent = false;

  /** Undefined: somebody is reading into it, further up the stack. */
  lend(): Uint8Array | undefined {
    if (this.#isLent) return undefined;
    this.#isLent = true;
    return this.#bytes ??= new Uint8Array(BYTES);
  }

  giveBack(): void {
    this.#isLent = false;
  }
}

export const plainBuffer = new PlainBuffer();
