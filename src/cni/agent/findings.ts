/** What one look at one captured pod has found, and what became of it. */
import type { Logger } from "../../telemetry/log.ts";
import { messageOf } from "./errors.ts";
import type { PodRecord } from "./pod_table.ts";
import { type MeshPod, podKey } from "./pods.ts";
import type { AgentCounters, DriftKind } from "./ports.ts";

export interface FindingsOptions {
  readonly log: Logger;
  readonly counters: AgentCounters;
  /** A pod stays, or falls again and again, out of order. */
  readonly persists: (pod: MeshPod, what: string) => void;
}

/** Looks in a row that found the same pod out of order: somebody works against us. */
const PERSISTENT = 3;
const SCOPE = "cni-agent";

export class Findings {
  readonly #options: FindingsOptions;
  readonly #record: PodRecord;
  readonly #drift: string[] = [];
  readonly #problems: string[] = [];

  constructor(options: FindingsOptions, record: PodRecord) {
    this.#options = options;
    this.#record = record;
  }

  problem(what: string): void {
    this.#problems.push(what);
  }

  /** Counts, tells and repairs. Never rejects. */
  async repair(kind: DriftKind, drift: readonly string[], repair: () => Promise<void>): Promise<void> {
    const { counters, log } = this.#options;
    const { pod, uid } = this.#record;
    this.#drift.push(...drift);
    counters.drifted(kind);
    log.log("warn", SCOPE, "a captured pod is not as it was set up: repairing", {
      pod: podKey(pod),
      uid,
      kind,
      drift: drift.join("; "),
    });
    try {
      await repair();
      counters.repaired(kind, true);
    } catch (error) {
      counters.repaired(kind, false);
      this.problem(`${kind}: cannot be repaired: ${messageOf(error)}`);
      log.log("error", SCOPE, "cannot repair a captured pod", { pod: podKey(pod), uid, kind, error: messageOf(error) });
    }
  }

  close(wallMs: number): void {
    const record = this.#record;
    const problem = this.#problems.length === 0 ? undefined : this.#problems.join("; ");
    const before = record.verified;
    record.verified = { wallMs, drift: this.#drift, problem };
    record.drifted = this.#drift.length === 0 ? 0 : record.drifted + 1;
    if (this.#drift.length === 0) return;
    if (problem !== undefined && before?.problem !== undefined) this.#options.persists(record.pod, problem);
    else if (record.drifted >= PERSISTENT) {
      this.#options.persists(record.pod, `again and again not as it was set up: ${this.#drift.join("; ")}`);
    }
  }
}
