/** The certificates of this node and the lists that revoke others', with what the log and the metrics say of them. */
import { CrlFile } from "../identity/crl_file.ts";
import { type Authority, CertificateStore } from "../identity/certificate_store.ts";
import type { TlsMaterial } from "../platform/tls_context.ts";
import { type CertificateMetrics, createCertificateMetrics } from "../telemetry/certificate_metrics.ts";
import type { Log } from "../telemetry/log.ts";
import type { Registry } from "../telemetry/registry.ts";

export interface CertificatesOptions {
  readonly authority: Authority;
  readonly crlPath: string | undefined;
  readonly registry: Registry;
  readonly log: Log;
  readonly schedule: (task: () => void, delayMs: number) => () => void;
  readonly certificateChanged: (identity: string, material: TlsMaterial) => void;
  readonly revocationsChanged: (lists: readonly string[]) => void;
}

export class Certificates {
  readonly store: CertificateStore;
  readonly #crl: CrlFile | undefined;
  readonly #metrics: CertificateMetrics;

  constructor(options: CertificatesOptions) {
    const { log, schedule, registry } = options;
    const metrics = this.#metrics = createCertificateMetrics(registry);
    this.store = new CertificateStore({
      authority: options.authority,
      nowMs: Date.now,
      schedule,
      changed(identity, material) {
        metrics.requested("ok");
        options.certificateChanged(identity, material);
      },
      failed(identity, error, retryMs, timedOut) {
        metrics.requested(timedOut ? "timeout" : "error");
        log.log("warn", "identity", error, { identity, "retry.ms": Math.round(retryMs) });
      },
      warned: (identity, warning) => log.log("warn", "identity", warning, { identity }),
      random: Math.random,
    });
    this.#crl = options.crlPath === undefined ? undefined : new CrlFile({
      path: options.crlPath,
      schedule,
      changed({ lists, revoked, nextUpdateMs }) {
        metrics.setRevocations(lists.length, revoked);
        log.log("info", "crl", "revocation lists loaded", { lists: lists.length, revoked });
        if (nextUpdateMs !== undefined && nextUpdateMs < Date.now()) {
          log.log("warn", "crl", "a revocation list should have been replaced; it stays in force", {
            "next.update": new Date(nextUpdateMs).toISOString(),
          });
        }
        options.revocationsChanged(lists);
      },
      failed(error) {
        metrics.revocationsFailed();
        log.log("error", "crl", error);
      },
    });
  }

  /** Reads the revocation lists, before any pod is served. Throws when there is a file of them that cannot be used. */
  start(): void {
    this.#crl?.start();
  }

  /** Brings the metrics that tell the time up to date, for a scrape. */
  observe(): void {
    const states = { available: 0, initializing: 0, unavailable: 0 };
    let firstExpiryMs = Infinity;
    for (const { state } of this.store.list()) {
      states[state.kind]++;
      if (state.kind === "available") firstExpiryMs = Math.min(firstExpiryMs, state.chain[0].notAfterMs);
    }
    this.#metrics.setStates(states);
    this.#metrics.setFirstExpiry(firstExpiryMs === Infinity ? undefined : (firstExpiryMs - Date.now()) / 1_000);
  }

  close(): void {
    this.#crl?.close();
    this.store.close();
  }
}
