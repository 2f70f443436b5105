/** What comes by callback, taken one by one in the order in which it came. */
import { within } from "./wait.ts";

export class Inbox<T> {
  readonly #items: T[] = [];
  readonly #takers: ((item: T) => void)[] = [];
  readonly #what: string;

  /** `what` is for the message when nothing comes. */
  constructor(what: string) {
    this.#what = what;
  }

  get waiting(): number {
    return this.#items.length;
  }

  readonly put = (item: T): void => {
    const taker = this.#takers.shift();
    if (taker === undefined) this.#items.push(item);
    else taker(item);
  };

  take(timeoutMs = 10_000): Promise<T> {
    if (this.#items.length > 0) return Promise.resolve(this.#items.shift()!);
    return within(timeoutMs, this.#what, (resolve) => this.#takers.push(resolve));
  }
}
