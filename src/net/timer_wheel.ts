/**
 * A coarse timer wheel: thousands of timeouts at the cost of one list operation each. Sans-io: the caller tells the time.
 *
 * A timer fires in the tick after its deadline, so up to one tick late and never early. Timers further away than one
 * turn of the wheel stay in their slot until their turn comes.
 */

/** Every timeout of a proxy is a second or more: finer ticks would only wake an idle process. */
export const TICK_MS = 50;
const SLOTS = 256;

export interface TimerTarget {
  /** The deadline has passed. The timer is already out of the wheel, and may be set again. */
  expired(nowMs: number): void;
}

/** A timeout that its owner keeps and sets again and again; it allocates once. */
export class Timer {
  deadlineMs = 0;
  /** Slot it is linked into, -1 when idle. */
  slot = -1;
  next: Timer | undefined;
  previous: Timer | undefined;
  constructor(readonly target: TimerTarget) {}
}

export class TimerWheel {
  readonly #slots: (Timer | undefined)[] = new Array(SLOTS).fill(undefined);
  #tick: number;
  #count = 0;

  constructor(nowMs: number) {
    this.#tick = Math.floor(nowMs / TICK_MS);
  }

  /** Timers set and not yet fired. */
  get size(): number {
    return this.#count;
  }

  /** Sets or moves a timer to `delayMs` after `nowMs`. */
  set(timer: Timer, nowMs: number, delayMs: number): void {
    if (timer.slot !== -1) this.cancel(timer);
    timer.deadlineMs = nowMs + delayMs;
    const due = Math.max(Math.ceil(timer.deadlineMs / TICK_MS), this.#tick + 1);
    const slot = due % SLOTS;
    const head = this.#slots[slot];
    timer.slot = slot;
    timer.next = head;
    if (head !== undefined) head.previous = timer;
    this.#slots[slot] = timer;
    this.#count++;
  }

  cancel(timer: Timer): void {
    if (timer.slot === -1) return;
    if (timer.previous !== undefined) timer.previous.next = timer.next;
    else this.#slots[timer.slot] = timer.next;
    if (timer.next !== undefined) timer.next.previous = timer.previous;
    timer.next = timer.previous = undefined;
    timer.slot = -1;
    this.#count--;
  }

  /** How long the owner may sleep before `advance` has work: -1 when no timer is set. */
  sleepMs(nowMs: number): number {
    if (this.#count === 0) return -1;
    for (let ahead = 1; ahead <= SLOTS; ahead++) {
      if (this.#slots[(this.#tick + ahead) % SLOTS] !== undefined) {
        return Math.max(0, Math.ceil((this.#tick + ahead) * TICK_MS - nowMs));
      }
    }
    return -1;
  }

  /** Fires what is due. A target may set and cancel any timer from within `expired`. */
  advance(nowMs: number): void {
    const now = Math.floor(nowMs / TICK_MS);
    if (now <= this.#tick) return;
    const from = this.#tick;
    this.#tick = now;
    if (this.#count === 0) return;
    const steps = Math.min(now - from, SLOTS);
    for (let i = 1; i <= steps; i++) this.#fire((from + i) % SLOTS, nowMs);
  }

  #fire(slot: number, nowMs: number): void {
    let due: Timer[] | undefined;
    for (let timer = this.#slots[slot]; timer !== undefined; timer = timer.next) {
      if (timer.deadlineMs <= nowMs) (due ??= []).push(timer);
    }
    if (due === undefined) return;
    for (const timer of due) {
      if (timer.slot !== slot || timer.deadlineMs > nowMs) continue;
      this.cancel(timer);
      timer.target.expired(nowMs);
    }
  }
}
