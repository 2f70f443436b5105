/**
 * How long something took, without the time in which this machine stood still: a host that withholds its cores for seconds stops the test
 * and what it waits for alike. For waits that leave the event loop free; what the test itself computes does not count either.
 */
import { clearInterval, setInterval } from "node:timers";

const TICK_MS = 10;
/** A busy machine is late by less. */
const STALL_MS = 250;

/** One clock for all that run. */
let timer: ReturnType<typeof setInterval> | undefined;
let running = 0;
let lastMs = 0;
let stalledMs = 0;

function tick(): void {
  const nowMs = performance.now();
  const lateMs = nowMs - lastMs - TICK_MS;
  if (lateMs > STALL_MS) stalledMs += lateMs;
  lastMs = nowMs;
}

export class Stopwatch {
  readonly #startMs: number;
  readonly #stalledBeforeMs: number;
  #runs = true;

  constructor() {
    if (running++ === 0) {
      lastMs = performance.now();
      timer = setInterval(tick, TICK_MS);
      // A test that failed may have left it.
      timer.unref();
    } else tick();
    this.#startMs = lastMs;
    this.#stalledBeforeMs = stalledMs;
  }

  /** What passed while the machine ran, so far. */
  get ms(): number {
    tick();
    return lastMs - this.#startMs - (stalledMs - this.#stalledBeforeMs);
  }

  /** Ends it. `ms`: what passed while the machine ran, for upper limits; `wallMs`: what a clock on the wall says, for lower ones. */
  stop(): { readonly ms: number; readonly wallMs: number } {
    const { ms } = this;
    if (this.#runs && --running === 0) clearInterval(timer);
    this.#runs = false;
    return { ms, wallMs: lastMs - this.#startMs };
  }
}
