/**
 * Streams that wait for the connection (its window, or room in the output) to be told that they may send: first in,
 * first out, so that each gets its turn. Intrusive, so that queueing costs no memory.
 */
import { type Http2Stream, StreamFlag } from "./stream.ts";

export class SendQueue<U> {
  #first: Http2Stream<U> | undefined = undefined;
  #last: Http2Stream<U> | undefined = undefined;

  get isEmpty(): boolean {
    return this.#first === undefined;
  }

  add(stream: Http2Stream<U>): void {
    if ((stream.flags & StreamFlag.QUEUED) !== 0) return;
    stream.flags |= StreamFlag.QUEUED;
    stream.prev = this.#last;
    stream.next = undefined;
    if (this.#last === undefined) this.#first = stream;
    else this.#last.next = stream;
    this.#last = stream;
  }

  take(): Http2Stream<U> | undefined {
    const stream = this.#first;
    if (stream !== undefined) this.remove(stream);
    return stream;
  }

  remove(stream: Http2Stream<U>): void {
    if ((stream.flags & StreamFlag.QUEUED) === 0) return;
    stream.flags &= ~StreamFlag.QUEUED;
    if (stream.prev === undefined) this.#first = stream.next;
    else stream.prev.next = stream.next;
    if (stream.next === undefined) this.#last = stream.prev;
    else stream.next.prev = stream.prev;
    stream.next = undefined;
    stream.prev = undefined;
  }
}
