/** Durations of the Gateway API (GEP-2257): `10s`, `1m30s`, `500ms`, `1h`. */

const DURATION = /^([0-9]{1,5}(h|m|s|ms)){1,4}$/;
const MS: Readonly<Record<string, number>> = { h: 3_600_000, m: 60_000, s: 1000, ms: 1 };

/** In milliseconds; undefined for any other text. */
export function parseDuration(text: string): number | undefined {
  if (!DURATION.test(text)) return undefined;
  let sum = 0;
  for (const [, count, unit] of text.matchAll(/([0-9]+)(h|ms|m|s)/g)) sum += Number(count) * MS[unit!]!;
  return sum;
}
