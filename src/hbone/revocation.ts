/** The certificate chain of a tunnel's peer against the revocation lists in force: at the handshake by OpenSSL, later by this. */
import type { Revocations } from "../platform/revocations.ts";
import type { TlsSession } from "../platform/tls_session.ts";
import type { HandshakeFailure } from "./connection.ts";

/** "untracked": nothing is known of the chain any more. */
export function lookUpPeer(
  tls: TlsSession,
  revocations: Revocations | undefined,
): HandshakeFailure | "untracked" | undefined {
  const list = revocations?.current;
  const outcome = list === undefined ? undefined : tls.checkRevocation(list);
  if (outcome === undefined) return undefined;
  return outcome === "unknown" ? "untracked" : revokedPeer(outcome.message);
}

export function revokedPeer(why: string): HandshakeFailure {
  return {
    stage: "revoked",
    message: `the revocation lists refuse the peer's certificate chain (CERT_REVOKED): ${why}`,
  };
}
