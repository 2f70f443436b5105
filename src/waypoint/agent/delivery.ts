/**
 * Changes on their way into force: one after the other, each in slices, the next when every worker has the one before. So no worker is ever behind by
 * more than a slice, and what else it is told (a name that was looked up, the verdict about a token) does not wait behind a large change.
 */
import type { ToWorker } from "../worker/messages.ts";
import type { LimitSlots } from "./limit_slots.ts";
import type { Change } from "./live_config.ts";
import { slices } from "./slices.ts";

export interface DeliveryOptions {
  readonly workers: {
    nextEpoch(): number;
    broadcast(message: ToWorker): void;
    confirmed(epoch: number): Promise<void>;
  };
  readonly slots: LimitSlots;
  /** Nobody is served yet: nothing has to wait for anything. */
  readonly whole: () => boolean;
}

export class Delivery {
  readonly #options: DeliveryOptions;
  #last: Promise<void> = Promise.resolve();

  constructor(options: DeliveryOptions) {
    this.#options = options;
  }

  /** Resolves when it is in force in every worker. */
  deliver(change: Change): Promise<void> {
    const done = this.#last.then(() => this.#post(change));
    this.#last = done;
    return done;
  }

  async #post(change: Change): Promise<void> {
    const { workers, slots, whole } = this.#options;
    for (const part of whole() ? [change] : slices(change)) {
      const epoch = workers.nextEpoch();
      const places = slots.take((part.clusters ?? []).map(({ name }) => name));
      slots.release(part.removedClusters ?? []);
      workers.broadcast({ type: "config", update: { epoch, ...part }, places });
      await workers.confirmed(epoch);
    }
  }
}
