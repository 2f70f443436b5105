/** A body on its way into an HTTP/2 stream: what its window does not take yet waits here, in order, with the trailers behind. */
import type { Http2Connection, Http2Stream } from "../../protocol/http2/mod.ts";
import { copyOf } from "../transport/copy.ts";
import type { FieldList } from "./exchange.ts";

export class PendingBody<U> {
  readonly #h2: Http2Connection<U>;
  readonly #stream: Http2Stream<U>;
  #parts: Uint8Array[] = [];
  #ended = false;
  #trailers: FieldList | undefined;
  #whenSent: (() => void) | undefined;
  /** Bytes that wait. */
  length = 0;

  constructor(h2: Http2Connection<U>, stream: Http2Stream<U>) {
    this.#h2 = h2;
    this.#stream = stream;
  }

  /** Takes all; what cannot go now is copied. */
  send(bytes: Uint8Array, start: number, end: number, ended: boolean): void {
    let at = start;
    if (this.length === 0) {
      if (end > start) at += this.#h2.sendData(this.#stream, bytes, start, end, ended);
      else if (ended) this.#h2.endStream(this.#stream);
      if (at === end) return;
    }
    if (at < end) this.#parts.push(copyOf(bytes, at, end));
    this.length += end - at;
    this.#ended ||= ended;
  }

  sendTrailers(fields: FieldList): void {
    if (this.length === 0) this.#h2.sendTrailers(this.#stream, fields);
    else this.#trailers = fields;
  }

  /** Runs `then` when everything is on its way. */
  whenSent(then: () => void): void {
    if (this.length === 0) then();
    else this.#whenSent = then;
  }

  /** Sends what the window takes now. True when nothing waits any more. */
  pump(): boolean {
    while (this.#parts.length > 0) {
      const [part] = this.#parts;
      const isLast = this.#parts.length === 1;
      const n = this.#h2.sendData(this.#stream, part, 0, part.length, isLast && this.#ended);
      this.length -= n;
      if (n < part.length) {
        if (n > 0) this.#parts[0] = part.subarray(n);
        return false;
      }
      this.#parts.shift();
    }
    const trailers = this.#trailers;
    this.#trailers = undefined;
    if (trailers !== undefined) this.#h2.sendTrailers(this.#stream, trailers);
    const then = this.#whenSent;
    this.#whenSent = undefined;
    then?.();
    return true;
  }

  drop(): void {
    this.#parts = [];
    this.length = 0;
    this.#trailers = undefined;
    this.#whenSent = undefined;
  }
}
