/** A worker's side of a CPU profile: orders come with the messages, and are carried out while the reactor rests. */
import { ThreadProfiler } from "../platform/profiler.ts";
import type { WorkerProfile } from "./cpu_profile.ts";

export type ProfileOrder = { readonly do: "start"; readonly intervalUs: number } | { readonly do: "stop" };

export class WorkerProfiler {
  readonly #answer: (answer: WorkerProfile) => void;
  #orders: ProfileOrder[] = [];
  #profiler: ThreadProfiler | undefined;
  #problem = "it was not begun";

  constructor(answer: (answer: WorkerProfile) => void) {
    this.#answer = answer;
  }

  /** The reactor must stop after this turn, for `run`. */
  order(order: ProfileOrder): void {
    this.#orders.push(order);
  }

  /** Carries out what was ordered. Never rejects: a profile is not worth a worker. */
  async run(): Promise<void> {
    for (const order of this.#orders.splice(0)) {
      try {
        if (order.do === "start") this.#profiler ??= await ThreadProfiler.start(order.intervalUs);
        else await this.#stop();
      } catch (error) {
        this.#problem = error instanceof Error ? error.message : String(error);
        if (order.do === "stop") this.#answer({ error: this.#problem });
      }
    }
  }

  async #stop(): Promise<void> {
    const profiler = this.#profiler;
    this.#profiler = undefined;
    this.#answer(profiler === undefined ? { error: this.#problem } : { profile: await profiler.stop() });
  }
}
