/**
 * Throw-away SPIFFE certificates for the Envoy pair, made with the openssl command: one root, one leaf per identity,
 * ECDSA P-256 throughout, as ambit's own local CA issues them.
 */
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";

/** Paths of PEM files. */
export interface CertificateFiles {
  readonly certificate: string;
  readonly key: string;
  readonly root: string;
}

function openssl(directory: string, args: readonly string[]): void {
  execFileSync("openssl", args, { cwd: directory, stdio: ["ignore", "ignore", "pipe"] });
}

const NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-sha256"];

/** Makes a root in `directory` and returns its issuer of leaves for SPIFFE ids. */
export function createBenchCa(directory: string): (name: string, spiffeId: string) => CertificateFiles {
  const root = join(directory, "root.pem");
  openssl(directory, [
    "req",
    "-x509",
    ...NEW_KEY,
    "-days",
    "2",
    "-subj",
    "/O=cluster.local",
    "-keyout",
    "root.key",
    "-out",
    root,
  ]);
  return (name, spiffeId) => {
    const extensions = [
      "basicConstraints=critical,CA:FALSE",
      "keyUsage=critical,digitalSignature",
      "extendedKeyUsage=serverAuth,clientAuth",
      `subjectAltName=critical,URI:${spiffeId}`,
    ];
    writeFileSync(join(directory, `${name}.ext`), extensions.join("\n") + "\n");
    openssl(directory, ["req", "-new", ...NEW_KEY, "-subj", "/", "-keyout", `${name}.key`, "-out", `${name}.csr`]);
    const sign = [
      "x509",
      "-req",
      "-in",
      `${name}.csr`,
      "-CA",
      root,
      "-CAkey",
      "root.key",
      "-CAcreateserial",
      "-days",
      "1",
    ];
    openssl(directory, [...sign, "-sha256", "-extfile", `${name}.ext`, "-out", `${name}.pem`]);
    return { certificate: join(directory, `${name}.pem`), key: join(directory, `${name}.key`), root };
  };
}
