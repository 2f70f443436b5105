/**
 * Asking the control plane for what a worker's question is about before it is answered (XDS_ON_DEMAND, reference ztunnel 3.4). Lives on
 * the main thread.
 *
 * A destination that the control plane has not told of yet is not taken for one outside the mesh: its question stays open until there is
 * word of it, and the worker refuses the connection after its own time. What only names things is waited for shortly.
 */
import type { Limits } from "../telemetry/limits.ts";
import { type MeshStore, missingForAddress, missingServices } from "../mesh/mod.ts";
import type { MeshQuery } from "./messages.ts";

export type DemandResult = "arrived" | "absent" | "rejected" | "timeout" | "overloaded" | "closed";

export interface OnDemandOptions {
  readonly store: MeshStore;
  /** Asks for an address, by name. */
  readonly demand: (name: string, timeoutMs: number) => Promise<DemandResult>;
  readonly limits: Pick<Limits, "reached">;
  readonly schedule: (task: () => void, delayMs: number) => () => void;
}

/** For what a connection's fate depends on; asked again after it. */
const NEEDED_MS = 15_000;
/** Below the worker's own patience: labels, and what a waypoint may be asked for. */
const NICE_TO_KNOW_MS = 2_000;
const OVERLOAD_REST_MS = 1_000;
/** Of names a question was settled without, so that a mesh which refers to what does not exist ends. */
const MAX_ROUNDS = 8;

export class OnDemandMesh {
  readonly #options: OnDemandOptions;

  constructor(options: OnDemandOptions) {
    this.#options = options;
  }

  /** Undefined: all is there. Else resolves when the question can be answered; false: it never can. */
  complete(query: MeshQuery): Promise<boolean> | undefined {
    return this.#missing(query, new Set()).length === 0 ? undefined : this.#fetch(query);
  }

  async #fetch(query: MeshQuery): Promise<boolean> {
    const needed = query.kind === "address" && query.namespace !== undefined;
    const settled = new Set<string>();
    for (let round = 0; round < MAX_ROUNDS;) {
      const names = this.#missing(query, settled);
      if (names.length === 0) return true;
      const results = await Promise.all(
        names.map((name) => this.#options.demand(name, needed ? NEEDED_MS : NICE_TO_KNOW_MS)),
      );
      if (results.includes("closed")) return false;
      if (results.includes("overloaded")) {
        this.#options.limits.reached("on_demand_names");
        if (needed) await this.#rest();
      }
      let progress = false;
      for (const [i, result] of results.entries()) {
        if (needed && (result === "timeout" || result === "overloaded")) continue;
        settled.add(names[i]);
        progress = true;
      }
      if (progress) round++;
    }
    return true;
  }

  #missing(query: MeshQuery, settled: ReadonlySet<string>): readonly string[] {
    return this.#namesFor(query).filter((name) => !settled.has(name));
  }

  #namesFor(query: MeshQuery): readonly string[] {
    const { store } = this.#options;
    switch (query.kind) {
      case "address": {
        const { primary, references } = missingForAddress(store, query.network, query.ip, query.namespace);
        return primary === undefined ? references : [primary];
      }
      case "hostname":
      case "workload": {
        const workload = store.workloadByUid(query.uid);
        return workload === undefined ? [] : missingServices(store, workload);
      }
      case "dns":
        // The DNS proxy and on-demand exclude each other; a name asked for by SOCKS goes to the name servers.
        return [];
    }
  }

  #rest(): Promise<void> {
    return new Promise((resolve) => {
      this.#options.schedule(resolve, OVERLOAD_REST_MS);
    });
  }
}
