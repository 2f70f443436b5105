/**
 * The queue of the informers' events. Each key has a lane: its events are handled one after the other, and what waits is merged
 * into one item, so that the queue is never longer than there are keys. Lanes run side by side, as many as `concurrency`.
 *
 * A failed item is tried again without limit: 5 ms doubling to 5 s for its lane, and all retries together 10 a second after a
 * burst of 100 (reference cni.md 3.1). Something new for the key is tried at once.
 */
import type { Clock } from "./clock.ts";

const FIRST_DELAY_MS = 5;
const MAX_DELAY_MS = 5_000;
const RETRIES_PER_SECOND = 10;
const RETRY_BURST = 100;

export interface WorkQueueOptions<T> {
  readonly clock: Clock;
  /** Lanes that run at once. */
  readonly concurrency: number;
  /** Rejects to be tried again. */
  readonly handle: (item: T) => Promise<void>;
  /** One item that stands for both; `waiting` came first. */
  readonly merge: (waiting: T, incoming: T) => T;
  readonly retrying: (item: T, error: unknown, attempt: number, delayMs: number) => void;
}

interface Lane<T> {
  readonly key: string;
  item: T | undefined;
  running: boolean;
  failures: number;
  /** In the list of lanes that may run. */
  listed: boolean;
  cancelRetry: (() => void) | undefined;
}

export class WorkQueue<T> {
  readonly #options: WorkQueueOptions<T>;
  readonly #lanes = new Map<string, Lane<T>>();
  readonly #ready: Lane<T>[] = [];
  readonly #retries: TokenBucket;
  #running = 0;
  #started = false;
  #stopped = false;
  #idle: (() => void)[] = [];

  constructor(options: WorkQueueOptions<T>) {
    this.#options = options;
    this.#retries = new TokenBucket(options.clock, RETRIES_PER_SECOND, RETRY_BURST);
  }

  /** Keys with something to do. */
  get size(): number {
    return this.#lanes.size;
  }

  add(key: string, item: T): void {
    if (this.#stopped) return;
    let lane = this.#lanes.get(key);
    if (lane === undefined) {
      lane = { key, item: undefined, running: false, failures: 0, listed: false, cancelRetry: undefined };
      this.#lanes.set(key, lane);
    }
    lane.item = lane.item === undefined ? item : this.#options.merge(lane.item, item);
    lane.cancelRetry?.();
    lane.cancelRetry = undefined;
    this.#list(lane);
  }

  /** What was added before waits for this. */
  start(): void {
    this.#started = true;
    this.#pump();
  }

  /** Begins nothing more; resolves when what runs has ended. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#ready.length = 0;
    for (const lane of this.#lanes.values()) lane.cancelRetry?.();
    if (this.#running > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  #list(lane: Lane<T>): void {
    if (lane.running || lane.listed || this.#stopped) return;
    lane.listed = true;
    this.#ready.push(lane);
    this.#pump();
  }

  #pump(): void {
    while (this.#started && !this.#stopped && this.#running < this.#options.concurrency) {
      const lane = this.#ready.shift();
      if (lane === undefined) return;
      lane.listed = false;
      void this.#run(lane);
    }
  }

  async #run(lane: Lane<T>): Promise<void> {
    const item = lane.item;
    if (item === undefined) return;
    lane.item = undefined;
    lane.running = true;
    this.#running++;
    try {
      await this.#options.handle(item);
      lane.failures = 0;
      lane.running = false;
      if (lane.item === undefined) this.#lanes.delete(lane.key);
      else this.#list(lane);
    } catch (error) {
      lane.running = false;
      this.#retry(lane, item, error);
    }
    this.#running--;
    if (this.#running === 0) { for (const done of this.#idle.splice(0)) done(); }
    this.#pump();
  }

  #retry(lane: Lane<T>, item: T, error: unknown): void {
    lane.failures++;
    const { clock, merge, retrying } = this.#options;
    if (lane.item !== undefined) {
      // Something new came meanwhile: what failed is part of it.
      lane.item = merge(item, lane.item);
      retrying(lane.item, error, lane.failures, 0);
      this.#list(lane);
      return;
    }
    lane.item = item;
    const backoff = Math.min(MAX_DELAY_MS, FIRST_DELAY_MS * 2 ** Math.min(lane.failures - 1, 20));
    const delayMs = Math.max(backoff, this.#retries.take());
    retrying(item, error, lane.failures, delayMs);
    if (this.#stopped) return;
    lane.cancelRetry = clock.schedule(() => {
      lane.cancelRetry = undefined;
      this.#list(lane);
    }, delayMs);
  }
}

/** A token a take; `take` says how long its token takes to come. */
export class TokenBucket {
  readonly #clock: Clock;
  readonly #perMs: number;
  readonly #burst: number;
  #tokens: number;
  #atMs: number;

  constructor(clock: Clock, perSecond: number, burst: number) {
    this.#clock = clock;
    this.#perMs = perSecond / 1000;
    this.#burst = burst;
    this.#tokens = burst;
    this.#atMs = clock.nowMs();
  }

  /** Takes one, if need be one of the future; milliseconds until it is there. */
  take(): number {
    this.#refill();
    this.#tokens--;
    return this.#tokens >= 0 ? 0 : -this.#tokens / this.#perMs;
  }

  /** Takes one if there is one now. */
  tryTake(): boolean {
    this.#refill();
    if (this.#tokens < 1) return false;
    this.#tokens--;
    return true;
  }

  #refill(): void {
    const now = this.#clock.nowMs();
    this.#tokens = Math.min(this.#burst, this.#tokens + (now - this.#atMs) * this.#perMs);
    this.#atMs = now;
  }
}
