/**
 * A command line or environment that cannot be used. The text names the flag or variable, the
 * value it had and what is allowed; the process ends with code 2 and does nothing else.
 */
export class UsageError extends Error {
  override readonly name = "UsageError";

  /** Control characters, which a variable's name or a YAML parser's words may carry, are escaped. */
  constructor(message: string) {
    super(message.replace(/\p{Cc}/gu, (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0")));
  }
}

/**
 * The known name nearest to a mistyped one by edit distance, or undefined when none is near
 * enough (a third of the typed length, at least two edits, one for short names) to be suggested.
 */
export function nearest(typed: string, known: Iterable<string>): string | undefined {
  let best: string | undefined;
  let bestDistance = (typed.length <= 3 ? 1 : Math.max(2, Math.floor(typed.length / 3))) + 1;
  for (const name of known) {
    const distance = editDistance(typed, name, bestDistance);
    if (distance < bestDistance) {
      best = name;
      bestDistance = distance;
    }
  }
  return best;
}

/** Levenshtein distance; gives `limit` as soon as the true distance cannot be below it. */
function editDistance(a: string, b: string, limit: number): number {
  if (Math.abs(a.length - b.length) >= limit) return limit;
  let previous = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const current = [i];
    let rowMin = i;
    for (let j = 1; j <= b.length; j++) {
      const substitution = previous[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      const cost = Math.min(substitution, previous[j] + 1, current[j - 1] + 1);
      current.push(cost);
      if (cost < rowMin) rowMin = cost;
    }
    if (rowMin >= limit) return limit;
    previous = current;
  }
  return previous[b.length];
}

/** A value as it is shown in an error: quoted, control characters escaped, at most 80 characters. */
export function shown(value: string): string {
  return JSON.stringify(value.length > 80 ? value.slice(0, 77) + "..." : value);
}
