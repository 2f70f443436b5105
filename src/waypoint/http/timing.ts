/** What sessions need of the reactor: the time, timers, and the end of the turn. A test gives them a clock of its own. */
import type { Deferred, Timer } from "../../net/reactor.ts";

export interface Timing {
  /** Monotonic milliseconds. */
  readonly nowMs: number;
  setTimer(timer: Timer, delayMs: number): void;
  cancelTimer(timer: Timer): void;
  /** Runs `flush` at the end of the turn. */
  defer(work: Deferred): void;
}
