/**
 * The Huffman code of HPACK, RFC 7541 section 5.2 and appendix B.
 *
 * The code is canonical: shorter codes come first, and codes of one length follow the order of their symbols. So
 * the lengths alone define it, and every table here is derived from them.
 */

const EOS = 256;
const LONGEST_BITS = 30;
/** Codes up to this length (all of ASCII that headers use) take one table look-up. */
const FAST_BITS = 10;

/** Bits of the code of each symbol 0..256, 256 being EOS. */
// deno-fmt-ignore
const LENGTHS: readonly number[] = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
  6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
  13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
  15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
  20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
  22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
  26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
  20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
  30,
];

const CODES = new Uint32Array(EOS + 1);
const BITS = new Uint8Array(LENGTHS);
/** Symbols in code order; `FIRST_CODE[n]` is the first code of n bits, `FIRST_AT[n]` its place in SORTED. */
const SORTED = new Uint16Array(EOS + 1);
const FIRST_CODE = new Uint32Array(LONGEST_BITS + 2);
const FIRST_AT = new Uint16Array(LONGEST_BITS + 2);
/** symbol << 4 | bits for each FAST_BITS-bit prefix that begins with a short code, else 0. */
const FAST = new Uint16Array(1 << FAST_BITS);

function buildTables(): void {
  let code = 0;
  let at = 0;
  for (let bits = 1; bits <= LONGEST_BITS; bits++) {
    FIRST_CODE[bits] = code;
    FIRST_AT[bits] = at;
    for (let symbol = 0; symbol <= EOS; symbol++) {
      if (BITS[symbol] !== bits) continue;
      CODES[symbol] = code;
      SORTED[at++] = symbol;
      if (bits <= FAST_BITS) {
        const spare = FAST_BITS - bits;
        FAST.fill(symbol << 4 | bits, code << spare, (code + 1) << spare);
      }
      code++;
    }
    code <<= 1;
  }
  FIRST_AT[LONGEST_BITS + 1] = at;
}
buildTables();

/** Most bytes that `length` coded bytes can decode to: the shortest code has 5 bits. */
export function huffmanDecodedBound(length: number): number {
  return Math.floor(length * 8 / 5);
}

/** Bytes that `text` takes when coded. Characters above 0xff count as their low byte. */
export function huffmanEncodedLength(text: string): number {
  let bits = 0;
  for (let i = 0; i < text.length; i++) bits += BITS[text.charCodeAt(i) & 0xff];
  return (bits + 7) >>> 3;
}

/** Codes `text` into `out` from `pos`, which must have room, and returns the position after it. */
export function huffmanEncode(text: string, out: Uint8Array, pos: number): number {
  let held = 0;
  let heldBits = 0;
  for (let i = 0; i < text.length; i++) {
    const symbol = text.charCodeAt(i) & 0xff;
    const code = CODES[symbol];
    let bits = BITS[symbol];
    if (bits > 24) {
      // At most 7 bits are held, so codes longer than 24 bits go in two parts to stay within 32.
      bits -= 16;
      held = held << bits | code >>> 16;
      heldBits += bits;
      while (heldBits >= 8) {
        heldBits -= 8;
        out[pos++] = held >>> heldBits;
      }
      bits = 16;
      held = held << 16 | code & 0xffff;
    } else {
      held = held << bits | code;
    }
    heldBits += bits;
    while (heldBits >= 8) {
      heldBits -= 8;
      out[pos++] = held >>> heldBits;
    }
  }
  if (heldBits > 0) out[pos++] = held << (8 - heldBits) | 0xff >>> heldBits;
  return pos;
}

/**
 * Decodes `src[start..end)` into `out` from 0, which must have `huffmanDecodedBound` bytes of room. Returns the decoded
 * length, or -1 when EOS is coded or the padding is not fewer than 8 one-bits (RFC 7541 5.2: both are errors).
 */
export function huffmanDecode(src: Uint8Array, start: number, end: number, out: Uint8Array): number {
  let held = 0;
  let heldBits = 0;
  let length = 0;
  for (;;) {
    while (heldBits <= 24 && start < end) {
      held = held << 8 | src[start++];
      heldBits += 8;
    }
    // Past the end of input the bits read as ones, which is what padding is.
    const prefix = heldBits >= FAST_BITS
      ? held >>> (heldBits - FAST_BITS) & (1 << FAST_BITS) - 1
      : (held << (FAST_BITS - heldBits) | (1 << (FAST_BITS - heldBits)) - 1) & (1 << FAST_BITS) - 1;
    const fast = FAST[prefix];
    if (fast !== 0) {
      const bits = fast & 15;
      if (bits > heldBits) break;
      out[length++] = fast >>> 4;
      heldBits -= bits;
      continue;
    }
    let window: number;
    if (heldBits >= LONGEST_BITS) {
      window = held >>> (heldBits - LONGEST_BITS) & 0x3fff_ffff;
    } else {
      const missing = LONGEST_BITS - heldBits;
      // With input left at least 25 bits are held, so one more byte completes the window.
      const more = start < end ? src[start] >>> (8 - missing) : 2 ** missing - 1;
      window = ((heldBits === 0 ? 0 : held << missing) | more) & 0x3fff_ffff;
    }
    let bits = FAST_BITS + 1;
    let index = 0;
    for (; bits <= LONGEST_BITS; bits++) {
      index = (window >>> (LONGEST_BITS - bits)) - FIRST_CODE[bits] + FIRST_AT[bits];
      if (index < FIRST_AT[bits + 1]) break;
    }
    if (bits > heldBits) {
      if (start >= end) break;
      held = held << 8 | src[start++];
      heldBits += 8;
    }
    const symbol = SORTED[index];
    if (symbol === EOS) return -1;
    out[length++] = symbol;
    heldBits -= bits;
  }
  const padding = (1 << heldBits) - 1;
  return heldBits < 8 && (held & padding) === padding ? length : -1;
}
