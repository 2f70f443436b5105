/**
 * How long to wait before the next stream (reference ztunnel, section 3.4). Jittered, so that the nodes of a cluster do not come
 * back to a restarted istiod in step.
 *
 * Beyond ztunnel: every end of a stream is followed by a wait. There a clean end, and errors that are no status, are answered by
 * the next connect at once, which an istiod that ends each stream makes a hot loop.
 */

/** The first wait is between half of this and this: ztunnel's first 10 ms to 20 ms. */
const FIRST_MS = 20;
/** ztunnel's. */
const LAST_MS = 15_000;
/** A stream that lived this long was no failure: an istiod that restarts is found again at once. */
const HEALTHY_MS = 10_000;

export class Backoff {
  readonly #random: () => number;
  #nextMs = FIRST_MS;

  /** @param random gives numbers from 0 to 1. */
  constructor(random: () => number) {
    this.#random = random;
  }

  /** Milliseconds to wait after a stream that lived `livedMs`; 0 when none came about. */
  after(livedMs: number): number {
    if (livedMs >= HEALTHY_MS) this.#nextMs = FIRST_MS;
    const ceiling = this.#nextMs;
    this.#nextMs = Math.min(LAST_MS, ceiling * 2);
    return ceiling * (1 + this.#random()) / 2;
  }
}
