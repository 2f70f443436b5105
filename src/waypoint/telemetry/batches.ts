/** Spans and log records on their way to the main thread: many in one message, and never more than so many of a second. */
import { Timer } from "../../net/reactor.ts";
import type { Timing } from "../http/timing.ts";
import type { LogCollector, LogRecord, SpanCollector, SpanRecord, TelemetryMessage } from "./messages.ts";

/** Nobody waits for a span; Envoy's exporters flush as often. */
const FLUSH_MS = 1_000;
/** A message of this many takes the main thread a millisecond or two. */
const BATCH = 256;
/** What a collector that is too slow loses; the main thread has a bound of its own. */
const MAX_IN_FLUSH = 8_192;

type Waiting =
  | { readonly kind: "spans"; readonly to: SpanCollector; items: SpanRecord[] }
  | { readonly kind: "logs"; readonly to: LogCollector; items: LogRecord[] };

export class Batches {
  readonly #timing: Timing;
  readonly #post: (message: TelemetryMessage) => void;
  readonly #waiting = new Map<object, Waiting>();
  readonly #timer = new Timer({ expired: () => this.flush() });
  #armed = false;
  #sinceFlush = 0;
  dropped = 0;

  constructor(timing: Timing, post: (message: TelemetryMessage) => void) {
    this.#timing = timing;
    this.#post = post;
  }

  /** `to` is the same object for the same collector of a chain. */
  readonly span = (to: SpanCollector, span: SpanRecord): void => {
    if (!this.#admit()) return;
    let waiting = this.#waiting.get(to);
    if (waiting === undefined) this.#waiting.set(to, waiting = { kind: "spans", to, items: [] });
    if (waiting.kind === "spans") waiting.items.push(span);
    if (waiting.items.length >= BATCH) this.#send(waiting);
  };

  readonly record = (to: LogCollector, record: LogRecord): void => {
    if (!this.#admit()) return;
    let waiting = this.#waiting.get(to);
    if (waiting === undefined) this.#waiting.set(to, waiting = { kind: "logs", to, items: [] });
    if (waiting.kind === "logs") waiting.items.push(record);
    if (waiting.items.length >= BATCH) this.#send(waiting);
  };

  flush(): void {
    this.#armed = false;
    this.#sinceFlush = 0;
    for (const waiting of this.#waiting.values()) if (waiting.items.length > 0) this.#send(waiting);
    // Collectors of chains that are gone must not be remembered.
    this.#waiting.clear();
  }

  #send(waiting: Waiting): void {
    if (waiting.kind === "spans") this.#post({ kind: "spans", to: waiting.to, spans: waiting.items });
    else this.#post({ kind: "logs", to: waiting.to, records: waiting.items });
    waiting.items = [];
  }

  /** Whether there is room for one more. */
  #admit(): boolean {
    if (this.#sinceFlush >= MAX_IN_FLUSH) {
      this.dropped++;
      return false;
    }
    this.#sinceFlush++;
    if (!this.#armed) {
      this.#armed = true;
      this.#timing.setTimer(this.#timer, FLUSH_MS);
    }
    return true;
  }
}
