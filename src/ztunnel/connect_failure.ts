/**
 * What the access log and the metrics say of an outbound connection that never came to be (reference ztunnel 9.3): who failed, and
 * what to look at. `istio_tcp_connections_*` carry the flag.
 */
import {
  describeErrno,
  ECONNREFUSED,
  EHOSTUNREACH,
  EMFILE,
  ENETUNREACH,
  ENFILE,
  ETIMEDOUT,
} from "../platform/errno.ts";
import type { ConnectFailure } from "../hbone/connect_stream.ts";
import { errorName } from "../protocol/http2/mod.ts";
import type { ResponseFlags } from "../telemetry/traffic_metrics.ts";

export interface FailureText {
  readonly flags: ResponseFlags;
  readonly error: string;
}

/** `hop`: address and port of the tunnel's other end. */
export function describeFailure(failure: ConnectFailure, hop: string): FailureText {
  switch (failure.stage) {
    case "connect":
      return failure.code === ETIMEDOUT
        ? {
          flags: "NETWORK_POLICY",
          error: "connection timed out, maybe a NetworkPolicy is blocking HBONE port 15008",
        }
        : unreachable(failure.code, hop);
    case "tls":
      return { flags: "TLS_FAILURE", error: `tls error with ${hop}: ${failure.message}` };
    case "identity":
      return { flags: "IDENTITY_ERROR", error: failure.message };
    case "revoked":
      return { flags: "CERT_REVOKED", error: failure.message };
    case "status":
      return { flags: "CONNECT", error: `http status: ${failure.status}${STATUS_HINTS[failure.status] ?? ""}` };
    case "reset":
      return {
        flags: "CONNECT",
        error: `the tunnel refused the connection with HTTP/2 error ${failure.code} (${errorName(failure.code)})`,
      };
    case "h2":
      return { flags: "H2_HANDSHAKE_FAILURE", error: `http/2 error with ${hop}: ${failure.message}` };
    case "answer":
    case "closed":
      return { flags: "CONNECT", error: failure.message };
    case "gateway":
      return throughGateway(failure.failure, hop);
    case "inner":
      return behindGateway(failure.failure, hop);
  }
}

/** A plain connection that was not made. */
export function unreachable(code: number, hop: string): FailureText {
  return { flags: "CONNECT", error: `cannot reach ${hop}: ${describeErrno(code)}${hint(code)}` };
}

function throughGateway(failure: ConnectFailure, hop: string): FailureText {
  const { flags, error } = describeFailure(failure, hop);
  if (failure.stage === "status") {
    const why = GATEWAY_STATUS_HINTS[failure.status] ?? "";
    return { flags, error: `network gateway ${hop}: http status: ${failure.status}${why}` };
  }
  return { flags, error: `network gateway ${hop}: ${error}` };
}

function behindGateway(failure: Extract<ConnectFailure, { stage: "inner" }>["failure"], hop: string): FailureText {
  switch (failure.stage) {
    case "tls":
      return { flags: "TLS_FAILURE", error: `tls error behind network gateway ${hop}: ${failure.message}` };
    case "identity":
      return { flags: "IDENTITY_ERROR", error: `behind network gateway ${hop}: ${failure.message}` };
    case "revoked":
      return { flags: "CERT_REVOKED", error: `behind network gateway ${hop}: ${failure.message}` };
    case "closed":
      return { flags: "CONNECT", error: `behind network gateway ${hop}: ${failure.message}` };
  }
}

const STATUS_HINTS: Readonly<Record<string, string>> = {
  "400": " Bad Request; the destination does not take connections for this address",
  "401": " Unauthorized; an authorization policy of the destination does not allow this client",
  "503": " Service Unavailable; the destination's application does not answer",
};

const GATEWAY_STATUS_HINTS: Readonly<Record<string, string>> = {
  "400": " Bad Request; the gateway does not know the service by this name",
  "401": " Unauthorized; an authorization policy of the gateway does not allow this client",
  "403": " Forbidden; an authorization policy of the gateway does not allow this client",
  "404": " Not Found; the gateway does not know the service by this name",
  "503": " Service Unavailable; no endpoint of the service in the gateway's network answers",
};

function hint(code: number): string {
  switch (code) {
    case ECONNREFUSED:
      return "; nothing listens there";
    case ETIMEDOUT:
      return "; a NetworkPolicy or firewall may block it";
    case EHOSTUNREACH:
    case ENETUNREACH:
      return "; the address is not reachable from this node";
    case EMFILE:
    case ENFILE:
      return "; this proxy has no descriptors left: raise the limit of open files";
    default:
      return "";
  }
}
