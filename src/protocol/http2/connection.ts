import type { Http2Stream } from "./stream.ts";
import type { Fields, Http2Handlers, Http2Options } from "./types.ts";
/** Signatures only, the implementation follows. */
export declare class Http2Connection<U> {
  constructor(options: Http2Options, handlers: Http2Handlers<U>, nowMs: number);
  readonly output: { readonly bytes: Uint8Array; readonly start: number; readonly end: number };
  sent(n: number): void;
  receive(bytes: Uint8Array, start: number, end: number, nowMs: number): void;
  /** The transport ended (EOF or error): open streams get `reset`+`closed`, then `failed(NO_ERROR, reason)` unless it failed or drained before. */
  receivedEof(reason?: string): void;
  openStream(fields: Fields, endStream: boolean, user: U): Http2Stream<U> | undefined;
  respond(stream: Http2Stream<U>, fields: Fields, endStream: boolean): void;
  informational(stream: Http2Stream<U>, fields: Fields): void;
  sendTrailers(stream: Http2Stream<U>, fields: Fields): void;
  /** No other call on this connection may come between this and its commitData. */
  reserveData(stream: Http2Stream<U>, wantedBytes: number): number;
  /** n = 0 without endStream: gives the reservation back, writes nothing. */
  commitData(stream: Http2Stream<U>, n: number, endStream: boolean): void;
  sendData(stream: Http2Stream<U>, bytes: Uint8Array, start: number, end: number, endStream: boolean): number;
  endStream(stream: Http2Stream<U>): void;
  resetStream(stream: Http2Stream<U>, code: number): void;
  goaway(code: number, debug?: string): void;
  drain(): void;
  readonly canOpen: boolean;
  readonly openStreams: number;
  readonly peerMaxConcurrent: number;
  readonly draining: boolean;
  /** Error code of the failure, or -1. */
  readonly failedWith: number;
  nextDeadlineMs(): number;
  tick(nowMs: number): void;
}
