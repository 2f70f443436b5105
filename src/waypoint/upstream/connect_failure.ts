/** Why an endpoint's tunnel could not be had, in words that help to find out (waypoint.md 5.2). */
import type { ConnectFailure } from "../../hbone/connect_stream.ts";
import { describeErrno, ETIMEDOUT } from "../../platform/errno.ts";
import { connectTimeout, localFailure, remoteFailure } from "./failures.ts";
import type { UpstreamFailure } from "./upstream.ts";

/** What a ztunnel means by its answer to CONNECT. */
const STATUSES: Readonly<Record<string, string>> = {
  "400": "its ztunnel does not know the destination",
  "401": "its ztunnel denies the waypoint by an authorization policy",
  "403": "its ztunnel denies the waypoint by an authorization policy",
  "404": "its ztunnel does not know the destination",
  "503": "its ztunnel cannot connect to the application",
};

/** `at`: where the tunnel was to go, `ip:port`. */
export function describeConnectFailure(failure: ConnectFailure, at: string): UpstreamFailure {
  switch (failure.stage) {
    case "connect": {
      const detail = `${at}: ${describeErrno(failure.code)}; maybe a NetworkPolicy blocks HBONE's port`;
      return failure.code === ETIMEDOUT ? connectTimeout(detail) : remoteFailure(detail);
    }
    case "tls":
      return remoteFailure(`${at}: TLS: ${failure.message}`);
    case "identity":
    case "revoked":
      return remoteFailure(`${at}: ${failure.message}`);
    case "status":
      return remoteFailure(`${at}: CONNECT was answered ${failure.status}: ${STATUSES[failure.status] ?? "refused"}`);
    case "reset":
      return remoteFailure(`${at}: CONNECT was reset with HTTP/2 error ${failure.code}`);
    case "h2":
    case "answer":
      return remoteFailure(`${at}: ${failure.message}`);
    case "closed":
      return localFailure(`${at}: ${failure.message}`);
    case "gateway":
    case "inner":
      return remoteFailure(`${at}: the way through the gateway failed`);
  }
}
