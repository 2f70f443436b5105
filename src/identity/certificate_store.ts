/**
 * The certificates of the workloads on this node, one per identity, fetched once and renewed at half of their life (reference
 * ztunnel, section 4). A renewal that fails keeps the certificate that is still valid and tries again with a growing delay.
 *
 * Clock, timers and the authority come in as arguments.
 */
import { TlsContext, type TlsMaterial } from "../platform/tls_context.ts";
import { createKeyAndRequest } from "./csr.ts";
import { type CertificateFacts, readCertificate } from "../platform/certificates.ts";

/** Who signs requests: the mesh CA by whichever way it is reached. Rejects with a reason when it will not. */
export interface Authority {
  requestCertificate(
    identity: string,
    csrPem: string,
  ): Promise<{ readonly chain: readonly string[]; readonly roots: readonly string[] }>;
}

export type CertificateState =
  | { readonly kind: "initializing" }
  | {
    readonly kind: "available";
    readonly material: TlsMaterial;
    readonly chain: readonly CertificateFacts[];
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
  /** A request failed; for the log. */
  readonly failed: (identity: string, error: string, retryMs: number) => void;
  readonly random: () => number;
  readonly requestTimeoutMs?: number;
}

const FIRST_RETRY_MS = 1_000;
const LAST_RETRY_MS = 150_000;
const RETRY_JITTER = 0.2;
const REQUEST_TIMEOUT_MS = 10_000;
/** Requests in flight at once, as ztunnel's worker has them. */
const IN_FLIGHT = 8;

interface Entry {
  readonly identity: string;
  state: CertificateState;
  users: number;
  failures: number;
  cancelTimer: (() => void) | undefined;
  pending: Promise<TlsMaterial> | undefined;
}

export class CertificateStore {
  readonly #options: CertificateStoreOptions;
  readonly #entries = new Map<string, Entry>();
  readonly #queue: (() => void)[] = [];
  #inFlight = 0;

  constructor(options: CertificateStoreOptions) {
    this.#options = options;
  }

  /**
   * Counts a user of the identity and resolves with its certificate, from the store or from the CA. Rejects when the CA refuses or
   * does not answer in time; the user stays counted and later renewals are reported by `changed`.
   */
  acquire(identity: string): Promise<TlsMaterial> {
    let entry = this.#entries.get(identity);
    if (entry === undefined) {
      entry = {
        identity,
        state: { kind: "initializing" },
        users: 0,
        failures: 0,
        cancelTimer: undefined,
        pending: undefined,
      };
      this.#entries.set(identity, entry);
    }
    entry.users++;
    if (entry.state.kind === "available") return Promise.resolve(entry.state.material);
    return this.#fetch(entry);
  }

  /** Ends one user's interest; the last one's end forgets the key. */
  release(identity: string): void {
    const entry = this.#entries.get(identity);
    if (entry === undefined || --entry.users > 0) return;
    entry.cancelTimer?.();
    this.#entries.delete(identity);
  }

  /** What is known of every identity, sorted, for the config dump. */
  list(): { readonly identity: string; readonly state: CertificateState }[] {
    return [...this.#entries.values()]
      .map(({ identity, state }) => ({ identity, state }))
      .sort((a, b) => a.identity < b.identity ? -1 : a.identity > b.identity ? 1 : 0);
  }

  close(): void {
    for (const entry of this.#entries.values()) entry.cancelTimer?.();
    this.#entries.clear();
  }

  #fetch(entry: Entry): Promise<TlsMaterial> {
    entry.pending ??= this.#request(entry).then(
      (material) => {
        entry.pending = undefined;
        entry.failures = 0;
        return material;
      },
      (cause) => {
        entry.pending = undefined;
        throw this.#retryLater(entry, cause);
      },
    );
    return entry.pending;
  }

  async #request(entry: Entry): Promise<TlsMaterial> {
    await this.#slot();
    try {
      const { privateKeyPem, csrPem } = createKeyAndRequest(entry.identity);
      const { chain, roots } = await this.#withTimeout(
        this.#options.authority.requestCertificate(entry.identity, csrPem),
      );
      const chainFacts = chain.map(readCertificate);
      const leaf = chainFacts[0];
      if (leaf === undefined) throw new Error("the CA answered with an empty chain");
      if (!leaf.uris.includes(entry.identity)) {
        throw new Error(`the CA answered with a certificate for ${leaf.uris.join(", ") || "nobody"}`);
      }
      const material: TlsMaterial = { privateKey: privateKeyPem, chain, roots };
      // A worker given what OpenSSL cannot use would end, and so would each that replaces it.
      new TlsContext("server", material).close();
      entry.state = { kind: "available", material, chain: chainFacts, roots: roots.map(readCertificate) };
      if (this.#entries.get(entry.identity) === entry) {
        const half = leaf.notBeforeMs + (leaf.notAfterMs - leaf.notBeforeMs) / 2;
        this.#renewAfter(entry, Math.max(FIRST_RETRY_MS, half - this.#options.nowMs()));
        this.#options.changed(entry.identity, material);
      }
      return material;
    } finally {
      this.#inFlight--;
      this.#queue.shift()?.();
    }
  }

  #retryLater(entry: Entry, cause: unknown): Error {
    const text = cause instanceof Error ? cause.message : String(cause);
    const error = new Error(`cannot get a certificate for ${entry.identity}: ${text}`);
    const base = Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** entry.failures++);
    let delayMs = base * (1 + RETRY_JITTER * (2 * this.#options.random() - 1));
    const { state } = entry;
    if (state.kind === "available" && state.chain[0].notAfterMs > this.#options.nowMs()) {
      delayMs = Math.min(delayMs, state.chain[0].notAfterMs - this.#options.nowMs());
    } else {
      entry.state = { kind: "unavailable", error: text };
    }
    if (this.#entries.get(entry.identity) === entry) {
      this.#options.failed(entry.identity, error.message, delayMs);
      this.#renewAfter(entry, delayMs);
    }
    return error;
  }

  #renewAfter(entry: Entry, delayMs: number): void {
    entry.cancelTimer?.();
    // Longer delays overflow a timer's 32 bits; the renewal then comes early, which does no harm.
    entry.cancelTimer = this.#options.schedule(() => {
      entry.cancelTimer = undefined;
      this.#fetch(entry).catch(() => {});
    }, Math.min(delayMs, 2 ** 31 - 1));
  }

  #slot(): Promise<void> {
    if (this.#inFlight < IN_FLIGHT) {
      this.#inFlight++;
      return Promise.resolve();
    }
    return new Promise((resolve) => {
      this.#queue.push(() => {
        this.#inFlight++;
        resolve();
      });
    });
  }

  #withTimeout<T>(promise: Promise<T>): Promise<T> {
    const timeoutMs = this.#options.requestTimeoutMs ?? REQUEST_TIMEOUT_MS;
    return new Promise((resolve, reject) => {
      const cancel = this.#options.schedule(
        () => reject(new Error(`the CA did not answer within ${timeoutMs / 1000} s`)),
        timeoutMs,
      );
      promise.then(resolve, reject).finally(cancel);
    });
  }
}
