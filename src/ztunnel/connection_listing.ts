/** The open connections of a worker, told to the main thread a slice a turn: ten thousand at once would hold up all others. */
import type { Deferred } from "../net/reactor.ts";
import type { ConnectionRecord } from "./connection_record.ts";
import type { ConnectionView } from "./messages.ts";

/** About a millisecond's work, most of it the copy to the main thread. */
const SLICE = 250;

export interface ListingTarget {
  /** `last`: all that were open when it was asked for have been told, but those that ended meanwhile. */
  listed(connections: readonly ConnectionView[], last: boolean): void;
  defer(work: Deferred): void;
}

export class ConnectionListing implements Deferred {
  deferred = false;
  readonly #left: Iterator<ConnectionRecord>;
  readonly #target: ListingTarget;

  constructor(records: ReadonlySet<ConnectionRecord>, target: ListingTarget) {
    this.#left = [...records].values();
    this.#target = target;
  }

  flush(): void {
    const connections: ConnectionView[] = [];
    for (let i = 0; i < SLICE; i++) {
      const { value, done } = this.#left.next();
      if (done) return this.#target.listed(connections, true);
      if (!value.ended) connections.push(value.view());
    }
    this.#target.listed(connections, false);
    this.#target.defer(this);
  }
}
