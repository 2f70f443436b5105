/**
 * The certificates of the workloads on this node, one per identity, fetched once and renewed at half of their life (reference
 * ztunnel, section 4). A renewal that fails keeps the certificate that is still valid and tries again with a growing delay.
 *
 * An identity is kept as long as somebody uses it (`acquire`) or expects to (`prefetch`). Clock, timers and the authority come in as arguments.
 */
import type { TlsMaterial } from "../platform/tls_context.ts";
import type { CertificateFacts, KeyKind } from "../platform/certificates.ts";
import { Backoff, FIRST_RETRY_MS } from "./backoff.ts";
import { type Authority, CaTimeout, type Certificate, formatTime, requestCertificate } from "./request_certificate.ts";
import { type Priority, RequestQueue, type Ticket } from "./request_queue.ts";

export type { Authority } from "./request_certificate.ts";

export type CertificateState =
  | { readonly kind: "initializing" }
  | {
    readonly kind: "available";
    readonly material: TlsMaterial;
    readonly chain: readonly [CertificateFacts, ...CertificateFacts[]];
    readonly roots: readonly CertificateFacts[];
  }
  | { readonly kind: "unavailable"; readonly error: string };

export interface CertificateStoreOptions {
  readonly authority: Authority;
  readonly nowMs: () => number;
  /** Runs `task` after a delay; the result cancels it. */
  readonly schedule: (task: () => void, delayMs: number) => () => void;
  /** A certificate arrived or was renewed. */
  readonly changed: (identity: string, material: TlsMaterial) => void;
  /** A request failed; for the log. `timedOut`: the CA did not answer. */
  readonly failed: (identity: string, error: string, retryMs: number, timedOut: boolean) => void;
  /** Something that does not stop anything, and that somebody should look at; for the log. */
  readonly warned?: (identity: string, warning: string) => void;
  readonly random: () => number;
  readonly requestTimeoutMs?: number;
  /** Of new keys; ECDSA P-256 if absent. */
  readonly key?: KeyKind;
  /** Which part of its life a certificate still has when it is renewed, from 0 to 1; asked for each. Half if absent. */
  readonly graceRatio?: () => number;
  /** The longest pause between two tries; 150 s if absent. */
  readonly lastRetryMs?: number;
}

/** How long the CA may take for one answer. */
const REQUEST_TIMEOUT_MS = 10_000;
/** How long a user waits, for its turn and the answer together. */
const ACQUIRE_TIMEOUT_MS = 30_000;
/** A clock that differs by less is nobody's worry. */
const CLOCK_SKEW_MS = 5_000;
/** A timer takes no longer delay; the renewal then comes early, which does no harm. */
const MAX_DELAY_MS = 2 ** 31 - 1;

interface Waiter {
  resolve(material: TlsMaterial): void;
  reject(error: Error): void;
}

interface Entry {
  readonly identity: string;
  state: CertificateState;
  users: number;
  prefetches: number;
  /** The next request, queued or under way. */
  ticket: Ticket | undefined;
  waiters: Set<Waiter>;
  cancelTimer: (() => void) | undefined;
}

export class CertificateStore {
  readonly #options: CertificateStoreOptions;
  readonly #entries = new Map<string, Entry>();
  readonly #queue = new RequestQueue();
  readonly #backoff: Backoff;

  constructor(options: CertificateStoreOptions) {
    this.#options = options;
    this.#backoff = new Backoff(options.random, options.lastRetryMs);
  }

