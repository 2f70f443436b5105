/**
 * CONNECTs for what this waypoint does not serve yet. istiod tells ztunnels and waypoints of a change at the same time, and one of them hears it first: a
 * client that is led here some milliseconds too early waits for the configuration, and nobody waits long. Until then nothing is said and nothing is passed on.
 */
import { Timer, type TimerTarget } from "../../net/reactor.ts";
import type { Timing } from "../http/timing.ts";

export interface EarlyComer {
  /** False: goes on waiting. */
  attempt(): boolean;
  /** It was in vain. */
  giveUp(): void;
}

/** What lies between two pushes of a busy istiod. Whoever asks for what is nowhere learns of it so much later. */
export const EARLY_MS = 3_000;
/** Above it everybody is answered at once. */
const MOST = 1_000;

export class EarlyComers implements TimerTarget {
  /** With the time until which they wait, in its order. */
  readonly #waiting = new Map<EarlyComer, number>();
  readonly #timer = new Timer(this);
  readonly #timing: Pick<Timing, "nowMs" | "setTimer" | "cancelTimer">;

  constructor(timing: Pick<Timing, "nowMs" | "setTimer" | "cancelTimer">) {
    this.#timing = timing;
  }

  get isFull(): boolean {
    return this.#waiting.size >= MOST;
  }

  add(comer: EarlyComer): void {
    if (this.#waiting.size === 0) this.#timing.setTimer(this.#timer, EARLY_MS);
    this.#waiting.set(comer, this.#timing.nowMs + EARLY_MS);
  }

  /** There is another configuration. */
  retry(): void {
    for (const comer of [...this.#waiting.keys()]) if (comer.attempt()) this.#waiting.delete(comer);
    if (this.#waiting.size === 0) this.#timing.cancelTimer(this.#timer);
  }

  expired(nowMs: number): void {
    for (const [comer, dueMs] of this.#waiting) {
      if (dueMs > nowMs) return this.#timing.setTimer(this.#timer, dueMs - nowMs);
      this.#waiting.delete(comer);
      comer.giveUp();
    }
  }
}
