/** An HTTP/2 connection on a byte stream: what a turn produced is written once, at its end. */
import { type Deferred, Timer, type TimerTarget } from "../../net/reactor.ts";
import type { BufferPool } from "../../net/buffer_pool.ts";
import { Http2Connection, type Http2Handlers, type Http2Options } from "../../protocol/http2/mod.ts";
import { type ByteSink, type ByteStream, HIGH_WATER_BYTES, type StreamCut } from "../transport/byte_stream.ts";
import type { Timing } from "./timing.ts";

/** Windows of one request and of a connection: an inner connection has a tunnel's windows around it. */
const STREAM_WINDOW_BYTES = 1024 * 1024;
const CONNECTION_WINDOW_BYTES = 4 * 1024 * 1024;
const FRAME_BYTES = 16 * 1024;
const OUTPUT_BYTES = 256 * 1024;
const SETTINGS_TIMEOUT_MS = 10_000;

export interface Http2TransportOptions {
  readonly role: "client" | "server";
  readonly maxHeaderListBytes: number;
  readonly maxConcurrentStreams: number;
  /** 0: none. */
  readonly pingIntervalMs: number;
  readonly pingTimeoutMs: number;
}

export class Http2Transport<U> implements ByteSink, Deferred, TimerTarget {
  deferred = false;
  readonly h2: Http2Connection<U>;
  readonly #stream: ByteStream;
  readonly #timing: Timing;
  readonly #timer = new Timer(this);
  readonly #onClosed: (reason: string) => void;
  #timerAtMs = Infinity;
  #ending = false;
  #closed = false;

  constructor(
    stream: ByteStream,
    options: Http2TransportOptions,
    pool: BufferPool,
    timing: Timing,
    handlers: Http2Handlers<U>,
    onClosed: (reason: string) => void,
  ) {
    this.#stream = stream;
    this.#timing = timing;
    this.#onClosed = onClosed;
    const settings: Http2Options = {
      ...options,
      initialWindowBytes: STREAM_WINDOW_BYTES,
      connectionWindowBytes: CONNECTION_WINDOW_BYTES,
      maxFrameBytes: FRAME_BYTES,
      maxOutputBytes: OUTPUT_BYTES,
      settingsTimeoutMs: SETTINGS_TIMEOUT_MS,
      enableConnectProtocol: options.role === "server",
      bufferPool: pool,
    };
    this.h2 = new Http2Connection(settings, handlers, timing.nowMs);
    stream.setSink(this);
    timing.defer(this);
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Something was queued. */
  touch(): void {
    if (!this.#closed) this.#timing.defer(this);
  }

  /** Flush what is queued, then end. */
  finish(reason: string): void {
    this.#ending = true;
    this.flush();
    this.close(reason);
  }

  data(bytes: Uint8Array, start: number, end: number, ended: boolean): void {
    if (this.#closed) return;
    this.h2.receive(bytes, start, end, this.#timing.nowMs);
    // HTTP/2's own windows bound what a peer may have on its way: the stream below needs no second account.
    if (!this.#stream.closed) this.#stream.consume(end - start);
    if (ended && !this.#closed) {
      this.h2.receivedEof();
      return this.close("the peer ended the connection");
    }
    this.touch();
  }

  writable(): void {
    this.touch();
  }

  broken(cause: StreamCut): void {
    if (this.#closed) return;
    this.h2.receivedEof(cause.detail);
    this.close(cause.detail);
  }

  expired(): void {
    this.#timerAtMs = Infinity;
    if (this.#closed) return;
    this.h2.tick(this.#timing.nowMs);
    this.touch();
  }

  flush(): void {
    if (this.#closed || this.#stream.closed) return;
    const { output } = this.h2;
    while (output.end > output.start && (this.#ending || this.#stream.queued < HIGH_WATER_BYTES)) {
      const n = output.end - output.start;
      this.#stream.write(output.bytes, output.start, output.end);
      this.h2.sent(n);
    }
    const dueMs = this.h2.nextDeadlineMs();
    if (dueMs !== this.#timerAtMs) {
      this.#timerAtMs = dueMs;
      if (dueMs === Infinity) this.#timing.cancelTimer(this.#timer);
      else this.#timing.setTimer(this.#timer, Math.max(0, dueMs - this.#timing.nowMs));
    }
  }

  close(reason: string): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#timing.cancelTimer(this.#timer);
    if (!this.#stream.closed) this.#stream.end();
    this.#onClosed(reason);
  }
}
