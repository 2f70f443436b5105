/**
 * Readiness, port 15021: ready when every start-up task is done. The first line of the answer is Istio's own; a line for each
 * task that is pending follows and says what it waits for, so that nobody has to guess from a restart that helps.
 */
import type { Hono } from "hono";
import { createApp } from "./app.ts";

/** Start-up tasks as Istio's ztunnel names them. */
export type ReadinessTask = "state manager" | "proxy" | "dns proxy" | "workload proxy manager";

interface Pending {
  readonly sinceMs: number;
  reason: string;
}

export class Readiness {
  /** Resolves when it is ready for the first time. */
  readonly first: Promise<void>;
  readonly #reached: () => void;
  readonly #pending = new Map<ReadinessTask, Pending>();
  readonly #nowMs: () => number;

  /** @param nowMs a clock that only moves forward. */
  constructor(tasks: Iterable<ReadinessTask>, nowMs: () => number = () => performance.now()) {
    this.#nowMs = nowMs;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.first = promise;
    this.#reached = resolve;
    for (const task of tasks) this.pend(task, "it has not begun");
  }

  done(task: ReadinessTask): void {
    this.#pending.delete(task);
    if (this.#pending.size === 0) this.#reached();
  }

  /** Not done, or not any more. `reason` completes "TASK: …": what is waited for, or what went wrong last. */
  pend(task: ReadinessTask, reason: string): void {
    const pending = this.#pending.get(task);
    if (pending === undefined) this.#pending.set(task, { sinceMs: this.#nowMs(), reason });
    else pending.reason = reason;
  }

  /** Says better why a task is pending; nothing when it is done. */
  explain(task: ReadinessTask, reason: string): void {
    const pending = this.#pending.get(task);
    if (pending !== undefined) pending.reason = reason;
  }

  /** Sorted; empty when ready. */
  get pending(): readonly ReadinessTask[] {
    return [...this.#pending.keys()].sort();
  }

  /** One line a pending task, in the order of `pending`. */
  get reasons(): readonly string[] {
    return this.pending.map((task) => {
      const { sinceMs, reason } = this.#pending.get(task)!;
      const seconds = Math.floor((this.#nowMs() - sinceMs) / 1000);
      return `${task}: ${oneLine(reason)} (pending for ${seconds} s)`;
    });
  }
}

/** A reason may carry a peer's or the kernel's words. */
function oneLine(text: string): string {
  // deno-lint-ignore no-control-regex
  return text.replace(/[\x00-\x1f\x7f-\x9f\u2028\u2029]+/g, " ").trim().slice(0, 1000);
}

export function createReadinessApp(readiness: Pick<Readiness, "pending" | "reasons">): Hono {
  const app = createApp();
  app.all("/healthz/ready", (c) => {
    if (c.req.method !== "GET") return c.body(null, 405);
    const { pending, reasons } = readiness;
    if (pending.length === 0) return c.text("ready\n");
    return c.text(`not ready, pending: ${pending.join(", ")}\n${reasons.map((line) => `${line}\n`).join("")}`, 500);
  });
  return app;
}
