/**
 * The waypoint's own certificate, the lists that revoke others', and what log and metrics say of both (waypoint.md 1.6). pilot-agent takes the lists from
 * a file beside istiod's root, which istiod distributes for a plugged-in CA.
 */
import { existsSync } from "node:fs";
import process from "node:process";
import type { WaypointConfig } from "../../cli/config.ts";
import { type Authority, CertificateStore } from "../../identity/certificate_store.ts";
import { CrlFile } from "../../identity/crl_file.ts";
import { outputCertificates } from "../../identity/output_files.ts";
import type { TlsMaterial } from "../../platform/tls_context.ts";
import { type CertificateMetrics, createCertificateMetrics } from "../../telemetry/certificate_metrics.ts";
import type { Logger } from "../../telemetry/log.ts";
import type { Registry } from "../../telemetry/registry.ts";

export interface WaypointIdentityOptions {
  readonly config: Pick<WaypointConfig, "crlPath" | "outputCerts" | "secretGraceRatio" | "secretGraceJitter" | "key">;
  readonly id: string;
  readonly authority: Authority;
  readonly registry: Registry | undefined;
  readonly log: Logger;
  readonly schedule: (task: () => void, delayMs: number) => () => void;
  readonly issued: (material: TlsMaterial) => void;
  /** Lists in PEM; they replace those before. */
  readonly revoked: (lists: readonly string[]) => void;
  /** Why there is no certificate. */
  readonly failed: (error: string) => void;
}

/** A certificate is never left to end before it is renewed. */
const LEAST_GRACE = 0.02;
/** A new token may lie there any moment, and the pod is given half a minute to become ready. A waypoint asks for one certificate, so that hurts no CA. */
const LAST_RETRY_MS = 5_000;

export class WaypointIdentity {
  readonly #options: WaypointIdentityOptions;
  readonly #store: CertificateStore;
  readonly #crl: CrlFile | undefined;
  readonly #metrics: CertificateMetrics | undefined;
  #hasLists = false;

  constructor(options: WaypointIdentityOptions) {
    const { config, log, schedule, registry, authority } = options;
    this.#options = options;
    const metrics = this.#metrics = registry === undefined ? undefined : createCertificateMetrics(registry);
    this.#store = new CertificateStore({
      authority,
      nowMs: Date.now,
      schedule,
      random: Math.random,
      key: config.key,
      lastRetryMs: LAST_RETRY_MS,
      graceRatio: () => graceRatio(config.secretGraceRatio, config.secretGraceJitter, Math.random),
      changed: (_, material) => this.#issued(material),
      failed: (identity, error, retryMs, timedOut) => {
        metrics?.requested(timedOut ? "timeout" : "error");
        options.failed(error);
        log.log("warn", "identity", error, { identity, "retry.ms": Math.round(retryMs) });
      },
      warned: (identity, warning) => log.log("warn", "identity", warning, { identity }),
    });
    this.#crl = config.crlPath === undefined ? undefined : this.#follow(config.crlPath);
  }

  /** Reads the lists, then asks for the certificate. @throws Error when there are lists that cannot be used: nobody could say what is revoked */
  start(): void {
    this.#crl?.start();
    this.#store.prefetch(this.#options.id);
  }

  /** Brings the metrics that tell the time up to date, for a scrape. */
  observe(): void {
    const [known] = this.#store.list();
    if (known === undefined) return;
    const states = { available: 0, initializing: 0, unavailable: 0 };
    states[known.state.kind]++;
    this.#metrics?.setStates(states);
    this.#metrics?.setFirstExpiry(
      known.state.kind === "available" ? (known.state.chain[0].notAfterMs - Date.now()) / 1_000 : undefined,
    );
  }

  close(): void {
    this.#crl?.close();
    this.#store.close();
  }

  #issued(material: TlsMaterial): void {
    const { config, log, issued } = this.#options;
    this.#metrics?.requested("ok");
    if (config.outputCerts !== undefined) {
      try {
        outputCertificates(config.outputCerts, material, process.env["KUBERNETES_SERVICE_HOST"] !== undefined);
      } catch (error) {
        log.log("error", "identity", "OUTPUT_CERTS: the certificate cannot be written", {
          directory: config.outputCerts,
          error: (error as Error).message,
        });
      }
    }
    issued(material);
  }

  #follow(path: string): CrlFile {
    const { log, schedule, revoked } = this.#options;
    return new CrlFile({
      path,
      schedule,
      changed: ({ lists, revoked: count, nextUpdateMs }) => {
        this.#hasLists = true;
        this.#metrics?.setRevocations(lists.length, count);
        log.log("info", "crl", "revocation lists loaded", { lists: lists.length, revoked: count });
        if (nextUpdateMs !== undefined && nextUpdateMs < Date.now()) {
          log.log("warn", "crl", "a revocation list should have been replaced; it stays in force", {
            "next.update": new Date(nextUpdateMs).toISOString(),
          });
        }
        revoked(lists);
      },
      failed: (error) => {
        // Most meshes have none: only a CA that was plugged in brings them.
        if (!existsSync(path) && !this.#hasLists) return log.log("debug", "crl", error);
        this.#metrics?.revocationsFailed();
        log.log("error", "crl", error);
      },
    });
  }
}

/** pilot-agent's: the ratio, up or down by at most the jitter, within bounds. */
export function graceRatio(ratio: number, jitter: number, random: () => number): number {
  return Math.min(1, Math.max(LEAST_GRACE, ratio + (random() * 2 - 1) * jitter));
}
