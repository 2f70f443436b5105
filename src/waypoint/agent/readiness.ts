/**
 * Whether the waypoint serves, waypoint.md 1.5: not before it has its certificate and all of a first configuration, and every worker has it in force.
 * Reached once, it stays so until the drain begins: losing istiod breaks no traffic, and must not take the pod out of its Service.
 */

export interface ReadinessFacts {
  /** Certificate and roots of the mesh are here. */
  readonly certified: boolean;
  /** Types of which a first response was taken in. */
  readonly arrived: ReadonlySet<"clusters" | "listeners">;
  /** What was asked for by name and has not come. */
  readonly missingEndpoints: number;
  readonly missingFilters: number;
  /** Workers that have all of it in force and accept. */
  readonly serving: boolean;
}

/** What goes before a reason, for a probe's log. */
const NOT_READY = "not ready: ";

export class WaypointReadiness {
  #facts: ReadinessFacts = {
    certified: false,
    arrived: new Set(),
    missingEndpoints: 0,
    missingFilters: 0,
    serving: false,
  };
  #reached = false;
  #draining = false;
  #control = "";
  readonly #onReady: () => void;

  /** @param onReady called once */
  constructor(onReady: () => void) {
    this.#onReady = onReady;
  }

  observe(facts: Partial<ReadinessFacts>): void {
    this.#facts = { ...this.#facts, ...facts };
    if (this.#reached || this.#missing() !== undefined) return;
    this.#reached = true;
    this.#onReady();
  }

  /** Why there is no configuration yet: what the way to istiod came to last. */
  explain(reason: string): void {
    this.#control = reason;
  }

  drain(): void {
    this.#draining = true;
  }

  get ready(): boolean {
    return this.#reached && !this.#draining;
  }

  /** Requests have been served. */
  get reached(): boolean {
    return this.#reached;
  }

  get draining(): boolean {
    return this.#draining;
  }

  /** For a person; "" when ready. */
  get reason(): string {
    if (this.#draining) return `${NOT_READY}draining`;
    if (this.#reached) return "";
    return NOT_READY + this.#missing();
  }

  #missing(): string | undefined {
    const { certified, arrived, missingEndpoints, missingFilters, serving } = this.#facts;
    const last = this.#control === "" ? "" : ` (${this.#control})`;
    if (!certified) return `no certificate yet${last}`;
    if (!arrived.has("clusters")) return `no clusters from istiod yet${last}`;
    if (missingEndpoints > 0) return `endpoints of ${missingEndpoints} clusters have not come from istiod yet${last}`;
    if (!arrived.has("listeners")) return `no listeners from istiod yet${last}`;
    if (missingFilters > 0) return `${missingFilters} filters have not come from istiod yet${last}`;
    if (!serving) return "the workers are not up yet";
    return undefined;
  }
}
