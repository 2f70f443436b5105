/** The roots that istiod's certificate must chain to, read anew for each connection: Kubernetes replaces the file. */
import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import type { RootSource } from "../../cli/config.ts";
import { IstiodError, textOf } from "./errors.ts";

/** Where distributions keep the operating system's bundle; the first that is there counts. */
const SYSTEM_BUNDLES = [
  "/etc/ssl/certs/ca-certificates.crt",
  "/etc/pki/tls/certs/ca-bundle.crt",
  "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
  "/etc/ssl/ca-bundle.pem",
  "/etc/ssl/cert.pem",
];

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g;

export interface TrustRoots {
  /** One certificate an entry, in PEM; at least one. */
  readonly certificates: readonly string[];
  /** For messages. */
  readonly origin: string;
}

/**
 * @param systemBundles files tried for `SYSTEM`.
 * @throws IstiodError of kind `local` when there is no certificate that can be read.
 */
export function readTrustRoots(source: RootSource, systemBundles: readonly string[] = SYSTEM_BUNDLES): TrustRoots {
  const origin = source.kind === "file" ? source.path : source.kind === "pem" ? "the PEM given" : "the system's roots";
  const certificates = splitPem(rootText(source, systemBundles)).filter(isCertificate);
  if (certificates.length === 0) {
    throw new IstiodError("local", `there is no certificate in ${origin}: istiod cannot be trusted without a root`);
  }
  return { certificates, origin };
}

/** Every certificate of a PEM text, each with its markers; other blocks and text between them are passed over. */
export function splitPem(text: string): string[] {
  return text.match(CERTIFICATE)?.map((pem) => `${pem}\n`) ?? [];
}

function rootText(source: RootSource, systemBundles: readonly string[]): string {
  switch (source.kind) {
    case "pem":
      return source.pem;
    case "file":
      try {
        return readFileSync(source.path, "utf8");
      } catch (cause) {
        throw new IstiodError(
          "local",
          `cannot read the root certificate ${source.path}: ${
            textOf(cause)
          }; istiod puts it in ConfigMap istio-ca-root-cert`,
          undefined,
          cause,
        );
      }
    case "system":
      for (const path of systemBundles) {
        try {
          return readFileSync(path, "utf8");
        } catch {
          // The next one.
        }
      }
      throw new IstiodError("local", `the system has no bundle of roots: looked for ${systemBundles.join(", ")}`);
  }
}

/** A bundle with one entry that nobody can read still trusts by the others: an entry less is never more trust. */
function isCertificate(pem: string): boolean {
  try {
    new X509Certificate(pem);
    return true;
  } catch {
    return false;
  }
}
