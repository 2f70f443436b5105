/**
 * Bytes between a client's stream and one to an endpoint, with half-close both ways. Credit goes back when the other side has taken the bytes, so that
 * a slow reader holds up its own sender and costs no memory. A stream that is cut cuts the other: what is not whole must not look so.
 */
import { Timer, type TimerTarget } from "../../net/reactor.ts";
import type { Timing } from "../http/timing.ts";
import { type ByteSink, type ByteStream, HIGH_WATER_BYTES, type StreamCut } from "../transport/byte_stream.ts";

export interface RelayLimits {
  /** 0: never. */
  readonly idleTimeoutMs: number;
  /** 0: never. */
  readonly maxConnectionMs: number;
}

export type RelayOutcome =
  | { readonly kind: "complete" }
  | { readonly kind: "cut"; readonly side: "client" | "endpoint"; readonly detail: string }
  | { readonly kind: "idle" }
  | { readonly kind: "too long" }
  | { readonly kind: "ended"; readonly reason: string };

export interface RelayOwner {
  /** Both streams are over. Called once. */
  relayEnded(outcome: RelayOutcome): void;
}

class Half implements ByteSink {
  other!: Half;
  bytes = 0;
  /** Its peer has said that it will send no more. */
  ended = false;
  #owed = 0;

  constructor(readonly relay: StreamRelay, readonly side: "client" | "endpoint", readonly stream: ByteStream) {}

  data(bytes: Uint8Array, start: number, end: number, ended: boolean): void {
    const { stream: target } = this.other;
    const size = end - start;
    this.relay.active();
    if (size > 0) {
      this.bytes += size;
      if (target.closed) this.stream.consume(size);
      else {
        target.write(bytes, start, end);
        if (target.queued >= HIGH_WATER_BYTES) this.#owed += size;
        else this.stream.consume(size);
      }
    }
    if (!ended || this.ended) return;
    this.ended = true;
    if (!target.closed) target.end();
    this.relay.halfEnded();
  }

  /** This side takes bytes again: the other may send. */
  writable(): void {
    this.other.release();
  }

  release(): void {
    const owed = this.#owed;
    this.#owed = 0;
    if (owed > 0 && !this.stream.closed) this.stream.consume(owed);
  }

  broken({ detail }: StreamCut): void {
    this.relay.end({ kind: "cut", side: this.side, detail });
  }
}

export class StreamRelay implements TimerTarget {
  readonly #client: Half;
  readonly #endpoint: Half;
  readonly #timing: Timing;
  readonly #limits: RelayLimits;
  readonly #owner: RelayOwner;
  readonly #timer = new Timer(this);
  readonly #startedMs: number;
  #activeMs: number;
  #over = false;

  /** Takes both over. The owner replays what it kept of the client's bytes into `client.data`. */
  constructor(client: ByteStream, endpoint: ByteStream, timing: Timing, limits: RelayLimits, owner: RelayOwner) {
    this.#timing = timing;
    this.#limits = limits;
    this.#owner = owner;
    this.#startedMs = this.#activeMs = timing.nowMs;
    this.#client = new Half(this, "client", client);
    this.#endpoint = new Half(this, "endpoint", endpoint);
    this.#client.other = this.#endpoint;
    this.#endpoint.other = this.#client;
    client.setSink(this.#client);
    endpoint.setSink(this.#endpoint);
    this.#arm();
  }

  get client(): ByteSink {
    return this.#client;
  }

  get bytesFromClient(): number {
    return this.#client.bytes;
  }

  get bytesFromEndpoint(): number {
    return this.#endpoint.bytes;
  }

  active(): void {
    this.#activeMs = this.#timing.nowMs;
  }

  halfEnded(): void {
    if (this.#client.ended && this.#endpoint.ended) this.end({ kind: "complete" });
  }

  expired(): void {
    const { idleTimeoutMs, maxConnectionMs } = this.#limits;
    const { nowMs } = this.#timing;
    if (maxConnectionMs > 0 && nowMs - this.#startedMs >= maxConnectionMs) return this.end({ kind: "too long" });
    if (idleTimeoutMs > 0 && nowMs - this.#activeMs >= idleTimeoutMs) return this.end({ kind: "idle" });
    this.#arm();
  }

  end(outcome: RelayOutcome): void {
    if (this.#over) return;
    this.#over = true;
    this.#timing.cancelTimer(this.#timer);
    if (outcome.kind !== "complete") {
      for (const { stream } of [this.#client, this.#endpoint]) if (!stream.closed) stream.reset();
    }
    this.#owner.relayEnded(outcome);
  }

  #arm(): void {
    const { idleTimeoutMs, maxConnectionMs } = this.#limits;
    const { nowMs } = this.#timing;
    const idle = idleTimeoutMs > 0 ? this.#activeMs + idleTimeoutMs - nowMs : Infinity;
    const longest = maxConnectionMs > 0 ? this.#startedMs + maxConnectionMs - nowMs : Infinity;
    const delayMs = Math.min(idle, longest);
    if (delayMs !== Infinity) this.#timing.setTimer(this.#timer, Math.max(1, delayMs));
  }
}
