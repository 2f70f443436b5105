/**
 * Earliest deadline first: each item comes up as often as its weight says, and evenly in between (as Envoy's EdfScheduler does). An item's
 * weight is asked for each time it is put back, so that weights may change as time goes on.
 */
export class EdfSchedule<Item> {
  readonly #items: Item[] = [];
  readonly #deadlines: number[] = [];
  readonly #weightOf: (item: Item) => number;
  #now = 0;

  /** `random` spreads the first deadlines: workers that start together must not all choose the same one first. Weights are above 0. */
  constructor(items: readonly Item[], weightOf: (item: Item) => number, random: () => number) {
    this.#weightOf = weightOf;
    for (const item of items) this.#push(item, random() / weightOf(item));
  }

  next(): Item | undefined {
    const { length } = this.#items;
    if (length === 0) return undefined;
    const item = this.#items[0];
    this.#now = this.#deadlines[0];
    this.#deadlines[0] = this.#now + 1 / this.#weightOf(item);
    this.#sink(0);
    return item;
  }

  #push(item: Item, deadline: number): void {
    const items = this.#items, deadlines = this.#deadlines;
    let at = items.length;
    items.push(item);
    deadlines.push(deadline);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (deadlines[parent] <= deadline) break;
      items[at] = items[parent];
      deadlines[at] = deadlines[parent];
      at = parent;
    }
    items[at] = item;
    deadlines[at] = deadline;
  }

  #sink(from: number): void {
    const items = this.#items, deadlines = this.#deadlines;
    const item = items[from], deadline = deadlines[from];
    let at = from;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= items.length) break;
      if (child + 1 < items.length && deadlines[child + 1] < deadlines[child]) child++;
      if (deadlines[child] >= deadline) break;
      items[at] = items[child];
      deadlines[at] = deadlines[child];
      at = child;
    }
    items[at] = item;
    deadlines[at] = deadline;
  }
}
