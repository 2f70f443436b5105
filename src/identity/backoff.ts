/**
 * How long an identity whose request failed is left alone: 1 s, doubling to 150 s, spread by a fifth (reference ztunnel, section 4). It is
 * kept apart from the certificates, so that a pod that comes back does not begin anew with a CA that is down.
 */

export const FIRST_RETRY_MS = 1_000;
export const LAST_RETRY_MS = 150_000;
const RETRY_JITTER = 0.2;
/** More failing identities than this are looked through for old ones. */
const SWEEP_ABOVE = 256;

interface Failure {
  count: number;
  untilMs: number;
  readonly error: string;
}

export class Backoff {
  readonly #failures = new Map<string, Failure>();
  readonly #random: () => number;
  readonly #lastMs: number;

  /** `random` gives [0, 1). `lastMs`: never longer than this, 150 s if absent. */
  constructor(random: () => number, lastMs: number = LAST_RETRY_MS) {
    this.#random = random;
    this.#lastMs = lastMs;
  }

  /** Notes a failure: how long to wait now, in milliseconds. */
  fail(identity: string, error: string, nowMs: number): number {
    const count = (this.#failures.get(identity)?.count ?? 0) + 1;
    const base = Math.min(this.#lastMs, FIRST_RETRY_MS * 2 ** Math.min(count - 1, 30));
    const delayMs = base * (1 + RETRY_JITTER * (2 * this.#random() - 1));
    this.#failures.set(identity, { count, untilMs: nowMs + delayMs, error });
    if (this.#failures.size > SWEEP_ABOVE) this.#sweep(nowMs);
    return delayMs;
  }

  succeed(identity: string): void {
    this.#failures.delete(identity);
  }

  /** The failure that is being waited out; undefined when a request may be made. */
  waiting(identity: string, nowMs: number): { readonly error: string; readonly leftMs: number } | undefined {
    const failure = this.#failures.get(identity);
    if (failure === undefined || failure.untilMs <= nowMs) return undefined;
    return { error: failure.error, leftMs: failure.untilMs - nowMs };
  }

  #sweep(nowMs: number): void {
    for (const [identity, { untilMs }] of this.#failures) {
      if (untilMs + LAST_RETRY_MS < nowMs) this.#failures.delete(identity);
    }
  }
}
