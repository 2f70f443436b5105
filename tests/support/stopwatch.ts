/**
 * How long something took, without the time in which this machine stood still: a host that withholds its cores for seconds stops the test
 * and what it waits for alike. For waits that leave the event loop free; what the test itself computes does not count either.
 */
import { clearInterval, setInterval } from "node:timers";

const TICK_MS = 10;
/** A busy machine is late by less. */
const STALL_MS = 250;

export class Stopwatch {
  readonly #startMs = performance.now();
  readonly #timer = setInterval(() => this.#tick(), TICK_MS).unref();
  #lastMs = this.#startMs;
  #stalledMs = 0;

  /** Ends it. `ms`: what passed while the machine ran, for upper limits; `wallMs`: what a clock on the wall says, for lower ones. */
  stop(): { readonly ms: number; readonly wallMs: number } {
    clearInterval(this.#timer);
    this.#tick();
    const wallMs = this.#lastMs - this.#startMs;
    return { ms: wallMs - this.#stalledMs, wallMs };
  }

  #tick(): void {
    const nowMs = performance.now();
    const lateMs = nowMs - this.#lastMs - TICK_MS;
    if (lateMs > STALL_MS) this.#stalledMs += lateMs;
    this.#lastMs = nowMs;
  }
}
