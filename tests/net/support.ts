/** A reactor that tests turn by hand, and plain peers to talk to. */
import assert from "node:assert/strict";
import { createIoContext, type IoContext } from "../../src/net/io_context.ts";
import { Reactor } from "../../src/net/reactor.ts";
import { EAGAIN } from "../../src/platform/errno.ts";
import { closeDescriptor, receive, send } from "../../src/platform/socket.ts";

/** No condition of a test takes longer. */
const DEADLINE_MS = 30_000;

export interface Loop {
  readonly io: IoContext;
  readonly reactor: Reactor;
  /** Turns until the condition holds; fails when that takes too long. */
  until(condition: () => boolean, what: string): void;
  /** Turns as the worker would for this long, and tells how many turns that took. */
  turnFor(milliseconds: number): number;
  /** Turns until nothing happens at once any more. */
  settle(): void;
}

export function createLoop(onWake: () => void = () => {}): Loop {
  const reactor = new Reactor(() => performance.now(), onWake);
  const io = createIoContext(reactor);
  return {
    io,
    reactor,
    until(condition, what) {
      const deadline = performance.now() + DEADLINE_MS;
      while (!condition()) {
        assert.ok(performance.now() < deadline, `not in time: ${what}`);
        reactor.turn(20);
      }
    },
    turnFor(milliseconds) {
      const end = performance.now() + milliseconds;
      let turns = 0;
      for (let left = milliseconds; left > 0; left = end - performance.now()) {
        reactor.turn(Math.ceil(left));
        turns++;
      }
      return turns;
    },
    settle() {
      for (let i = 0; i < 20; i++) reactor.turn(0);
    },
  };
}

/** An application at the far end of a socket, outside of the reactor: it does what a test tells it, at once. */
export class Peer {
  readonly fd: number;
  /** What it read. */
  readonly received: Uint8Array[] = [];
  receivedBytes = 0;
  ended = false;
  /** errno of a failed read. */
  failure = 0;
  readonly #buffer = new Uint8Array(256 * 1024);
  #closed = false;

  constructor(fd: number) {
    this.fd = fd;
  }

  /** Sends what the kernel takes, and returns how much that is; `-errno` on failure. */
  send(bytes: Uint8Array, start = 0, end = bytes.length): number {
    const n = send(this.fd, bytes, start, end);
    return n === -EAGAIN ? 0 : n;
  }

  /** Reads what waits, up to `maxBytes`, and returns how much that was. */
  read(maxBytes = Infinity): number {
    let total = 0;
    while (total < maxBytes && !this.ended && this.failure === 0) {
      const n = receive(this.fd, this.#buffer, 0, Math.min(this.#buffer.length, maxBytes - total));
      if (n === -EAGAIN) break;
      if (n === 0) this.ended = true;
      else if (n < 0) this.failure = -n;
      else {
        this.received.push(this.#buffer.slice(0, n));
        total += n;
      }
    }
    this.receivedBytes += total;
    return total;
  }

  /** All that was read, as text. */
  text(): string {
    const decoder = new TextDecoder();
    return this.received.map((chunk) => decoder.decode(chunk, { stream: true })).join("");
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    closeDescriptor(this.fd);
  }
}

/** Bytes that depend on their place, so that a lost, doubled or moved piece shows. */
export function patternAt(offset: number, length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) {
    const at = offset + i;
    bytes[i] = (at * 31 + (at >>> 8) * 7 + (at >>> 16) * 13 + seed) & 0xff;
  }
  return bytes;
}

/** Fails at the first byte that is not the pattern's. */
export function checkPattern(bytes: Uint8Array, offset: number, seed: number): void {
  const expected = patternAt(offset, bytes.length, seed);
  for (let i = 0; i < bytes.length; i++) {
    if (bytes[i] !== expected[i]) {
      assert.fail(`byte ${offset + i} of stream ${seed} is ${bytes[i]}, not ${expected[i]}`);
    }
  }
}
