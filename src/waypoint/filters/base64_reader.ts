/**
 * Base64 (RFC 4648 section 4) as it streams in, in any split. It may be several texts one after the other, each padded: senders flush what they have. Strict:
 * other characters, padding in a wrong place and bits that stand for nothing are no base64.
 */
const PAD = 0x3d;
const NONE = 255;

const VALUES = new Uint8Array(256).fill(NONE);
for (const [i, char] of [..."ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"].entries()) {
  VALUES[char.charCodeAt(0)] = i;
}

export class Base64Reader {
  /** Characters of a group of four that is not whole, their bits, and how many of them are padding. */
  #count = 0;
  #bits = 0;
  #pads = 0;
  #failed = false;

  /** What has come may end here. */
  get isWhole(): boolean {
    return this.#count === 0 && !this.#failed;
  }

  /** The bytes that became known, a fresh array; undefined when this is no base64. */
  read(text: Uint8Array, start: number, end: number): Uint8Array | undefined {
    if (this.#failed) return undefined;
    const out = new Uint8Array(Math.floor((this.#count + end - start) / 4) * 3);
    let at = 0;
    for (let i = start; i < end; i++) {
      const char = text[i];
      if (char === PAD) {
        if (this.#count < 2) return this.#fail();
        this.#pads++;
        this.#bits <<= 6;
      } else {
        const value = VALUES[char];
        if (value === NONE || this.#pads > 0) return this.#fail();
        this.#bits = this.#bits << 6 | value;
      }
      if (++this.#count < 4) continue;
      const bits = this.#bits;
      const unused = this.#pads === 2 ? bits & 0xffff : this.#pads === 1 ? bits & 0xff : 0;
      if (unused !== 0) return this.#fail();
      out[at++] = bits >> 16 & 0xff;
      if (this.#pads < 2) out[at++] = bits >> 8 & 0xff;
      if (this.#pads === 0) out[at++] = bits & 0xff;
      this.#count = 0;
      this.#bits = 0;
      this.#pads = 0;
    }
    return out.subarray(0, at);
  }

  #fail(): undefined {
    this.#failed = true;
  }
}
