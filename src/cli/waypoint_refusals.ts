/**
 * What pilot-agent can do and this proxy cannot. Asked for, it ends the start: a waypoint with another identity, or with less protection than its
 * operator believes, must not look as if all were well.
 */
import { UsageError } from "./errors.ts";
import { custom, type Option, text } from "./options.ts";
import type { Host } from "./ztunnel_config.ts";

/** Any value but these is refused. */
function refused(env: string, neutral: readonly string[], what: string): Option<undefined> {
  return custom<undefined>(
    { env, metavar: neutral[0] },
    undefined,
    neutral[0],
    `${what} Not supported: any other value ends the start.`,
    (value) => {
      if (value === "" || neutral.includes(value)) return undefined;
      throw new Error("is not supported by this version: unset it");
    },
  );
}

const OFF = ["false", "0", "f", "F", "FALSE", "False"];

export const refusedOptions = {
  fileMountedCerts: refused("FILE_MOUNTED_CERTS", OFF, "An identity from files instead of from the CA."),
  provCert: refused("PROV_CERT", ["none"], "A client certificate for the calls to istiod."),
  caProvider: refused("CA_PROVIDER", ["Citadel"], "Another kind of CA than istiod's."),
  credentialFetcher: refused(
    "CREDENTIAL_FETCHER_TYPE",
    ["JWT"],
    "Another credential than the service account's token.",
  ),
  xdsAuthProvider: refused("XDS_AUTH_PROVIDER", ["none"], "Another credential for xDS."),
  trustBundles: refused("PROXY_CONFIG_XDS_AGENT", OFF, "Trust anchors and configuration by xDS."),
  secureMetricsPort: refused("ENVOY_SECURE_METRICS_PORT", ["0"], "Metrics over mTLS."),
  secureMergedMetricsPort: refused("ENVOY_SECURE_MERGED_METRICS_PORT", ["0"], "Merged metrics over mTLS."),
  statusProxyProtocol: refused("ENVOY_STATUS_PORT_ENABLE_PROXY_PROTOCOL", OFF, "The PROXY protocol before probes."),
  disableEnvoy: refused("DISABLE_ENVOY", OFF, "An agent without a proxy."),
  identitySocket: text(
    { env: "WORKLOAD_IDENTITY_SOCKET_FILE" },
    "socket",
    "Socket of another identity provider (SPIRE).",
  ),
} as const;

const SPIFFE_SOCKETS = "./var/run/secrets/workload-spiffe-uds";
/** A certificate and its key, where pilot-agent looks for them before it asks the CA. */
const MOUNTED: readonly (readonly [directory: string, names: readonly string[]])[] = [
  ["./etc/certs", ["cert-chain.pem", "key.pem"]],
  ["./var/run/secrets/workload-spiffe-credentials", ["cert-chain.pem", "key.pem", "root-cert.pem"]],
];

/** pilot-agent takes another identity where it finds one. @throws UsageError when there is one */
export function refuseForeignIdentity(
  v: { readonly identitySocket: string; readonly outputCerts: string | undefined },
  host: Pick<Host, "exists">,
): void {
  const socket = `${SPIFFE_SOCKETS}/${v.identitySocket}`;
  if (host.exists(socket)) {
    throw new UsageError(
      `${socket}: an identity provider (SPIRE) serves there, which is not supported: remove its volume, and istiod's CA signs`,
    );
  }
  for (const [directory, names] of MOUNTED) {
    // What it writes itself it does not read.
    if (v.outputCerts !== undefined && sameDirectory(v.outputCerts, directory)) continue;
    if (!names.every((name) => host.exists(`${directory}/${name}`))) continue;
    throw new UsageError(
      `${directory}: an identity from files is not supported: remove the volume, and istiod's CA signs`,
    );
  }
}

function sameDirectory(a: string, b: string): boolean {
  const plain = (path: string) => path.replace(/^\.?\//, "").replace(/\/+$/, "");
  return plain(a) === plain(b);
}
