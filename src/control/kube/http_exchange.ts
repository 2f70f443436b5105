/**
 * One HTTP exchange with the API server. Every wait has an end, every body a size, and whatever happens settles the promise once and
 * leaves no connection behind that nobody reads from.
 */
import type { Fields } from "../../protocol/http1/types.ts";
import type { Connection } from "./connection.ts";
import type { ConnectionPool } from "./connection_pool.ts";
import { type AskedCall, KubeError, networkError, protocolError, timeoutError } from "./kube_error.ts";
import type { Schedule } from "./schedule.ts";

export interface Exchange {
  readonly call: AskedCall;
  readonly pool: ConnectionPool;
  /** With the path of the server's own. */
  readonly path: string;
  readonly fields: Fields;
  readonly body: Uint8Array | undefined;
  readonly signal: AbortSignal | undefined;
  readonly schedule: Schedule;
}

export interface Answer {
  readonly status: number;
  readonly retryAfter: string | undefined;
  readonly body: string;
}

/** Takes the pieces of a body that goes on. What it throws ends the exchange. */
export type Sink = (chunk: Uint8Array) => void;

const ERROR_BODY_BYTES = 64 * 1024;

/** What runs: `settle` ends it, once. */
interface Run<T> {
  readonly done: boolean;
  resolve(value: T): void;
  reject(error: unknown): void;
  /** Another limit of time instead of the last. */
  limit(timeoutMs: number, doing: string): void;
}

/** What reads an answer. */
interface Reader {
  head(status: number, fields: Fields): void;
  body(chunk: Uint8Array): void;
  end(): void;
}

/**
 * The whole answer.
 *
 * Rejects with a KubeError of status 0 when there is none within `timeoutMs` or it is longer than `maxBytes`, and with the
 * signal's reason.
 */
export function exchange(asked: Exchange, timeoutMs: number, maxBytes: number): Promise<Answer> {
  return run<Answer>(asked, timeoutMs, (run) => new Collector(asked.call, maxBytes, run));
}

/**
 * An answer whose body goes on until somebody ends it. Resolves with undefined when it ended as it should, or with the answer that
 * says no. Rejects as `exchange` does; also when nothing came for `silenceMs()`, asked anew after each piece.
 */
export function stream(
  asked: Exchange,
  openTimeoutMs: number,
  silenceMs: () => number,
  sink: Sink,
): Promise<Answer | undefined> {
  return run<Answer | undefined>(asked, openTimeoutMs, (run) => {
    let reader: Reader | undefined;
    const watchForSilence = () => run.limit(silenceMs(), "the watch went silent: nothing came");
    return {
      head(status, fields) {
        if (isGood(status)) return watchForSilence();
        reader = new Collector(asked.call, ERROR_BODY_BYTES, run);
        reader.head(status, fields);
      },
      body(chunk) {
        if (reader !== undefined) return reader.body(chunk);
        sink(chunk);
        watchForSilence();
      },
      end: () => reader === undefined ? run.resolve(undefined) : reader.end(),
    };
  });
}

function run<T>(asked: Exchange, timeoutMs: number, makeReader: (run: Run<T>) => Reader): Promise<T> {
  const { call, pool, path, fields, body, signal, schedule } = asked;
  return new Promise<T>((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    let done = false;
    let connection: Connection | undefined;
    let cancelLimit = () => {};
    const finish = (give: () => void) => {
      if (done) return;
      done = true;
      cancelLimit();
      takeBack();
      signal?.removeEventListener("abort", aborted);
      give();
      // Unless it is free already, somebody would go on sending what nobody reads.
      if (connection !== undefined && !connection.isFree) connection.close();
    };
    const self: Run<T> = {
      get done() {
        return done;
      },
      resolve: (value) => finish(() => resolve(value)),
      reject: (error) => finish(() => reject(error)),
      limit(limitMs, doing) {
        cancelLimit();
        if (!done) cancelLimit = schedule(() => self.reject(timeoutError(call, limitMs, doing)), limitMs);
      },
    };
    const aborted = () => self.reject(signal?.reason);
    let takeBack = () => {};
    signal?.addEventListener("abort", aborted, { once: true });
    self.limit(timeoutMs, "no answer");
    const reader = makeReader(self);
    takeBack = pool.request((given) => {
      connection = given;
      const guarded = (work: () => void) => {
        if (done) return;
        try {
          work();
        } catch (error) {
          self.reject(error);
        }
      };
      given.send(call.method, path, fields, body, {
        head: (status, fields) => guarded(() => reader.head(status, fields)),
        body: (chunk) => guarded(() => reader.body(chunk)),
        end: () => guarded(() => reader.end()),
        failed: (error) => self.reject(error instanceof KubeError ? error : networkError(call, error)),
      });
    });
    if (done) takeBack();
  });
}

class Collector implements Reader {
  readonly #call: AskedCall;
  readonly #maxBytes: number;
  readonly #run: Pick<Run<Answer>, "resolve" | "reject">;
  readonly #chunks: Uint8Array[] = [];
  #bytes = 0;
  #status = 0;
  #retryAfter: string | undefined;

  constructor(call: AskedCall, maxBytes: number, run: Pick<Run<Answer>, "resolve" | "reject">) {
    this.#call = call;
    this.#maxBytes = maxBytes;
    this.#run = run;
  }

  head(status: number, fields: Fields): void {
    this.#status = status;
    const at = fields.indexOf("retry-after");
    this.#retryAfter = at % 2 === 0 ? fields[at + 1] : undefined;
  }

  body(chunk: Uint8Array): void {
    const limit = isGood(this.#status) ? this.#maxBytes : ERROR_BODY_BYTES;
    if (this.#bytes + chunk.length <= limit) {
      this.#chunks.push(chunk);
      this.#bytes += chunk.length;
    } else if (isGood(this.#status)) {
      this.#run.reject(protocolError(this.#call, `the answer is larger than the ${limit} bytes that are taken`));
    } else {
      // Somebody's error page: its beginning says whose.
      const rest = limit - this.#bytes;
      this.#chunks.push(chunk.subarray(0, rest));
      this.#bytes += rest;
      this.end();
    }
  }

  end(): void {
    this.#run.resolve({ status: this.#status, retryAfter: this.#retryAfter, body: textOf(this.#chunks, this.#bytes) });
  }
}

function isGood(status: number): boolean {
  return status >= 200 && status < 300;
}

function textOf(chunks: readonly Uint8Array[], bytes: number): string {
  if (chunks.length === 1) return new TextDecoder().decode(chunks[0]);
  const whole = new Uint8Array(bytes);
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.length;
  }
  return new TextDecoder().decode(whole);
}
