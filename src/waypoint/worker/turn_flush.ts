/**
 * When a worker's log is written: once, at the end of a turn, after the connections. While nobody takes it, it is tried again
 * after a rest, because work that defers itself for ever would keep the reactor from sleeping.
 */
import { type Deferred, type Reactor, Timer, type TimerTarget } from "../../net/reactor.ts";

/** A reader that stands still is asked this often. */
const REST_MS = 50;

export class TurnFlush implements Deferred, TimerTarget {
  deferred = false;
  #reactor: Reactor | undefined;
  #flush: (() => void) | undefined;
  readonly #rest = new Timer(this);

  /** From now on there are turns; what was scheduled before is due in the first. */
  attach(reactor: Reactor): void {
    this.#reactor = reactor;
    if (this.#flush !== undefined) reactor.defer(this);
  }

  /** Has `flush` called soon; `blocked`: the last write took nothing. */
  schedule(flush: () => void, blocked: boolean): void {
    this.#flush = flush;
    if (blocked) this.#reactor?.setTimer(this.#rest, REST_MS);
    else this.#reactor?.defer(this);
  }

  flush(): void {
    const flush = this.#flush;
    this.#flush = undefined;
    flush?.();
  }

  expired(): void {
    this.flush();
  }
}
