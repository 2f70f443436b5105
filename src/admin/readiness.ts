/** Readiness, port 15021: ready when every start-up task is done. */
import type { Hono } from "hono";
import { createApp } from "./app.ts";

/** Start-up tasks as Istio's ztunnel names them. */
export type ReadinessTask = "state manager" | "proxy" | "dns proxy" | "workload proxy manager";

export class Readiness {
  readonly #pending: Set<ReadinessTask>;

  constructor(tasks: Iterable<ReadinessTask>) {
    this.#pending = new Set(tasks);
  }

  done(task: ReadinessTask): void {
    this.#pending.delete(task);
  }

  /** Sorted; empty when ready. */
  get pending(): readonly ReadinessTask[] {
    return [...this.#pending].sort();
  }
}

export function createReadinessApp(readiness: Pick<Readiness, "pending">): Hono {
  const app = createApp();
  app.all("/healthz/ready", (c) => {
    if (c.req.method !== "GET") return c.body(null, 405);
    const { pending } = readiness;
    if (pending.length === 0) return c.text("ready\n");
    return c.text(`not ready, pending: ${pending.join(", ")}\n`, 500);
  });
  return app;
}
