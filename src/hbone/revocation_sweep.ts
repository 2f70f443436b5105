/**
 * The revocation lists of a worker, and what becomes of its live tunnels when new ones come (reference ztunnel, section 4): those whose
 * peer is revoked by now end, a slice a turn. New handshakes use the new lists at once.
 */
import type { HboneConnection } from "./connection.ts";
import { RevocationList, type Revocations } from "../platform/revocations.ts";
import type { Deferred } from "../net/reactor.ts";
import type { CrlMetrics } from "../telemetry/crl_metrics.ts";
import type { Reporter } from "../telemetry/traffic_metrics.ts";

/** About a millisecond's work when nothing is revoked: a look-up by serial number for each certificate and list. */
const SLICE = 100;

export class WorkerRevocations implements Revocations {
  #current: RevocationList | undefined;

  get current(): RevocationList | undefined {
    return this.#current;
  }

  /** One PEM text a list; none: nothing is revoked. Contexts made before keep what they have. */
  replace(lists: readonly string[]): void {
    const next = lists.length === 0 ? undefined : new RevocationList(lists);
    this.#current?.free();
    this.#current = next;
  }
}

/** A tunnel, from whichever side. */
export interface SweptTunnel {
  readonly connection: HboneConnection;
  readonly reporter: Reporter;
  /** For the log: which tunnel ended. */
  ended(reason: string): void;
}

export interface SweepOptions {
  readonly revocations: Revocations;
  readonly metrics: CrlMetrics;
  readonly defer: (work: Deferred) => void;
}

export class RevocationSweep implements Deferred {
  deferred = false;
  readonly #tunnels: readonly SweptTunnel[];
  readonly #options: SweepOptions;
  #next = 0;

  /** `tunnels`: all there are now, those that shake hands included. */
  constructor(tunnels: readonly SweptTunnel[], options: SweepOptions) {
    this.#tunnels = tunnels;
    this.#options = options;
  }

  flush(): void {
    const { revocations, metrics, defer } = this.#options;
    const end = Math.min(this.#next + SLICE, this.#tunnels.length);
    for (; this.#next < end; this.#next++) {
      const { connection, reporter, ended } = this.#tunnels[this.#next];
      const outcome = connection.applyRevocations(revocations);
      if (outcome === "untracked") metrics.untracked(reporter);
      if (outcome !== "revoked") continue;
      metrics.rejected(reporter);
      ended(connection.failure?.message ?? "");
    }
    if (end < this.#tunnels.length) defer(this);
  }
}
