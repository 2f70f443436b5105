/**
 * Keepalive for connections that have lived a while. Its four system calls are a noticeable part of what a short connection costs, and
 * the first probe is minutes away, so nobody can tell the difference.
 */
import { type Keepalive, setKeepalive } from "../platform/socket.ts";
import { type Deferred, type Reactor, Timer, type TimerTarget } from "./reactor.ts";

export const LATE_MS = 1_000;
/** Sockets of one turn: a fraction of a millisecond. */
const SLICE = 128;

export class LateKeepalive implements TimerTarget, Deferred {
  deferred = false;
  readonly #reactor: Reactor;
  readonly #keepalive: Keepalive | undefined;
  readonly #timer = new Timer(this);
  /** Oldest first, three numbers each: the descriptor, which registration of it, and when it is due. */
  #waiting: number[] = [];
  #head = 0;

  /** Undefined: there is no keepalive. */
  constructor(reactor: Reactor, keepalive: Keepalive | undefined) {
    this.#reactor = reactor;
    this.#keepalive = keepalive;
  }

  /** For a socket that is watched now. One that is not watched any more when the time comes is left alone. */
  add(fd: number): void {
    const generation = this.#reactor.generation(fd);
    if (this.#keepalive === undefined || generation === 0) return;
    this.#waiting.push(fd, generation, this.#reactor.nowMs + LATE_MS);
    if (this.#timer.slot === -1 && !this.deferred) this.#reactor.setTimer(this.#timer, LATE_MS);
  }

  expired(): void {
    this.flush();
  }

  flush(): void {
    const { nowMs } = this.#reactor;
    const waiting = this.#waiting;
    for (let i = 0; i < SLICE && this.#head < waiting.length && waiting[this.#head + 2] <= nowMs; i++) {
      const fd = waiting[this.#head];
      if (this.#reactor.generation(fd) === waiting[this.#head + 1]) setKeepalive(fd, this.#keepalive as Keepalive);
      this.#head += 3;
    }
    if (this.#head >= waiting.length) {
      this.#waiting = [];
      this.#head = 0;
    } else if (waiting[this.#head + 2] <= nowMs) {
      this.#reactor.defer(this);
    } else {
      this.#waiting = waiting.slice(this.#head);
      this.#head = 0;
      this.#reactor.setTimer(this.#timer, this.#waiting[2] - nowMs);
    }
  }
}
