/**
 * Who waits for resources that were asked for by name. Several may wait for one name; each has its own limit of time.
 *
 * Beyond ztunnel: there nobody ever stops waiting, and who comes second for a name releases the first with nothing.
 */

/**
 * `arrived`: it is in force. `absent`: there is no such resource. `rejected`: it came and cannot be used. `timeout`: nothing came in
 * time. `overloaded`: too many names are waited for. `closed`: the client is.
 */
export type DemandOutcome = "arrived" | "absent" | "rejected" | "timeout" | "overloaded" | "closed";

/** A name costs some 200 bytes here and a request to istiod. */
export const MAX_WAITING_NAMES = 10_000;

type Schedule = (task: () => void, delayMs: number) => () => void;

export class Waiters {
  readonly #schedule: Schedule;
  readonly #maxNames: number;
  readonly #byName = new Map<string, Set<(outcome: DemandOutcome) => void>>();

  constructor(schedule: Schedule, maxNames = MAX_WAITING_NAMES) {
    this.#schedule = schedule;
    this.#maxNames = maxNames;
  }

  /** Names that are waited for. */
  get size(): number {
    return this.#byName.size;
  }

  has(name: string): boolean {
    return this.#byName.has(name);
  }

  /** Resolves when the name is settled or the time is up. */
  wait(name: string, timeoutMs: number): Promise<DemandOutcome> {
    let waiting = this.#byName.get(name);
    if (waiting === undefined) {
      if (this.#byName.size >= this.#maxNames) return Promise.resolve("overloaded");
      waiting = new Set();
      this.#byName.set(name, waiting);
    }
    const own = waiting;
    return new Promise((resolve) => {
      const settle = (outcome: DemandOutcome) => {
        cancel();
        own.delete(settle);
        if (own.size === 0 && this.#byName.get(name) === own) this.#byName.delete(name);
        resolve(outcome);
      };
      const cancel = this.#schedule(() => settle("timeout"), timeoutMs);
      own.add(settle);
    });
  }

  /** Lets everybody go who waits for the name. */
  settle(name: string, outcome: DemandOutcome): void {
    for (const waiter of [...this.#byName.get(name) ?? []]) waiter(outcome);
  }

  settleAll(outcome: DemandOutcome): void {
    for (const name of [...this.#byName.keys()]) this.settle(name, outcome);
  }
}
