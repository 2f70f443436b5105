/**
 * Names to addresses, for a worker: it blocks in `epoll_wait`, so that the main thread asks (node_resolver.ts) and posts the answer back.
 */
import type { DiscoverySpec } from "../spec/mod.ts";
import type { Wait } from "./upstream.ts";

export type DnsFamily = Extract<DiscoverySpec, { readonly kind: "dns" }>["family"];

export interface DnsAddress {
  readonly ip: string;
  readonly ttlSeconds: number;
}

export type DnsAnswer =
  /** In the order of preference that the family asks for. May be empty: the name has no address of it. */
  | { readonly addresses: readonly DnsAddress[] }
  /** For a person: `example.com: no such name`. */
  | { readonly failure: string };

export interface Resolver {
  /** Answers once, in a later turn. */
  resolve(host: string, family: DnsFamily, answered: (answer: DnsAnswer) => void): Wait;
}

/** A question as it is posted to the main thread. */
export interface DnsQuestion {
  readonly id: number;
  readonly host: string;
  readonly family: DnsFamily;
}

/** Questions at once; more are answered with a failure: names of requests come from clients. */
const MAX_QUESTIONS = 1024;

/** The worker's end. `received` is called with each answer that the main thread posts. */
export class RemoteResolver implements Resolver {
  readonly #post: (question: DnsQuestion) => void;
  readonly #later: (work: () => void) => void;
  readonly #waiting = new Map<number, (answer: DnsAnswer) => void>();
  #next = 1;

  /** `later` runs something in a later turn of this thread. */
  constructor(post: (question: DnsQuestion) => void, later: (work: () => void) => void) {
    this.#post = post;
    this.#later = later;
  }

  resolve(host: string, family: DnsFamily, answered: (answer: DnsAnswer) => void): Wait {
    const id = this.#next++;
    const isFull = this.#waiting.size >= MAX_QUESTIONS;
    this.#waiting.set(id, answered);
    if (isFull) this.#later(() => this.received(id, { failure: `${host}: too many names are being looked up` }));
    else this.#post({ id, host, family });
    return { cancel: () => void this.#waiting.delete(id) };
  }

  received(id: number, answer: DnsAnswer): void {
    const answered = this.#waiting.get(id);
    this.#waiting.delete(id);
    answered?.(answer);
  }
}
