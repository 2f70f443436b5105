/**
 * Which chain serves an address, in this worker. What was taken away is still known for a moment: the waypoint often hears of it before the clients'
 * ztunnels do, and their connections would else be refused in between.
 */
import type { Logger } from "../../telemetry/log.ts";
import { type Selection, SelectionParts } from "../engine/selection.ts";
import type { Timing } from "../http/timing.ts";
import type { ChainChoice, ChainName, ConfigUpdate } from "../spec/mod.ts";

/** A ztunnel is told within this time, also by a busy istiod. Shorter than what clusters stay (agent/live_config.ts). */
export const DEPARTED_MS = 5_000;
/** Of one mesh; each may hold thousands of services. */
const MAX_DEPARTED = 4;
const TARGET = "waypoint";

export interface DirectoryOptions {
  readonly timing: Pick<Timing, "nowMs">;
  readonly log: Logger;
  /** A chain that was removed, and may still serve. */
  readonly isDeparted: (chain: ChainName) => boolean;
}

export class Directory {
  readonly #options: DirectoryOptions;
  readonly #parts = new SelectionParts();
  #current: Selection | undefined;
  /** Earlier ones, the newest last. */
  #departed: { readonly selection: Selection; readonly untilMs: number }[] = [];

  constructor(options: DirectoryOptions) {
    this.#options = options;
  }

  /** One that cannot be used must not end the worker, and every other after it: nobody is led anywhere then. */
  apply({ selection, selectionPart, selectionAt = 0 }: ConfigUpdate): void {
    if (selectionPart !== undefined) this.#parts.take(selectionPart);
    if (selection === undefined) return;
    try {
      const made = this.#parts.finish(selection, selectionAt);
      if (made === undefined) return;
      this.#keep();
      this.#current = made;
    } catch (error) {
      this.#current = undefined;
      this.#departed = [];
      this.#options.log.log("error", TARGET, "which chain serves what cannot be told: every request is answered 404", {
        error: (error as Error).message,
      });
    }
  }

  #keep(): void {
    const { nowMs } = this.#options.timing;
    const kept = this.#departed.filter(({ untilMs }) => untilMs > nowMs);
    if (this.#current !== undefined) kept.push({ selection: this.#current, untilMs: nowMs + DEPARTED_MS });
    this.#departed = kept.slice(-MAX_DEPARTED);
  }

  /** Undefined: nobody takes it. */
  find(authority: string, ip: string, port: number): ChainChoice | undefined {
    return this.#current?.find(authority, ip, port) ?? this.#findDeparted(authority, ip, port);
  }

  #findDeparted(authority: string, ip: string, port: number): ChainChoice | undefined {
    const { timing, isDeparted } = this.#options;
    for (let i = this.#departed.length - 1; i >= 0; i--) {
      const { selection, untilMs } = this.#departed[i];
      if (untilMs <= timing.nowMs) break;
      const choice = selection.find(authority, ip, port);
      // A chain that serves others now is not what this address was promised.
      if (choice !== undefined && chainsOf(choice).every(isDeparted)) return choice;
    }
    return undefined;
  }
}

function chainsOf(choice: ChainChoice): readonly ChainName[] {
  return choice.kind === "chain"
    ? [choice.chain]
    : Object.values(choice.protocols).filter((name) => name !== undefined);
}
