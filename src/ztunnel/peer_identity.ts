/** Who a tunnel's peer may be, judged by the URI names of its verified certificate (reference ztunnel 5.9). */
import { parseSpiffeId } from "../mesh/mod.ts";

/** As a client: some name must be one of those expected. A text refuses. */
export function admitServer(uris: readonly string[], expected: readonly string[]): string | undefined {
  for (const uri of uris) {
    if (expected.includes(uri)) return undefined;
  }
  return `identity verification error: peer did not present the expected SAN (${expected.join(",")}), got ${
    uris.join(",") || "none"
  }`;
}

/** As a server: some name must be a SPIFFE id of the own trust domain; that one is the client's identity from now on. */
export function admitClient(
  uris: readonly string[],
  trustDomain: string,
): { readonly identity: string } | { readonly refusal: string } {
  for (const uri of uris) {
    if (parseSpiffeId(uri)?.trustDomain === trustDomain) return { identity: uri };
  }
  return {
    refusal: `identity verification error: peer is not of the trust domain ${trustDomain}, got ${
      uris.join(",") || "no name"
    }`,
  };
}
