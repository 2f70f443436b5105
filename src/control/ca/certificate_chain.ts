/** What istiod's CA answers, taken apart (reference ztunnel, section 4). */
import { splitPem } from "../istiod/trust_roots.ts";

export interface IssuedCertificate {
  /** Leaf first, then intermediates; one certificate an entry, in PEM. */
  readonly chain: readonly string[];
  readonly roots: readonly string[];
}

/**
 * The first entry is the leaf, the last the roots, of which there may be several; between are intermediates, one an entry.
 *
 * @throws Error when an entry lacks its certificate, or there is no root: a chain that nobody could verify is no certificate.
 */
export function readCertificateChain(entries: readonly string[]): IssuedCertificate {
  if (entries.length === 0) throw new Error("the CA answered with an empty chain");
  if (entries.length === 1) throw new Error("the CA answered with a certificate alone: no root certificate present");
  const chain = entries.slice(0, -1).map((entry, index) => {
    const [first] = splitPem(entry);
    if (first === undefined) {
      throw new Error(
        `the CA answered with a chain whose entry ${index + 1} of ${entries.length} is no certificate in PEM`,
      );
    }
    return first;
  });
  const roots = splitPem(entries[entries.length - 1]);
  if (roots.length === 0) throw new Error("the CA answered with a chain whose last entry holds no root certificate");
  return { chain, roots };
}
