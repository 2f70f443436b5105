/**
 * The order in which certificates are asked for: eight requests at once, the most urgent first, then the one that waits longest
 * (reference ztunnel, section 4).
 */

/** A connection or a pod waits for it; a pod may soon; nobody notices yet. */
export type Priority = "realtime" | "warmup" | "background";

/** Requests in flight at once, as ztunnel's worker has them: istiod signs for the whole mesh. */
export const IN_FLIGHT = 8;

const RANKS: Readonly<Record<Priority, number>> = { realtime: 0, warmup: 1, background: 2 };

/** A place in the queue. */
export interface Ticket {
  priority: Priority;
  readonly run: () => Promise<unknown>;
  state: "waiting" | "running" | "over";
}

export class RequestQueue {
  readonly #waiting = new Set<Ticket>();
  #inFlight = 0;

  /** Requests that wait for a place. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /** Runs `run`, perhaps at once, when its turn comes. It must not reject. */
  add(priority: Priority, run: () => Promise<unknown>): Ticket {
    const ticket: Ticket = { priority, run, state: "waiting" };
    this.#waiting.add(ticket);
    this.#fill();
    return ticket;
  }

  /** A more urgent wish for what waits already; never makes it less urgent. */
  raise(ticket: Ticket, priority: Priority): void {
    if (RANKS[priority] < RANKS[ticket.priority]) ticket.priority = priority;
  }

  /** Takes out what waits; false when it runs or has run. */
  remove(ticket: Ticket): boolean {
    if (!this.#waiting.delete(ticket)) return false;
    ticket.state = "over";
    return true;
  }

  #fill(): void {
    while (this.#inFlight < IN_FLIGHT && this.#waiting.size > 0) {
      const ticket = this.#next();
      this.#waiting.delete(ticket);
      ticket.state = "running";
      this.#inFlight++;
      ticket.run().finally(() => {
        ticket.state = "over";
        this.#inFlight--;
        this.#fill();
      });
    }
  }

  /** The set keeps the order in which they came. A look at each: there are as many as identities on a node, and a request costs a thousand looks. */
  #next(): Ticket {
    let best: Ticket | undefined;
    for (const ticket of this.#waiting) {
      if (best === undefined || RANKS[ticket.priority] < RANKS[best.priority]) best = ticket;
    }
    return best as Ticket;
  }
}
