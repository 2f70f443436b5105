/**
 * From the waypoint's option values to its Config: everything that depends on more than one option, on the machine or on a file is decided here,
 * once (waypoint.md 1.2 to 1.8).
 */
import type { RootSource, TokenSource, WaypointConfig } from "./config.ts";
import { parseDownwardFile } from "./downward_api.ts";
import { UsageError } from "./errors.ts";
import { type Environment, type ParsedArguments, resolveOptions, type ValuesOf } from "./options.ts";
import { waypointOptions } from "./waypoint_options.ts";
import {
  asObject,
  discoveryAddress,
  drain,
  type Fields,
  judgeProxyConfig,
  maxConnections,
  number,
  port,
  readProxyConfig,
} from "./waypoint_proxy_config.ts";
import { refuseForeignIdentity } from "./waypoint_refusals.ts";
import type { Host } from "./ztunnel_config.ts";

type Values = ValuesOf<typeof waypointOptions>;

/** pilot-agent's where neither flag, configuration nor limit says. */
const DEFAULT_WORKERS = 2;
const STATIC_LABELS_VARIABLE = "LABELS";
/** The line whose shapes are understood; istiod sends older ones to older proxies. */
const ISTIO_VERSION = "1.31.0";

/** Roots by PILOT_CERT_PROVIDER, relative to the working directory, which is `/` in a pod. */
const PROVIDER_ROOTS: Readonly<Record<string, string>> = {
  istiod: "./var/run/secrets/istio/root-cert.pem",
  kubernetes: "./var/run/secrets/kubernetes.io/serviceaccount/ca.crt",
  custom: "./etc/certs/root-cert.pem",
};

/** @throws UsageError for a value, or a combination of values, that cannot be used */
export async function buildWaypointConfig(
  parsed: ParsedArguments,
  env: Environment,
  host: Host,
  proxyArgs: string,
): Promise<WaypointConfig> {
  const v = resolveOptions(waypointOptions, parsed, env);
  const localControl = v.localControl || undefined;
  if (localControl === undefined) refuseForeignIdentity(v, host);
  const labels = readDownward(v.labelsPath, host);
  const annotations = readDownward(v.annotationsPath, host);
  const proxyConfig = await readProxyConfig({
    mesh: readMesh(v.meshConfig, host),
    own: v.proxyConfig ?? "",
    annotations,
    loadYaml: () => host.loadYaml(),
  });
  const { podNamespace } = v;
  const instanceIp = required(
    v.instanceIp,
    "INSTANCE_IP",
    "the own pod's address, by which istiod finds what it serves",
  );
  const domain = v.domain || `${podNamespace}.svc.cluster.local`;
  const address = localControl === undefined ? discoveryAddress(proxyConfig) : undefined;
  const provider = localControl === undefined ? rootOfProvider(v) : undefined;
  return deepFreeze({
    role: "waypoint",
    domain,
    serviceCluster: v.serviceCluster || `${v.serviceAccount || "istio-proxy"}.${podNamespace}`,
    podName: required(v.podName, "POD_NAME", "the own pod's name"),
    podNamespace: required(podNamespace, "POD_NAMESPACE", "the own pod's namespace"),
    serviceAccount: v.serviceAccount || "default",
    instanceIp,
    instanceIps: [...new Set([instanceIp, ...addresses(annotations, host)])],
    trustDomain: v.trustDomain,
    nodeName: v.nodeName,
    clusterId: v.clusterId,
    workers: workerCount(v, proxyConfig, host),
    ipv6Enabled: v.ipv6Enabled,
    hbonePort: v.listenPort,
    xds: { address, root: rootSource(v.xdsRoot, provider, host), altHostname: v.istiodSan, headers: v.xdsHeaders },
    ca: {
      address: localControl === undefined ? v.caAddress?.url ?? address : undefined,
      root: rootSource(v.caRoot, provider, host),
      altHostname: v.istiodSan,
      headers: v.caHeaders,
      secretTtlMs: v.secretTtlMs,
      certSigner: v.certSigner,
    },
    localControl,
    crlPath: v.caCrlEnabled ? v.crlPath : undefined,
    secretGraceRatio: v.secretGraceRatio,
    secretGraceJitter: v.secretGraceJitter,
    key: keyKind(v),
    outputCerts: v.outputCerts || undefined,
    authToken: tokenSource(v.authToken),
    compliancePolicy: v.compliancePolicy,
    labels,
    annotations,
    readPod: () => {
      try {
        return {
          labels: readDownward(v.labelsPath, host),
          annotations: readDownward(v.annotationsPath, host),
        };
      } catch {
        return { labels, annotations };
      }
    },
    proxyConfig,
    notes: judgeProxyConfig(proxyConfig),
    proxyMetadata: nodeMetadata(v, proxyConfig),
    proxyMetadataJson: typedMetadata(v),
    istioVersion: ISTIO_VERSION,
    adminPort: port(proxyConfig, "proxyAdminPort"),
    statsPort: port(proxyConfig, "statusPort"),
    readinessPort: v.readinessPort,
    prometheusPort: v.prometheusPort,
    drainMs: drain(proxyConfig, "drainDuration"),
    terminationDrainMs: drain(proxyConfig, "terminationDrainDuration"),
    exitOnZeroConnections: v.exitOnZeroConnections,
    minimumDrainMs: v.minimumDrainMs,
    maxConnections: maxConnections(proxyConfig),
    proxyArgs,
    log: { filter: v.logLevel, format: v.logAsJson ? "json" : "plain" },
  });
}

