/** A client with what the kubelet gives every pod: address of the API server, service account, CA. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createKubeClient, type KubeClient, KubeError } from "./client.ts";
import { tokenFile } from "./token.ts";

export interface InClusterSettings {
  /** KUBERNETES_SERVICE_HOST, without brackets. */
  readonly kubernetesHost: string | undefined;
  readonly kubernetesPort: string | undefined;
  readonly kubernetesProtocol: string;
  /** Folder of `token` and `ca.crt`. */
  readonly serviceAccountDir: string;
  /** Instead of the service account's. */
  readonly kubeCaFile: string | undefined;
  readonly skipTlsVerify: boolean;
}

/** A CA is replaced once in years, and then both are in the file for a while. */
const CA_REREAD_MS = 60_000;

/** @throws KubeError when an address, the CA or the token is missing */
export function inClusterClient(settings: InClusterSettings, userAgent: string): KubeClient {
  const server = serverAddress(settings);
  const token = tokenFile(join(settings.serviceAccountDir, "token"));
  token();
  return createKubeClient({
    server,
    ca: settings.skipTlsVerify ? undefined : caFile(caPath(settings)),
    skipTlsVerify: settings.skipTlsVerify,
    token,
    userAgent,
  });
}

/** `https://10.0.0.1:443`. @throws KubeError */
export function serverAddress(
  { kubernetesHost: host, kubernetesPort: port, kubernetesProtocol: protocol }: InClusterSettings,
): string {
  for (const [name, value] of [["KUBERNETES_SERVICE_HOST", host], ["KUBERNETES_SERVICE_PORT", port]]) {
    if (value === undefined || value === "") {
      throw new KubeError(
        `${name} is not set: it says where the API server is, and the kubelet gives it to every pod`,
        0,
        "Address",
      );
    }
  }
  const bracketed = host?.includes(":") && !host.startsWith("[") ? `[${host}]` : host;
  return `${protocol === "" ? "https" : protocol}://${bracketed}:${port}`;
}

export function caPath({ kubeCaFile, serviceAccountDir }: InClusterSettings): string {
  return kubeCaFile ?? join(serviceAccountDir, "ca.crt");
}

/** PEM. @throws KubeError */
export function readCa(path: string): string {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    throw new KubeError(
      `cannot read the API server's CA ${path}: ${
        (error as Error).message
      }; set KUBE_CA_FILE, or SKIP_TLS_VERIFY if you must`,
      0,
      "Certificate",
      { cause: error },
    );
  }
  if (text.includes("-----BEGIN CERTIFICATE-----")) return text;
  throw new KubeError(`the API server's CA ${path} has no certificate in PEM`, 0, "Certificate");
}

function caFile(path: string): () => string {
  let pem = readCa(path);
  let readMs = performance.now();
  return () => {
    if (performance.now() - readMs < CA_REREAD_MS) return pem;
    readMs = performance.now();
    try {
      pem = readCa(path);
    } catch {
      // Between two versions of the file the last one stays.
    }
    return pem;
  };
}
