/** What workers send or get for the main thread: which worker has which call, and what came of it. */
import type { CollectorCall, CollectorOutcome } from "../worker/collector_calls.ts";
import type { ToWorker } from "../worker/messages.ts";

interface Waiting {
  readonly worker: number;
  readonly resolve: (outcome: CollectorOutcome) => void;
}

export class CollectorCallQueue {
  readonly #waiting = new Map<number, Waiting>();
  #next = 1;

  /** Never rejects. */
  start(worker: number, call: CollectorCall, post: (message: ToWorker) => void): Promise<CollectorOutcome> {
    const id = this.#next++;
    return new Promise((resolve) => {
      this.#waiting.set(id, { worker, resolve });
      post({ type: "call", id, call });
    });
  }

  ended(id: number, outcome: CollectorOutcome): void {
    this.#waiting.get(id)?.resolve(outcome);
    this.#waiting.delete(id);
  }

  /** What a worker had under way went with it. */
  lost(worker: number): void {
    for (const [id, waiting] of this.#waiting) {
      if (waiting.worker === worker) this.ended(id, { failure: "the worker that sent it was lost" });
    }
  }

  close(): void {
    for (const id of [...this.#waiting.keys()]) this.ended(id, { failure: "the process ends" });
  }
}
