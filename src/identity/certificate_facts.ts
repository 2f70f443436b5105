/** What ambit needs to know of a certificate beside its bytes: names, validity, serial number. */
import "reflect-metadata";
import { SubjectAlternativeNameExtension, X509Certificate } from "@peculiar/x509";

export interface CertificateFacts {
  readonly pem: string;
  /** Decimal, as `istioctl` reads it. */
  readonly serialNumber: string;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** URI names of the subject. */
  readonly uris: readonly string[];
}

/** Reads the first certificate of a PEM text. Throws when there is none. */
export function readCertificate(pem: string): CertificateFacts {
  const certificate = new X509Certificate(pem);
  const names = certificate.getExtension(SubjectAlternativeNameExtension);
  return {
    pem,
    serialNumber: BigInt("0x" + certificate.serialNumber).toString(10),
    notBeforeMs: certificate.notBefore.getTime(),
    notAfterMs: certificate.notAfter.getTime(),
    uris: names === null ? [] : names.names.items.filter((name) => name.type === "url").map((name) => name.value),
  };
}
