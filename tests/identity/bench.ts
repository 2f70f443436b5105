/** A certificate store under virtual time, with an authority whose mood the test decides. */
import { createLocalCa, type LocalCa } from "../../src/control/local/ca.ts";
import { type Authority, CertificateStore } from "../../src/identity/certificate_store.ts";
import type { TlsMaterial } from "../../src/platform/tls_context.ts";
import { VirtualTime } from "../ztunnel/virtual_time.ts";

export const ID = "spiffe://cluster.local/ns/default/sa/web";
export const DAY_MS = 24 * 3_600_000;
/** The CA backdates by two minutes. */
export const BACKDATE_MS = 120_000;
export const START_MS = Date.UTC(2026, 0, 1);

let time = new VirtualTime(START_MS);
/** Signs by the time of the bench that was made last. */
export const ca: LocalCa = await createLocalCa({ now: () => time.nowMs });

/** `skewMs`: how far its clock is ahead of the node's. */
export function createCa(leafTtlMs: number, skewMs = 0): Promise<LocalCa> {
  return createLocalCa({ now: () => time.nowMs + skewMs, leafTtlMs });
}

export type Answer = Awaited<ReturnType<Authority["requestCertificate"]>>;

export class Bench {
  readonly store: CertificateStore;
  readonly requests: string[] = [];
  readonly changes: { readonly identity: string; readonly material: TlsMaterial }[] = [];
  readonly failures: {
    readonly identity: string;
    readonly error: string;
    readonly retryMs: number;
    readonly timedOut: boolean;
  }[] = [];
  readonly warnings: string[] = [];
  readonly time: VirtualTime;
  random = 0.5;
  answer: (identity: string, csr: string) => Promise<Answer> = (identity, csr) => ca.sign(identity, csr);
  #wanted: (() => void) | undefined;

  constructor() {
    this.time = time = new VirtualTime(START_MS);
    this.store = new CertificateStore({
      authority: {
        requestCertificate: (identity, csr) => {
          this.requests.push(identity);
          this.#notify();
          return this.answer(identity, csr);
        },
      },
      nowMs: () => this.time.nowMs,
      schedule: this.time.schedule,
      changed: (identity, material) => {
        this.changes.push({ identity, material });
        this.#notify();
      },
      failed: (identity, error, retryMs, timedOut) => {
        this.failures.push({ identity, error, retryMs, timedOut });
        this.#notify();
      },
      warned: (_identity, warning) => this.warnings.push(warning),
      random: () => this.random,
    });
  }

  /** Resolves when the condition holds, which is looked at whenever the store does something. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      await new Promise<void>((resolve) => {
        this.#wanted = resolve;
      });
    }
    // What follows from the event, up to the store's next timer, happens before the test goes on.
    await new Promise((resolve) => setImmediate(resolve));
  }

  refuse(reason: string): void {
    this.answer = () => Promise.reject(new Error(reason));
  }

  #notify(): void {
    const wanted = this.#wanted;
    this.#wanted = undefined;
    wanted?.();
  }
}
