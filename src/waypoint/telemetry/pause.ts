/**
 * Work that must be awaited, in a thread that never awaits: it is done while the reactor rests, for as short as it can be. The worker's entry runs
 * the reactor and this in turn: `for (;;) { plane.run(); await pause.run(); }`.
 */
export class Pause {
  #work: (() => Promise<void>)[] = [];
  #stop: () => void = () => {};

  /** `stop` makes the reactor's run return after its turn. */
  attach(stop: () => void): void {
    this.#stop = stop;
    if (this.#work.length > 0) stop();
  }

  /** `work` must not reject, and must not wait for the network. */
  order(work: () => Promise<void>): void {
    this.#work.push(work);
    this.#stop();
  }

  async run(): Promise<void> {
    for (const work of this.#work.splice(0)) await work();
  }
}
