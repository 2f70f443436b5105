/**
 * The certificate in force as files, for other containers of the pod (OUTPUT_CERTS of pilot-agent): key.pem, cert-chain.pem and root-cert.pem, each
 * replaced in one step. The key stands before the chain, so that a reader that waits for the chain finds its key.
 */
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TlsMaterial } from "../platform/tls_context.ts";

/** As pilot-agent: in Kubernetes whoever shares the volume may read, and runs as another user as a rule. */
const MODE_IN_POD = 0o644;
const MODE = 0o600;

/** @throws Error when the directory cannot be written to */
export function outputCertificates(directory: string, { privateKey, chain, roots }: TlsMaterial, inPod: boolean): void {
  const mode = inPod ? MODE_IN_POD : MODE;
  replace(join(directory, "key.pem"), privateKey, mode);
  replace(join(directory, "cert-chain.pem"), [...chain, ...roots].join(""), mode);
  replace(join(directory, "root-cert.pem"), roots.join(""), mode);
}

function replace(path: string, text: string, mode: number): void {
  if (current(path) === text) return;
  const next = `${path}.next`;
  writeFileSync(next, text, { mode });
  renameSync(next, path);
}

function current(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}
