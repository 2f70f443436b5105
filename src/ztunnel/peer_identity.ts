/** Who a tunnel's peer may be, judged by the URI names of its verified certificate (reference ztunnel 5.9). */
import { parseSpiffeId } from "../mesh/mod.ts";

/** A certificate may hold thousands of names; the log shows the first. */
const NAMES_SHOWN = 3;

/** As a client: some name must be one of those expected. A text refuses. */
export function admitServer(uris: readonly string[], expected: readonly string[]): string | undefined {
  for (const uri of uris) {
    if (expected.includes(uri)) return undefined;
  }
  return `identity verification error: peer did not present the expected SAN (${expected.join(",")}), got ${
    uris.join(",") || "none"
  }`;
}

/**
 * As a server: the client is who its one URI name says, which must be a SPIFFE id of the own trust domain. ztunnel takes the first of
 * several names, and the trust domain from any of them, so that a client could be judged by a name of another domain. An X.509 SVID has
 * exactly one (https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md section 2), and istiod issues no others.
 */
export function admitClient(
  uris: readonly string[],
  trustDomain: string,
): { readonly identity: string } | { readonly refusal: string } {
  if (uris.length > 1) {
    return {
      refusal: `identity verification error: peer presents ${uris.length} URI names where one is allowed, got ${
        uris.slice(0, NAMES_SHOWN).join(",")
      }`,
    };
  }
  if (uris.length === 1 && parseSpiffeId(uris[0])?.trustDomain === trustDomain) return { identity: uris[0] };
  return {
    refusal: `identity verification error: peer is not of the trust domain ${trustDomain}, got ${
      uris.join(",") || "no name"
    }`,
  };
}
