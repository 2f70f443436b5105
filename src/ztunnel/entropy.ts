/** Random bytes that nobody can foresee, drawn from the system a page at a time. */
const entropy = new Uint8Array(4096);
let used = entropy.length;
const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

/** In hexadecimal, for trace ids. */
export function randomHex(bytes: number): string {
  draw(bytes);
  let text = "";
  let left = bytes;
  // By fours: engines put short texts together at once, and long ones out of a tree that somebody has to walk later.
  for (; left >= 4; left -= 4) {
    text += HEX[entropy[used]] + HEX[entropy[used + 1]] + HEX[entropy[used + 2]] + HEX[entropy[used + 3]];
    used += 4;
  }
  for (; left > 0; left--) text += HEX[entropy[used++]];
  return text;
}

/** 16 bits, for DNS questions: who cannot foresee them cannot forge the answer. */
export function randomId(): number {
  draw(2);
  return entropy[used++] << 8 | entropy[used++];
}

function draw(bytes: number): void {
  if (used + bytes <= entropy.length) return;
  crypto.getRandomValues(entropy);
  used = 0;
}
