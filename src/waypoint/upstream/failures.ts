/** Why an upstream could not be had, in Envoy's words (waypoint.md appendix E): users look for them in logs. */
import type { UpstreamFailure } from "./upstream.ts";

export const NO_HEALTHY_HOST: UpstreamFailure = {
  flag: "UH",
  reason: "no healthy upstream",
  detail: "no endpoint is fit to take the request",
  safeToRetry: true,
};

/** A circuit limit: `what` for people. */
export function overflow(what: string): UpstreamFailure {
  return { flag: "UO", reason: "overflow", detail: `the cluster's limit of ${what} is reached`, safeToRetry: true };
}

export function remoteFailure(detail: string): UpstreamFailure {
  return { flag: "UF", reason: "remote connection failure", detail, safeToRetry: true };
}

/** Something on this side is wrong: a certificate that is not there, no descriptors. */
export function localFailure(detail: string): UpstreamFailure {
  return { flag: "UF", reason: "local connection failure", detail, safeToRetry: true };
}

export function connectTimeout(detail: string): UpstreamFailure {
  return { flag: "UF", reason: "connection timeout", detail, safeToRetry: true };
}

export function isTimeout(failure: UpstreamFailure): boolean {
  return failure.reason === "connection timeout";
}

export function dnsFailure(detail: string): UpstreamFailure {
  return { flag: "DF", reason: "DNS resolution failure", detail, safeToRetry: true };
}