  /**
   * Counts a user of the identity and resolves with its certificate, from the store or from the CA. Rejects when the CA refuses, when it
   * refused a moment ago and is not to be asked yet, or when the answer takes too long; the user stays counted and what comes
   * later is reported by `changed`.
   */
  acquire(identity: string): Promise<TlsMaterial> {
    const entry = this.#entry(identity);
    entry.users++;
    const current = this.#current(entry);
    if (current !== undefined) return Promise.resolve(current);
    const { ticket } = entry;
    if (ticket !== undefined) {
      this.#queue.raise(ticket, "realtime");
      return this.#wait(entry);
    }
    const blocked = this.#backoff.waiting(identity, this.#options.nowMs());
    if (blocked === undefined) {
      const wait = this.#wait(entry);
      this.#request(entry, "realtime");
      return wait;
    }
    const { error, leftMs } = blocked;
    this.#after(entry, leftMs);
    if (entry.state.kind === "initializing") entry.state = { kind: "unavailable", error };
    return Promise.reject(failure(identity, `${error} (asked again in ${Math.ceil(leftMs / 1_000)} s)`));
  }

  /** Ends one user's interest; the end of the last interest forgets the key. */
  release(identity: string): void {
    const entry = this.#entries.get(identity);
    if (entry === undefined || entry.users === 0) return;
    entry.users--;
    this.#forgetIfUnused(entry);
  }

  /** Counts an interest in the identity before anybody needs it, and fetches its certificate when nothing more urgent is to be done. */
  prefetch(identity: string): void {
    const entry = this.#entry(identity);
    entry.prefetches++;
    if (entry.ticket !== undefined || entry.cancelTimer !== undefined) return;
    const blocked = this.#backoff.waiting(identity, this.#options.nowMs());
    if (blocked === undefined) return this.#request(entry, "warmup");
    entry.state = { kind: "unavailable", error: blocked.error };
    this.#after(entry, blocked.leftMs);
  }

  /** Ends one `prefetch`. */
  forget(identity: string): void {
    const entry = this.#entries.get(identity);
    if (entry === undefined || entry.prefetches === 0) return;
    entry.prefetches--;
    this.#forgetIfUnused(entry);
  }

  /** What is known of every identity, sorted, for the config dump. */
  list(): { readonly identity: string; readonly state: CertificateState }[] {
    return [...this.#entries.values()]
      .map(({ identity, state }) => ({ identity, state }))
      .sort((a, b) => a.identity < b.identity ? -1 : a.identity > b.identity ? 1 : 0);
  }

  close(): void {
    for (const entry of this.#entries.values()) this.#end(entry);
  }

  #entry(identity: string): Entry {
    let entry = this.#entries.get(identity);
    if (entry === undefined) {
      entry = {
        identity,
        state: { kind: "initializing" },
        users: 0,
        prefetches: 0,
        ticket: undefined,
        waiters: new Set(),
        cancelTimer: undefined,
      };
      this.#entries.set(identity, entry);
    }
    return entry;
  }

  /** The certificate in force: one whose life is over is none, though its renewal may still be on its way. */
  #current({ state }: Entry): TlsMaterial | undefined {
    return state.kind === "available" && state.chain[0].notAfterMs > this.#options.nowMs() ? state.material : undefined;
  }

