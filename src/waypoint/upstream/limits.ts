/**
 * How much a cluster takes at once (circuit breakers, waypoint.md 4.7): connections, requests that wait, requests under way, retries.
 *
 * A limit is the cluster's and not a worker's: each worker writes its own board and reads those of the others, so that what a lost worker
 * counted goes away with its board. Two workers may pass a limit at the same instant, as Envoy's may.
 */
import type { LimitsSpec } from "../spec/mod.ts";

export const Limited = { CONNECTIONS: 0, PENDING: 1, REQUESTS: 2, RETRIES: 3 } as const;
export type LimitedKind = (typeof Limited)[keyof typeof Limited];
export const LIMITED_KINDS = 4;

/** One worker's counts of one cluster: LIMITED_KINDS numbers, perhaps in shared memory. */
export type LimitBoard = Int32Array;

export class Limits {
  readonly #own: LimitBoard;
  readonly #others: readonly LimitBoard[];
  #spec: LimitsSpec;

  constructor(spec: LimitsSpec, own: LimitBoard, others: readonly LimitBoard[]) {
    this.#spec = spec;
    this.#own = own;
    this.#others = others;
    own.fill(0);
  }

  set spec(spec: LimitsSpec) {
    this.#spec = spec;
  }

  /** One more of the kind may be had. */
  allows(kind: LimitedKind): boolean {
    const most = this.#most(kind);
    return most === Infinity || this.active(kind) < most;
  }

  add(kind: LimitedKind, change: number): void {
    this.#own[kind] += change;
  }

  /** In all workers. */
  active(kind: LimitedKind): number {
    let active = this.#own[kind];
    for (const other of this.#others) active += Math.max(0, other[kind]);
    return active;
  }

  #most(kind: LimitedKind): number {
    const spec = this.#spec;
    switch (kind) {
      case Limited.CONNECTIONS:
        return spec.maxConnections;
      case Limited.PENDING:
        return spec.maxPending;
      case Limited.REQUESTS:
        return spec.maxRequests;
      case Limited.RETRIES: {
        const { retryBudget: budget, maxRetries } = spec;
        if (budget === undefined) return maxRetries;
        const busy = this.active(Limited.REQUESTS) + this.active(Limited.PENDING);
        return Math.max(budget.minConcurrency, Math.floor(busy * budget.percent / 100));
      }
    }
  }
}
