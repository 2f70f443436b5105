/** Timers that fire when the test says so. */
export class VirtualTime {
  now = 0;
  #timers: { readonly at: number; readonly task: () => void }[] = [];

  readonly schedule = (task: () => void, delayMs: number): () => void => {
    const timer = { at: this.now + delayMs, task };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  };

  get pending(): number {
    return this.#timers.length;
  }

  async advance(ms: number): Promise<void> {
    const end = this.now + ms;
    for (;;) {
      const [next] = this.#timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at);
      if (next === undefined) break;
      this.#timers = this.#timers.filter((other) => other !== next);
      this.now = next.at;
      next.task();
      await Promise.resolve();
    }
    this.now = end;
    await Promise.resolve();
  }
}