  #wait(entry: Entry): Promise<TlsMaterial> {
    return new Promise((resolve, reject) => {
      const waiter: Waiter = {
        resolve: (material) => {
          cancel();
          resolve(material);
        },
        reject: (error) => {
          cancel();
          reject(error);
        },
      };
      const cancel = this.#options.schedule(() => {
        entry.waiters.delete(waiter);
        const before = this.#queue.waiting;
        reject(failure(
          entry.identity,
          `it did not come within ${ACQUIRE_TIMEOUT_MS / 1_000} s${before > 0 ? `; ${before} requests wait` : ""}`,
        ));
      }, ACQUIRE_TIMEOUT_MS);
      entry.waiters.add(waiter);
    });
  }

  #request(entry: Entry, priority: Priority): void {
    entry.cancelTimer?.();
    entry.cancelTimer = undefined;
    entry.ticket = this.#queue.add(priority, async () => {
      try {
        const { authority, nowMs, key } = this.#options;
        const certificate = await requestCertificate(authority, entry.identity, nowMs, this.#withTimeout, key);
        entry.ticket = undefined;
        this.#received(entry, certificate);
      } catch (cause) {
        entry.ticket = undefined;
        this.#refused(entry, cause);
      }
    });
  }

  #received(entry: Entry, { material, chain, roots }: Certificate): void {
    this.#backoff.succeed(entry.identity);
    if (this.#entries.get(entry.identity) !== entry) return;
    entry.state = { kind: "available", material, chain, roots };
    const [{ notBeforeMs, notAfterMs }] = chain;
    const nowMs = this.#options.nowMs();
    if (notBeforeMs > nowMs + CLOCK_SKEW_MS) {
      this.#options.warned?.(
        entry.identity,
        `the new certificate becomes valid at ${formatTime(notBeforeMs)} only, by this node's clock (${
          formatTime(nowMs)
        }): ` +
          `compare it with the control plane's; peers may refuse it until then`,
      );
    }
    const dueMs = notAfterMs - (notAfterMs - notBeforeMs) * (this.#options.graceRatio?.() ?? 0.5);
    // Past it already, as with a clock that is ahead: half of what is left, or each renewal would ask for the next at once.
    const delayMs = dueMs > nowMs ? dueMs - nowMs : (notAfterMs - nowMs) / 2;
    this.#after(entry, Math.max(FIRST_RETRY_MS, delayMs));
    this.#options.changed(entry.identity, material);
    this.#settle(entry, (waiter) => waiter.resolve(material));
  }

  #refused(entry: Entry, cause: unknown): void {
    const text = cause instanceof Error ? cause.message : String(cause);
    const { identity } = entry;
    const nowMs = this.#options.nowMs();
    let delayMs = this.#backoff.fail(identity, text, nowMs);
    if (this.#entries.get(identity) !== entry) return;
    if (entry.state.kind === "available" && this.#current(entry) !== undefined) {
      delayMs = Math.min(delayMs, entry.state.chain[0].notAfterMs - nowMs);
    } else {
      entry.state = { kind: "unavailable", error: text };
    }
    const error = failure(identity, text);
    this.#after(entry, delayMs);
    this.#options.failed(identity, error.message, delayMs, cause instanceof CaTimeout);
    this.#settle(entry, (waiter) => waiter.reject(error));
  }

  #settle(entry: Entry, answer: (waiter: Waiter) => void): void {
    const { waiters } = entry;
    entry.waiters = new Set();
    waiters.forEach(answer);
  }

  /** Asks again after the delay, unless that is arranged already. */
  #after(entry: Entry, delayMs: number): void {
    if (entry.cancelTimer !== undefined || entry.ticket !== undefined) return;
    entry.cancelTimer = this.#options.schedule(() => {
      entry.cancelTimer = undefined;
      this.#request(entry, this.#current(entry) === undefined && entry.users > 0 ? "warmup" : "background");
    }, Math.min(delayMs, MAX_DELAY_MS));
  }

  #forgetIfUnused(entry: Entry): void {
    if (entry.users === 0 && entry.prefetches === 0) this.#end(entry);
  }

  #end(entry: Entry): void {
    entry.cancelTimer?.();
    entry.cancelTimer = undefined;
    if (entry.ticket !== undefined) this.#queue.remove(entry.ticket);
    this.#entries.delete(entry.identity);
    this.#settle(entry, (waiter) => waiter.reject(failure(entry.identity, "nobody wants it any more")));
  }

  readonly #withTimeout = <T>(promise: Promise<T>): Promise<T> => {
    const timeoutMs = this.#options.requestTimeoutMs ?? REQUEST_TIMEOUT_MS;
    return new Promise((resolve, reject) => {
      const cancel = this.#options.schedule(
        () => reject(new CaTimeout(`the CA did not answer within ${timeoutMs / 1000} s`)),
        timeoutMs,
      );
      promise.then(resolve, reject).finally(cancel);
    });
  };
}

function failure(identity: string, text: string): Error {
  return new Error(`cannot get a certificate for ${identity}: ${text}`);
}
