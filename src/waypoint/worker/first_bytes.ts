/**
 * The first bytes of a connection, kept until they say what is asked of them, and then handed to whoever serves it. A client that waits for its server
 * says nothing: after `FIRST_BYTES_MS` that is an answer too.
 */
import { Timer, type TimerTarget } from "../../net/reactor.ts";
import type { Timing } from "../http/timing.ts";
import type { ByteSink, ByteStream, StreamCut } from "../transport/byte_stream.ts";
import { copyOf } from "../transport/copy.ts";

/** Envoy's listener_filters_timeout. */
export const FIRST_BYTES_MS = 15_000;

export type Replay = (sink: ByteSink) => void;

export interface FirstBytesOwner<T> {
  /** Undefined: it takes more bytes to say. `last`: there will be none. */
  look(bytes: Uint8Array, last: boolean): T | undefined;
  /** Serve it now: make a sink of the stream, then call `replay` with it before returning. `undefined`: nothing came in time. */
  found(what: T | undefined, replay: Replay): void;
  /** It is over before it said anything. */
  lost(detail: string): void;
}

export class FirstBytes<T> implements ByteSink, TimerTarget {
  readonly #timing: Timing;
  readonly #owner: FirstBytesOwner<T>;
  readonly #timer = new Timer(this);
  #kept: Uint8Array = new Uint8Array(0);
  #ended = false;
  #done = false;

  constructor(stream: ByteStream, timing: Timing, owner: FirstBytesOwner<T>) {
    this.#timing = timing;
    this.#owner = owner;
    timing.setTimer(this.#timer, FIRST_BYTES_MS);
    stream.setSink(this);
  }

  data(bytes: Uint8Array, start: number, end: number, ended: boolean): void {
    if (this.#done) return;
    // What comes in one piece, as it mostly does, is looked at where it is.
    const isFirst = this.#kept.length === 0;
    const whole = isFirst ? bytes.subarray(start, end) : joined(this.#kept, bytes, start, end);
    this.#ended = ended;
    const found = this.#owner.look(whole, ended);
    if (found !== undefined || ended) return this.#finish(found, whole);
    this.#kept = isFirst ? copyOf(bytes, start, end) : whole;
  }

  writable(): void {}

  broken({ detail }: StreamCut): void {
    if (this.#done) return;
    this.cancel();
    this.#owner.lost(detail);
  }

  expired(): void {
    if (!this.#done) this.#finish(undefined, this.#kept);
  }

  /** Without a further call to the owner. */
  cancel(): void {
    this.#done = true;
    this.#timing.cancelTimer(this.#timer);
  }

  #finish(found: T | undefined, bytes: Uint8Array): void {
    this.cancel();
    const ended = this.#ended;
    this.#kept = new Uint8Array(0);
    this.#owner.found(found, (sink) => {
      if (bytes.length > 0 || ended) sink.data(bytes, 0, bytes.length, ended);
    });
  }
}

function joined(kept: Uint8Array, bytes: Uint8Array, start: number, end: number): Uint8Array {
  const whole = new Uint8Array(kept.length + end - start);
  whole.set(kept);
  whole.set(bytes.subarray(start, end), kept.length);
  return whole;
}
