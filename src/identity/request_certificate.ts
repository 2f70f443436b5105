/**
 * One request to the CA, from the key to a certificate that is known to be usable: of this identity, of this key, alive, with a root. What
 * the CA answers is judged here and nowhere else.
 */
import { type CertificateFacts, type KeyKind, readCertificate } from "../platform/certificates.ts";
import { splitCertificates, TlsContext, type TlsMaterial } from "../platform/tls_context.ts";
import { createKeyAndRequest } from "./csr.ts";

/** Who signs requests: the mesh CA by whichever way it is reached. Rejects with a reason when it will not. */
export interface Authority {
  requestCertificate(
    identity: string,
    csrPem: string,
  ): Promise<{ readonly chain: readonly string[]; readonly roots: readonly string[] }>;
}

/** A certificate as it is used and as it is shown. */
export interface Certificate {
  readonly material: TlsMaterial;
  /** The leaf first, without the root. */
  readonly chain: readonly [CertificateFacts, ...CertificateFacts[]];
  readonly roots: readonly CertificateFacts[];
}

/** The CA did not answer in time. */
export class CaTimeout extends Error {}

/**
 * Rejects with what was wrong with the answer, or with the CA's reason. `withTimeout` bounds the wait for the CA alone: making a key
 * takes no time worth counting.
 */
export async function requestCertificate(
  authority: Authority,
  identity: string,
  nowMs: () => number,
  withTimeout: <T>(promise: Promise<T>) => Promise<T>,
  key?: KeyKind,
): Promise<Certificate> {
  const { privateKeyPem, csrPem } = createKeyAndRequest(identity, key);
  const { chain, roots } = await withTimeout(authority.requestCertificate(identity, csrPem));
  const [leaf, ...above] = chain.flatMap(splitOrKeep).map(readCertificate);
  if (leaf === undefined) throw new Error("the CA answered with an empty chain");
  // One name and no other: with two, each peer would choose for itself who we are.
  if (leaf.uris.length !== 1 || leaf.uris[0] !== identity) {
    throw new Error(`the CA answered with a certificate for ${leaf.uris.join(", ") || "nobody"}`);
  }
  if (leaf.notAfterMs <= nowMs()) {
    throw new Error(
      `the CA answered with a certificate that expired at ${formatTime(leaf.notAfterMs)}, by this node's clock ` +
        `(${formatTime(nowMs())}): compare it with the control plane's`,
    );
  }
  const material: TlsMaterial = { privateKey: privateKeyPem, chain, roots };
  // A worker given what OpenSSL cannot use would end, and so would each that replaces it.
  new TlsContext("server", material).close();
  return { material, chain: [leaf, ...above], roots: roots.flatMap(splitOrKeep).map(readCertificate) };
}

/** Several certificates may come as one text; what is none is kept, to be refused by name. */
function splitOrKeep(pem: string): string[] {
  const parts = splitCertificates(pem);
  return parts.length === 0 ? [pem] : parts;
}

/** As operators read it in certificates and logs. */
export function formatTime(ms: number): string {
  return new Date(ms).toISOString().replace(/\.[0-9]+Z$/, "Z");
}
