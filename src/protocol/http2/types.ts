/**
 * The contract between an HTTP/2 connection and its owner: options, buffers and events.
 *
 * The connection is sans-io: bytes, times and calls go in; events and one output buffer come out. Every
 * event is delivered synchronously from the call that caused it, and a handler may call back into the connection.
 */
import type { Http2Stream } from "./stream.ts";
import type { FloodLimits } from "./flood.ts";

/** Where buffers come from and go back to; a view of any size at least `minBytes` may be given out. */
export interface BufferPool {
  take(minBytes: number): Uint8Array;
  give(buffer: Uint8Array): void;
}

export interface Http2Options {
  readonly role: "client" | "server";
  /** SETTINGS_INITIAL_WINDOW_SIZE we advertise: bytes a peer may have in flight on one stream. */
  readonly initialWindowBytes: number;
  /** Bytes a peer may have in flight on the whole connection; below 65,535 means 65,535 (RFC 9113 6.9.2). */
  readonly connectionWindowBytes: number;
  /** SETTINGS_MAX_FRAME_SIZE we advertise, 16,384 to 16,777,215. */
  readonly maxFrameBytes: number;
  /** SETTINGS_MAX_HEADER_LIST_SIZE: names + values + 32 a field. A larger request is answered 431. */
  readonly maxHeaderListBytes: number;
  /** Streams a peer may have open at once; more are refused with REFUSED_STREAM. */
  readonly maxConcurrentStreams: number;
  /** Soft cap of queued output: at or above it `reserveData` returns 0 until some was sent. */
  readonly maxOutputBytes: number;
  /** Keepalive PING: first after this time, then this long after each answer. 0 turns it off. */
  readonly pingIntervalMs: number;
  readonly pingTimeoutMs: number;
  /** How long the peer may take to open with SETTINGS, and to acknowledge ours. 0 turns it off. */
  readonly settingsTimeoutMs: number;
  /** How long a header block may stay unfinished. Default 10 s; 0 turns it off. */
  readonly headerTimeoutMs?: number;
  /**
   * How long a stream may wait for the peer's window without being able to send. 0, the default, is never: the
   * far application of a tunnel may rightly stop reading for hours.
   */
  readonly zeroWindowTimeoutMs?: number;
  /** Accept extended CONNECT (RFC 8441) from a client. */
  readonly enableConnectProtocol?: boolean;
  readonly flood?: Partial<FloodLimits>;
  readonly bufferPool: BufferPool;
}

/** A header list on the wire's terms: name, value, name, value, … in wire order; each character is one byte. */
export type Fields = readonly string[];

export interface Http2Handlers<U> {
  /** A request (server), or an interim or final response (client). Pseudo-header fields come first. */
  headers(stream: Http2Stream<U>, fields: Fields, endStream: boolean): void;
  /** The end of the peer's half, with trailer fields. */
  trailers(stream: Http2Stream<U>, fields: Fields): void;
  /**
   * A piece of DATA: `bytes[start..end)` is a view into the chunk being received, valid until return. The piece may be
   * empty when `endStream` is set. Return credit with `stream.consume(n)` when the bytes are disposed of.
   */
  data(stream: Http2Stream<U>, bytes: Uint8Array, start: number, end: number, endStream: boolean): void;
  /** After `reserveData` or `sendData` fell short: something may be sent now. */
  writable(stream: Http2Stream<U>): void;
  /** The stream was cut short by the peer, or by this end because of what the peer did. `closed` follows. */
  reset(stream: Http2Stream<U>, code: number, byPeer: boolean): void;
  /** A stream was refused that the owner never saw, or that is long closed. `code` as it is told to the peer. */
  refused?(code: number, fault: string): void;
  /** Exactly once per stream that `headers` or `openStream` made known: no more events, the object is dead. */
  closed(stream: Http2Stream<U>): void;
  /** The peer is leaving. Own streams above `lastStreamId` are reset with REFUSED_STREAM (safe to retry) right after. */
  goaway(lastStreamId: number, code: number, debug: string): void;
  /** The peer's SETTINGS were applied; `canOpen` may have changed. */
  settings(): void;
  /** A keepalive PING was answered. */
  pong?(): void;
  /** A graceful end is complete: the last GOAWAY is queued and no stream is left. Flush, then close. */
  drained?(): void;
  /**
   * The connection is over, once. GOAWAY is queued where one is due: flush `output`, then close. All streams have had
   * `reset` and `closed` before. `code` is an HTTP/2 error code; NO_ERROR when the peer just left or fell silent.
   */
  failed(code: number, reason: string): void;
}