function required(value: string, name: string, what: string): string {
  if (value === "") {
    throw new UsageError(`${name} is not set: it is ${what}; istiod's template takes it from the downward API`);
  }
  return value;
}

function workerCount(v: Values, proxyConfig: Fields, host: Host): number {
  const wanted = v.concurrency ?? number(proxyConfig, "concurrency", 0, 1024);
  if (wanted !== undefined && wanted > 0) return wanted;
  if (v.cpuLimit !== undefined && v.cpuLimit > 0) return Math.min(v.cpuLimit, Math.max(1, host.cpus));
  return wanted === 0 ? Math.max(1, host.cpus) : Math.min(DEFAULT_WORKERS, Math.max(1, host.cpus));
}

/** The environment wins over ProxyConfig; both lose the prefix. */
function nodeMetadata(v: Values, proxyConfig: Fields): Readonly<Record<string, string>> {
  const prefix = "ISTIO_META_";
  const entries = new Map<string, string>();
  for (const [key, value] of Object.entries(asObject(proxyConfig["proxyMetadata"], "PROXY_CONFIG: proxyMetadata"))) {
    if (typeof value === "object") throw new UsageError(`PROXY_CONFIG: proxyMetadata: ${key}: must be text`);
    if (key.startsWith(prefix)) entries.set(key.slice(prefix.length), String(value));
  }
  for (const [key, value] of v.metadata) entries.set(key, value);
  return Object.fromEntries(entries);
}

/** The name of the variable tells nothing, save one: each holds metadata of its own. */
function typedMetadata(v: Values): Fields {
  const merged: Record<string, unknown> = {};
  for (const [key, value] of v.metadataJson) {
    const origin = `environment variable ISTIO_METAJSON_${key}`;
    let parsed: unknown;
    try {
      parsed = JSON.parse(value);
    } catch {
      throw new UsageError(`${origin}: must be JSON`);
    }
    if (key === STATIC_LABELS_VARIABLE) merged["STATIC_LABELS"] = asObject(parsed, origin);
    else Object.assign(merged, asObject(parsed, origin));
  }
  return merged;
}

/** All that this pod may be reached by, save the interfaces that an annotation excludes. */
function addresses(annotations: Readonly<Record<string, string>>, host: Host): readonly string[] {
  const excluded = new Set((annotations["traffic.sidecar.istio.io/excludeInterfaces"] ?? "").split(","));
  return (host.addresses?.() ?? []).filter((each) => !excluded.has(each.interface)).map(({ ip }) => ip);
}

function readMesh(path: string, host: Host): { readonly origin: string; readonly text: string } | undefined {
  try {
    const text = host.readText(path);
    return text === undefined ? undefined : { origin: path, text };
  } catch (error) {
    throw new UsageError(`cannot read ${path}: ${(error as Error).message}`);
  }
}

/** pilot-agent makes RSA keys unless told otherwise; peers take both, and this one only where RSA was asked for. */
function keyKind({ eccSignature, eccCurve, rsaKeyBits }: Values): WaypointConfig["key"] {
  if (eccSignature === "" && rsaKeyBits !== undefined) return { kind: "rsa", bits: rsaKeyBits };
  return { kind: "ec", curve: eccCurve === "P384" ? "P-384" : "P-256" };
}

function readDownward(path: string, host: Host): Readonly<Record<string, string>> {
  try {
    return parseDownwardFile(host.readText(path) ?? "").entries;
  } catch (error) {
    throw new UsageError(`cannot read ${path}: ${(error as Error).message}`);
  }
}

/** @throws UsageError where nobody says by which root istiod is known */
function rootOfProvider({ certProvider, xdsRoot, caRoot }: Values): string | undefined {
  if (certProvider === "none" || certProvider === "system") {
    if (xdsRoot && caRoot) return undefined;
    throw new UsageError(
      `PILOT_CERT_PROVIDER=${certProvider}: nobody says by which root istiod is known: set XDS_ROOT_CA and CA_ROOT_CA (SYSTEM: the system's own)`,
    );
  }
  const path = Object.hasOwn(PROVIDER_ROOTS, certProvider) ? PROVIDER_ROOTS[certProvider] : undefined;
  // `k8s.io/NAME`: a signer of the cluster; its root is in istiod's ConfigMap too.
  return path ?? PROVIDER_ROOTS["istiod"];
}

function rootSource(value: string | undefined, fallback: string | undefined, host: Host): RootSource {
  const given = value === undefined || value === "" ? fallback : value;
  if (given === undefined || (given === "SYSTEM" && !host.exists(given))) return { kind: "system" };
  if (given.includes("-----BEGIN")) return { kind: "pem", pem: given };
  return { kind: "file", path: given };
}

function tokenSource(path: string): TokenSource {
  return path === "" ? { kind: "none" } : { kind: "file", path };
}

function deepFreeze<T>(value: T): T {
  if (typeof value === "object" && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const entry of Object.values(value)) deepFreeze(entry);
  }
  return value;
}
