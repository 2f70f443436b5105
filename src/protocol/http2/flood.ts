/**
 * What a peer may cost before the connection ends with ENHANCE_YOUR_CALM: the answer to floods of frames that are
 * legal one by one (RFC 9113 section 10.5; CVE-2019-9511 to 9518, CVE-2023-44487, CVE-2025-8671).
 *
 * Two budgets that fill with time, and the first also with useful traffic, so that a busy peer is never mistaken
 * for a hostile one.
 */
export interface FloodLimits {
  /**
   * Frames that carry nothing: PING, SETTINGS, WINDOW_UPDATE, PRIORITY, empty or mostly padded DATA, unknown types,
   * frames for closed streams, interim responses. nghttp2 and Go bound each kind near this.
   */
  readonly overheadBurst: number;
  readonly overheadPerSecond: number;
  /**
   * Streams that a peer opened in vain: reset before they were answered, refused, or made to fail. 1,000 and 33 a
   * second are nghttp2's numbers; a node proxy sees whole pods abort at once, so the refill is faster.
   */
  readonly resetBurst: number;
  readonly resetsPerSecond: number;
  /** Bytes of acknowledgements and resets that may wait for a peer that does not read. */
  readonly replyBytes: number;
}

export const DEFAULT_FLOOD_LIMITS: FloodLimits = {
  overheadBurst: 10_000,
  overheadPerSecond: 1_000,
  resetBurst: 1_000,
  resetsPerSecond: 200,
  replyBytes: 65_536,
};

/** Overhead frames earned by each DATA frame that carries something, either way, and by each stream opened. */
export const EARNED_PER_FRAME = 4;

/** A budget of at most `burst`, refilled at `perSecond`. */
export class Budget {
  #left: number;
  readonly #burst: number;
  readonly #perMs: number;
  #filledMs: number;

  constructor(burst: number, perSecond: number, nowMs: number) {
    this.#left = burst;
    this.#burst = burst;
    this.#perMs = perSecond / 1000;
    this.#filledMs = nowMs;
  }

  /** Takes `cost`; false when that exceeds what is left. */
  spend(cost: number, nowMs: number): boolean {
    this.#left -= cost;
    if (this.#left >= 0) return true;
    const filled = this.#left + Math.max(0, nowMs - this.#filledMs) * this.#perMs;
    this.#filledMs = nowMs;
    this.#left = Math.min(filled, this.#burst);
    return this.#left >= 0;
  }

  earn(amount: number): void {
    this.#left = Math.min(this.#left + amount, this.#burst);
  }
}
