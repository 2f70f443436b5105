/**
 * A fresh key and a certificate request for a workload identity: ECDSA P-256 unless told otherwise, empty subject and exactly one extension, a
 * critical subject alternative name with one URI (reference ztunnel, section 4).
 */
import { createRequest, type KeyKind, PrivateKey } from "../platform/certificates.ts";

export interface KeyAndRequest {
  /** PKCS#8 in PEM. It never leaves the process. */
  readonly privateKeyPem: string;
  readonly csrPem: string;
}

/** `identity` is the SPIFFE id the certificate shall carry. */
export function createKeyAndRequest(identity: string, kind?: KeyKind): KeyAndRequest {
  const key = new PrivateKey(kind);
  try {
    return { privateKeyPem: key.toPem(), csrPem: createRequest(key, identity) };
  } finally {
    key.free();
  }
}
