/**
 * Who may work now: one at a time for each key, in the order of asking; and of those at most so many in the parts that cost CPU.
 */

export class KeyedLock {
  readonly #tails = new Map<string, Promise<unknown>>();

  /** Runs `task` when those before it with this key are through. A task that is still waiting when `signal` aborts does not run. */
  run<T>(key: string, signal: AbortSignal | undefined, task: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(key) ?? Promise.resolve();
    const result = before.then(() => {
      signal?.throwIfAborted();
      return task();
    });
    const tail = result.catch(() => {});
    this.#tails.set(key, tail);
    tail.then(() => {
      if (this.#tails.get(key) === tail) this.#tails.delete(key);
    });
    return result;
  }

  /** Whether anybody works or waits under this key. */
  busy(key: string): boolean {
    return this.#tails.has(key);
  }
}

export class Semaphore {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(count: number) {
    this.#free = count;
  }

  async run<T>(task: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await task();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#free++;
      else next();
    }
  }
}
