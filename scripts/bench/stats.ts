/** The little arithmetic of the benchmark: a latency histogram, medians, ratios. Pure. */

/** One bucket per microsecond; what takes longer than the last one counts as that. */
const BUCKETS = 1 << 20;

/** Latencies in microseconds, without an allocation per sample. */
export class Histogram {
  readonly #buckets = new Uint32Array(BUCKETS);
  #count = 0;

  get count(): number {
    return this.#count;
  }

  add(microseconds: number): void {
    const bucket = microseconds < BUCKETS ? microseconds | 0 : BUCKETS - 1;
    this.#buckets[bucket]++;
    this.#count++;
  }

  reset(): void {
    this.#buckets.fill(0);
    this.#count = 0;
  }

  /** The latency that `fraction` of the samples did not exceed, in microseconds; NaN without samples. */
  percentile(fraction: number): number {
    if (this.#count === 0) return NaN;
    const rank = Math.max(1, Math.ceil(fraction * this.#count));
    let seen = 0;
    for (let i = 0; i < BUCKETS; i++) {
      seen += this.#buckets[i];
      if (seen >= rank) return i;
    }
    return BUCKETS - 1;
  }
}

/** The middle value, or the mean of the two middle ones; NaN of an empty list. */
export function median(values: readonly number[]): number {
  if (values.length === 0) return NaN;
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** The median of the ratios round by round: noise of the machine that lasts a round falls out. */
export function medianRatio(values: readonly number[], references: readonly number[]): number {
  const rounds = Math.min(values.length, references.length);
  const ratios: number[] = [];
  for (let i = 0; i < rounds; i++) ratios.push(values[i] / references[i]);
  return median(ratios);
}
