/** A copy of `bytes[start..end)` of its own. (`slice` of a Node Buffer is a view, and views die when a sink returns.) */
export function copyOf(bytes: Uint8Array, start: number, end: number): Uint8Array {
  return Uint8Array.prototype.slice.call(bytes, start, end);
}
