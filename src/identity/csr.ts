/**
 * A fresh key and a certificate request for a workload identity: ECDSA P-256, empty subject and exactly one extension, a
 * critical subject alternative name with one URI (reference ztunnel, section 4).
 */
import "reflect-metadata";
import { PemConverter, Pkcs10CertificateRequestGenerator, SubjectAlternativeNameExtension } from "@peculiar/x509";

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;

export interface KeyAndRequest {
  /** PKCS#8 in PEM. It never leaves the process. */
  readonly privateKeyPem: string;
  readonly csrPem: string;
}

/** `identity` is the SPIFFE id the certificate shall carry. */
export async function createKeyAndRequest(identity: string): Promise<KeyAndRequest> {
  const keys = await crypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
  const request = await Pkcs10CertificateRequestGenerator.create({
    keys,
    signingAlgorithm: ALGORITHM,
    extensions: [new SubjectAlternativeNameExtension([{ type: "url", value: identity }], true)],
  });
  const pkcs8 = await crypto.subtle.exportKey("pkcs8", keys.privateKey);
  return { privateKeyPem: PemConverter.encode(pkcs8, "PRIVATE KEY"), csrPem: request.toString("pem") };
}
