/** Random bytes that nobody can foresee, drawn from the system a page at a time. */
const entropy = new Uint8Array(4096);
let used = entropy.length;
const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

/** In hexadecimal, for trace ids. */
export function randomHex(bytes: number): string {
  draw(bytes);
  let text = "";
  for (let i = 0; i < bytes; i++) text += HEX[entropy[used++]];
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
