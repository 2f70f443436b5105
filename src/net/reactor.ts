/**
 * The event loop of a data-plane worker: epoll, timers, messages of the main thread, and work that waits for
 * the end of the turn. It blocks in `epoll_wait` and never awaits.
 *
 * A turn handles every ready descriptor first and flushes afterwards, so that all a turn produced for a connection
 * is encrypted and written once. An exception that leaves a handler leaves `run` too: the worker is replaced.
 */
import { closeDescriptor } from "../platform/socket.ts";
import { createEventFd, drainEventFd, Epoll, EPOLLEXCLUSIVE, EPOLLIN } from "../platform/epoll.ts";
import { Timer, type TimerTarget, TimerWheel } from "./timer_wheel.ts";

export interface EventHandler {
  /** `mask` holds EPOLL* bits. The handler may close any descriptor, its own included. */
  ready(mask: number): void;
}

/** Work for the end of the turn. Deferring an object twice in a turn runs it once. */
export interface Deferred {
  deferred: boolean;
  flush(): void;
}

/** Monotonic milliseconds, such as `performance.now`. */
export type Clock = () => number;

/** Where a reactor notes which descriptors are its own, for whoever must close them if its thread dies. */
export interface OwnershipNote {
  readonly table: Uint8Array;
  readonly owner: number;
}

export class Reactor {
  /** Monotonic time, read once a turn. */
  nowMs: number;
  /** Turns so far: how busy the thread is, to whoever compares. */
  turns = 0;
  /** Another thread raises this to wake the reactor up after it has posted messages. */
  readonly wakeFd: number;
  readonly #epoll = new Epoll();
  readonly #clock: Clock;
  readonly #wheel: TimerWheel;
  readonly #handlers: (EventHandler | undefined)[] = [];
  readonly #generations: number[] = [];
  #deferred: Deferred[] = [];
  #flushing: Deferred[] = [];
  readonly #note: OwnershipNote | undefined;
  #running = false;
  #open = 0;

  /** `onWake` takes the messages that were posted; it runs after each wake-up, before any other event of the turn is older. */
  constructor(clock: Clock, onWake: () => void, note?: OwnershipNote) {
    this.#clock = clock;
    this.#note = note;
    this.nowMs = clock();
    this.#wheel = new TimerWheel(this.nowMs);
    if (note !== undefined) note.table[this.#epoll.fd] = note.owner;
    this.wakeFd = createEventFd();
    this.add(this.wakeFd, EPOLLIN, {
      ready: () => {
        drainEventFd(this.wakeFd);
        onWake();
      },
    });
  }

  /** Descriptors registered now, the wake-up one included. */
  get openDescriptors(): number {
    return this.#open;
  }

  /** Tells this registration of a descriptor from others of the same number; 0 when it is not watched. */
  generation(fd: number): number {
    return this.#handlers[fd] === undefined ? 0 : this.#generations[fd];
  }

  /** Watches a descriptor: 0, or `-errno`. */
  add(fd: number, mask: number, handler: EventHandler): number {
    const generation = ((this.#generations[fd] ?? 0) + 1) | 0;
    const outcome = this.#epoll.add(fd, mask, generation);
    if (outcome < 0) return outcome;
    this.#generations[fd] = generation;
    this.#handlers[fd] = handler;
    this.#open++;
    // A shared listener is the main thread's.
    if (this.#note !== undefined && (mask & EPOLLEXCLUSIVE) === 0) this.#note.table[fd] = this.#note.owner;
    return 0;
  }

  /** Notes a descriptor as this thread's before it is watched; `close` it, so that the note goes with it. */
  own(fd: number): void {
    if (this.#note !== undefined) this.#note.table[fd] = this.#note.owner;
  }

  modify(fd: number, mask: number): void {
    this.#epoll.modify(fd, mask, this.#generations[fd]);
  }

  /** Hands a descriptor's events to another handler, as when a handshake gives way to a relay. */
  setHandler(fd: number, handler: EventHandler): void {
    this.#handlers[fd] = handler;
  }

  /** Stops watching without closing: the descriptor goes on elsewhere. */
  remove(fd: number): void {
    if (this.#handlers[fd] === undefined) return;
    this.#epoll.remove(fd);
    this.#forget(fd);
  }

  /** Stops watching and closes; the kernel drops a closed descriptor from the set by itself. */
  close(fd: number): void {
    if (this.#handlers[fd] !== undefined) this.#forget(fd);
    if (this.#note !== undefined) this.#note.table[fd] = 0;
    closeDescriptor(fd);
  }

  /** Sets or moves a timer; it fires up to one tick late. */
  setTimer(timer: Timer, delayMs: number): void {
    this.#wheel.set(timer, this.nowMs, delayMs);
  }

  cancelTimer(timer: Timer): void {
    this.#wheel.cancel(timer);
  }

  /** Runs `work.flush` when all ready descriptors of this turn have been handled. */
  defer(work: Deferred): void {
    if (work.deferred) return;
    work.deferred = true;
    this.#deferred.push(work);
  }

  /** Runs turns until `stop`. */
  run(): void {
    this.#running = true;
    this.nowMs = this.#clock();
    while (this.#running) this.turn(-1);
  }

  stop(): void {
    this.#running = false;
  }

  /** One turn; waits at most `maxWaitMs` (-1: until something happens). */
  turn(maxWaitMs: number): void {
    let timeout = maxWaitMs;
    if (this.#deferred.length > 0) timeout = 0;
    else {
      // As of the last turn: a turn is short beside a tick, and asking for the time is not free.
      const sleep = this.#wheel.sleepMs(this.nowMs);
      if (sleep >= 0 && (timeout < 0 || sleep < timeout)) timeout = sleep;
    }
    const n = this.#epoll.wait(timeout);
    this.turns++;
    this.nowMs = this.#clock();
    for (let i = 0; i < n; i++) {
      const fd = this.#epoll.eventFd(i);
      if (this.#generations[fd] !== this.#epoll.eventGeneration(i)) continue;
      const handler = this.#handlers[fd];
      if (handler !== undefined) handler.ready(this.#epoll.eventMask(i));
    }
    this.#wheel.advance(this.nowMs);
    this.#flush();
  }

  /** Closes the epoll set and the wake-up descriptor; registered descriptors are their owners' to close. */
  dispose(): void {
    this.#epoll.close();
    closeDescriptor(this.wakeFd);
  }

  /** Work deferred while flushing waits for the next turn, which then does not sleep: descriptors are not starved. */
  #flush(): void {
    const work = this.#deferred;
    if (work.length === 0) return;
    this.#deferred = this.#flushing;
    this.#flushing = work;
    for (let i = 0; i < work.length; i++) {
      work[i].deferred = false;
      work[i].flush();
    }
    work.length = 0;
  }

  #forget(fd: number): void {
    this.#handlers[fd] = undefined;
    this.#generations[fd] = (this.#generations[fd] + 1) | 0;
    this.#open--;
  }
}

export { Timer, type TimerTarget };
