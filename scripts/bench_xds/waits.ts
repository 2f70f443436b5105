/** Which part of a wait was the machine's. Pure. */

/** Milliseconds, of one clock. */
export interface Span {
  readonly beginMs: number;
  readonly endMs: number;
}

/** Overlapping and touching spans as one; in order. */
export function union(spans: readonly Span[]): Span[] {
  const merged: Span[] = [];
  for (const { beginMs, endMs } of [...spans].sort((a, b) => a.beginMs - b.beginMs)) {
    const last = merged[merged.length - 1];
    if (last === undefined || beginMs > last.endMs) merged.push({ beginMs, endMs });
    else if (endMs > last.endMs) merged[merged.length - 1] = { beginMs: last.beginMs, endMs };
  }
  return merged;
}

/** The longest of these waits, without the time at which `machine`, a union, had one of the cores itself. 0 when there is none. */
export function longestOwn(waits: readonly Span[], machine: readonly Span[]): number {
  let longest = 0;
  for (const { beginMs, endMs } of waits) {
    let own = endMs - beginMs;
    for (const held of machine) {
      own -= Math.max(0, Math.min(endMs, held.endMs) - Math.max(beginMs, held.beginMs));
    }
    longest = Math.max(longest, own);
  }
  return longest;
}
