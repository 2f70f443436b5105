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

interface Waiting {
  readonly message: () => TelemetryMessage;
  readonly items: unknown[];
}

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
    const items: SpanRecord[] = [];
    this.#add(to, span, { items, message: () => ({ kind: "spans", to, spans: items.splice(0) }) });
  };

  readonly record = (to: LogCollector, record: LogRecord): void => {
    const items: LogRecord[] = [];
    this.#add(to, record, { items, message: () => ({ kind: "logs", to, records: items.splice(0) }) });
  };

  flush(): void {
    this.#armed = false;
    this.#sinceFlush = 0;
    for (const { items, message } of this.#waiting.values()) if (items.length > 0) this.#post(message());
    // Collectors of chains that are gone must not be remembered.
    this.#waiting.clear();
  }

  #add(to: object, item: unknown, fresh: Waiting): void {
    if (this.#sinceFlush >= MAX_IN_FLUSH) {
      this.dropped++;
      return;
    }
    this.#sinceFlush++;
    let waiting = this.#waiting.get(to);
    if (waiting === undefined) this.#waiting.set(to, waiting = fresh);
    waiting.items.push(item);
    if (waiting.items.length >= BATCH) this.#post(waiting.message());
    if (this.#armed) return;
    this.#armed = true;
    this.#timing.setTimer(this.#timer, FLUSH_MS);
  }
}
