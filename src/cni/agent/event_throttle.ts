/**
 * Which Events are worth an object in the API server: the first of a pod, and then one each time the reason changes, but of one
 * pod not more than one in 30 seconds, and of all together 5 a minute after a burst of 50.
 */
import type { Clock } from "./clock.ts";
import { TokenBucket } from "./work_queue.ts";

const POD_INTERVAL_MS = 30_000;
const PER_SECOND = 5 / 60;
const BURST = 50;
/** More pods than a node has; the oldest is forgotten. */
const MAX_PODS = 1024;

export class EventThrottle {
  readonly #clock: Clock;
  readonly #bucket: TokenBucket;
  readonly #last = new Map<string, { readonly text: string; readonly atMs: number }>();

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#bucket = new TokenBucket(clock, PER_SECOND, BURST);
  }

  /** Whether this one is told. */
  admit(uid: string, reason: string, message: string): boolean {
    const text = `${reason}: ${withoutNumbers(message)}`;
    const last = this.#last.get(uid);
    const now = this.#clock.nowMs();
    if (last !== undefined && (last.text === text || now - last.atMs < POD_INTERVAL_MS)) return false;
    if (!this.#bucket.tryTake()) return false;
    this.#last.delete(uid);
    this.#last.set(uid, { text, atMs: now });
    if (this.#last.size > MAX_PODS) this.#last.delete(this.#last.keys().next().value!);
    return true;
  }
}

/** Process ids, descriptors and times differ in words that say the same. */
function withoutNumbers(message: string): string {
  return message.replace(/[0-9]+/g, "#");
}
