/**
 * Outgoing sockets of a pod that opens many connections, made several at a time: the way into its network namespace and back costs more than
 * a socket. Who opens few gets each made when it is asked for, and what was not used is closed within seconds.
 */
import { type Reactor, Timer, type TimerTarget } from "./reactor.ts";
import type { SocketFactory } from "./socket_factory.ts";

/** Sockets of one visit: most of what can be saved is saved, and no pod holds descriptors that others miss. */
const MOST = 8;
/** Taken in one period, this many are worth one more in stock. */
const TAKEN_PER_SPARE = 16;
const PERIOD_MS = 1_000;

export class SocketStock implements TimerTarget {
  readonly #reactor: Reactor;
  readonly #factory: SocketFactory;
  readonly #timer = new Timer(this);
  /** Of one family, the last that was asked for: a pod hardly ever connects by both. */
  readonly #spare: number[] = [];
  #family = 0;
  #taken = 0;
  #takenBefore = 0;

  constructor(reactor: Reactor, factory: SocketFactory) {
    this.#reactor = reactor;
    this.#factory = factory;
  }

  /** How many lie here. */
  get size(): number {
    return this.#spare.length;
  }

  /** A socket with all options but keepalive, the caller's from now on: the descriptor, or `-errno`. */
  take(family: number): number {
    this.#taken++;
    if (this.#timer.slot === -1) this.#reactor.setTimer(this.#timer, PERIOD_MS);
    if (family !== this.#family) {
      this.close();
      this.#family = family;
    }
    const spare = this.#spare.pop();
    if (spare !== undefined) return spare;
    const spares = Math.min(MOST - 1, Math.floor(Math.max(this.#taken, this.#takenBefore) / TAKEN_PER_SPARE));
    const fd = this.#factory.createClients(family, spares, this.#spare);
    for (const made of this.#spare) this.#reactor.own(made);
    return fd;
  }

  expired(): void {
    if (this.#taken === 0) this.close();
    this.#takenBefore = this.#taken;
    this.#taken = 0;
    if (this.#takenBefore > 0) this.#reactor.setTimer(this.#timer, PERIOD_MS);
  }

  /** Closes what lies here; it may be used again. */
  close(): void {
    for (const fd of this.#spare.splice(0)) this.#reactor.close(fd);
  }
}
