/** Addresses as canonical text and as bytes. Provisional: the mesh package replaces it. */
export function parseIp(text: string): Uint8Array | undefined {
  if (!text.includes(":")) {
    const parts = text.split(".");
    if (parts.length !== 4 || !parts.every((p) => /^\d{1,3}$/.test(p) && Number(p) < 256)) return undefined;
    return Uint8Array.from(parts.map(Number));
  }
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  const head = halves[0] === "" ? [] : halves[0].split(":");
  const tail = halves.length === 2 ? (halves[1] === "" ? [] : halves[1].split(":")) : [];
  const groups = halves.length === 2 ? [...head, ...new Array(8 - head.length - tail.length).fill("0"), ...tail] : head;
  if (groups.length !== 8) return undefined;
  const bytes = new Uint8Array(16);
  groups.forEach((g, i) => {
    const v = parseInt(g, 16);
    bytes[2 * i] = v >> 8;
    bytes[2 * i + 1] = v & 255;
  });
  return bytes;
}
export function formatIp(b: Uint8Array): string {
  if (b.length === 4) return b.join(".");
  if (b.subarray(0, 10).every((x) => x === 0) && b[10] === 255 && b[11] === 255) return b.subarray(12).join(".");
  return Array.from({ length: 8 }, (_, i) => (b[2 * i] << 8 | b[2 * i + 1]).toString(16)).join(":");
}
