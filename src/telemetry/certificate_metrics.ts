/**
 * Metrics of the node's certificates and revocation lists (main thread). No series names an identity: there would be one for each
 * service account of the cluster; `/config_dump` and the log tell which it is.
 *
 *   createCertificateMetrics(registry): CertificateMetrics
 *     requested("ok" | "error" | "timeout")   the CA answered a request, or did not
 *     setStates({ available, ... })           identities by state; read anew at each scrape
 *     setFirstExpiry(seconds)                 until the first certificate in force ends; undefined: there is none, which reads +Inf
 *     setRevocations(lists, revoked)          what the file of revocation lists says
 *     revocationsFailed()                     the file could not be used
 */
import { labelSet, NO_LABELS } from "./metric_family.ts";
import type { Registry } from "./registry.ts";

export type CertificateRequestOutcome = "ok" | "error" | "timeout";

export interface CertificateMetrics {
  requested(outcome: CertificateRequestOutcome): void;
  setStates(states: Readonly<Record<"available" | "initializing" | "unavailable", number>>): void;
  setFirstExpiry(seconds: number | undefined): void;
  setRevocations(lists: number, revoked: number): void;
  revocationsFailed(): void;
}

export function createCertificateMetrics(registry: Registry): CertificateMetrics {
  const register = (name: string, help: string, type: "counter" | "gauge") =>
    registry.register({ name, help, type, unstable: true });
  const single = (name: string, help: string, type: "counter" | "gauge") =>
    registry.acquire(register(name, help, type), NO_LABELS);
  const requests = register("ambit_certificate_requests", "Certificates asked of the CA, by outcome", "counter");
  const states = register("ambit_certificates", "Identities of this node by the state of their certificate", "gauge");
  const state = (name: string) => registry.acquire(states, labelSet({ state: name }));
  const slots = {
    available: state("available"),
    initializing: state("initializing"),
    unavailable: state("unavailable"),
  };
  const expiry = single(
    "ambit_certificate_first_expiry_seconds",
    "Seconds until the first certificate in force ends",
    "gauge",
  );
  const lists = single("ambit_crl_lists", "Certificate revocation lists in force", "gauge");
  const revoked = single("ambit_crl_revoked_certificates", "Certificates that the lists in force revoke", "gauge");
  const failures = single("ambit_crl_load_failures", "Times the file of revocation lists could not be used", "counter");
  return {
    requested(outcome) {
      const slot = registry.acquire(requests, labelSet({ outcome }));
      registry.add(slot, 1);
      registry.release(slot);
    },
    setStates(counts) {
      for (const name of ["available", "initializing", "unavailable"] as const) registry.set(slots[name], counts[name]);
    },
    setFirstExpiry: (seconds) => registry.set(expiry, seconds ?? Infinity),
    setRevocations(listCount, revokedCount) {
      registry.set(lists, listCount);
      registry.set(revoked, revokedCount);
    },
    revocationsFailed: () => registry.add(failures, 1),
  };
}
