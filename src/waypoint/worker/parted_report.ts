/** A worker's answer to `report`, a part in each turn of the reactor: with thousands of clusters no request waits for the whole. */
import type { Deferred, Reactor } from "../../net/reactor.ts";
import type { FromWorker, WorkerReport } from "./messages.ts";

export interface PartedReportOptions {
  readonly id: number;
  /** What is told once. */
  readonly counts: Omit<WorkerReport, "telemetry">;
  /** Each part is made when its turn has come. */
  readonly telemetry: Iterable<unknown>;
  readonly reactor: Pick<Reactor, "defer">;
  readonly post: (message: FromWorker) => void;
}

const NOTHING_MORE: Omit<WorkerReport, "telemetry"> = { connections: 0, streams: 0, refusedChains: {} };

export class PartedReport implements Deferred {
  deferred = false;
  readonly #options: PartedReportOptions;
  readonly #parts: Iterator<unknown>;
  #isFirst = true;

  constructor(options: PartedReportOptions) {
    this.#options = options;
    this.#parts = options.telemetry[Symbol.iterator]();
  }

  flush(): void {
    const { id, counts, reactor, post } = this.#options;
    const { value, done } = this.#parts.next();
    const isLast = done === true;
    post({
      type: "report",
      id,
      report: { ...(this.#isFirst ? counts : NOTHING_MORE), telemetry: isLast ? undefined : value },
      isLast,
    });
    this.#isFirst = false;
    if (!isLast) reactor.defer(this);
  }
}
