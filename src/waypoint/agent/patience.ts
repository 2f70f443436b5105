/** How long each of several things has waited, told by looking at them now and then. One that comes while others wait begins at nothing. */
export class Patience<Thing> {
  readonly #looks = new Map<Thing, number>();
  readonly #enough: number;

  /** `looks`: after so many it has waited long enough; it may have come just before the first of them. */
  constructor(looks: number) {
    this.#enough = looks;
  }

  /** These wait now; others do not any more. */
  look(waiting: ReadonlySet<Thing>): void {
    for (const known of this.#looks.keys()) if (!waiting.has(known)) this.#looks.delete(known);
    for (const each of waiting) this.#looks.set(each, (this.#looks.get(each) ?? 0) + 1);
  }

  isOver(thing: Thing): boolean {
    return (this.#looks.get(thing) ?? 0) > this.#enough;
  }

  forget(thing: Thing): void {
    this.#looks.delete(thing);
  }

  clear(): void {
    this.#looks.clear();
  }
}
