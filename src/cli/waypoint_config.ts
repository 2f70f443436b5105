/**
 * From the waypoint's option values to its Config: everything that depends on more than one option, on the machine or on a file is decided here,
 * once (waypoint.md 1.2 to 1.8).
 */
import type { RootSource, TokenSource, WaypointConfig } from "./config.ts";
import { parseDownwardFile } from "./downward_api.ts";
import { UsageError } from "./errors.ts";
import { type Environment, type ParsedArguments, resolveOptions, type ValuesOf } from "./options.ts";
import { parseDuration, parseInteger, parseServerAddress } from "./values.ts";
import { waypointOptions } from "./waypoint_options.ts";
import type { Host } from "./ztunnel_config.ts";

type Values = ValuesOf<typeof waypointOptions>;
type Fields = Readonly<Record<string, unknown>>;

const DEFAULT_DISCOVERY = "istiod.istio-system.svc:15012";
const DEFAULT_ADMIN_PORT = 15000;
const DEFAULT_STATS_PORT = 15020;
const DEFAULT_DRAIN_MS = 45_000;
const DEFAULT_TERMINATION_DRAIN_MS = 5_000;
/** pilot-agent's where neither flag, configuration nor limit says. */
const DEFAULT_WORKERS = 2;
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
  const proxyConfig = await readProxyConfig(v, host);
  const { podNamespace } = v;
  const domain = v.domain || `${podNamespace}.svc.cluster.local`;
  const address = discoveryAddress(proxyConfig);
  const provider = rootOfProvider(v.certProvider);
  return deepFreeze({
    role: "waypoint",
    domain,
    serviceCluster: v.serviceCluster || `${v.serviceAccount || "istio-proxy"}.${podNamespace}`,
    podName: required(v.podName, "POD_NAME", "the own pod's name"),
    podNamespace: required(podNamespace, "POD_NAMESPACE", "the own pod's namespace"),
    serviceAccount: v.serviceAccount || "default",
    instanceIp: required(v.instanceIp, "INSTANCE_IP", "the own pod's address, by which istiod finds what it serves"),
    trustDomain: v.trustDomain,
    nodeName: v.nodeName,
    clusterId: v.clusterId,
    workers: workerCount(v, proxyConfig, host),
    ipv6Enabled: v.ipv6Enabled,
    hbonePort: v.listenPort,
    xds: { address, root: rootSource(v.xdsRoot, provider, host), altHostname: v.istiodSan, headers: v.xdsHeaders },
    ca: {
      address: v.caAddress === undefined || v.caAddress.url === undefined ? address : v.caAddress.url,
      root: rootSource(v.caRoot, provider, host),
      altHostname: v.istiodSan,
      headers: v.caHeaders,
      secretTtlMs: v.secretTtlMs,
    },
    authToken: tokenSource(v.authToken),
    compliancePolicy: v.compliancePolicy,
    labels: readDownward(v.labelsPath, host),
    annotations: readDownward(v.annotationsPath, host),
    proxyConfig,
    proxyMetadata: nodeMetadata(v, proxyConfig),
    proxyMetadataJson: typedMetadata(v),
    istioVersion: ISTIO_VERSION,
    adminPort: port(proxyConfig, "proxyAdminPort", DEFAULT_ADMIN_PORT),
    statsPort: port(proxyConfig, "statusPort", DEFAULT_STATS_PORT),
    readinessPort: v.readinessPort,
    prometheusPort: v.prometheusPort,
    drainMs: drain(proxyConfig, "drainDuration", DEFAULT_DRAIN_MS),
    terminationDrainMs: drain(proxyConfig, "terminationDrainDuration", DEFAULT_TERMINATION_DRAIN_MS),
    exitOnZeroConnections: v.exitOnZeroConnections,
    minimumDrainMs: v.minimumDrainMs,
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

async function readProxyConfig(v: Values, host: Host): Promise<Fields> {
  let mesh: string | undefined;
  try {
    mesh = host.readText(v.meshConfig);
  } catch (error) {
    throw new UsageError(`cannot read ${v.meshConfig}: ${(error as Error).message}`);
  }
  const own = v.proxyConfig === "" ? undefined : v.proxyConfig;
  if (mesh === undefined && own === undefined) return {};
  const yaml = mesh === undefined && isJson(own) ? JSON.parse : await host.loadYaml();
  const read = (text: string, origin: string): Fields => {
    let value: unknown;
    try {
      value = yaml(text);
    } catch (error) {
      throw new UsageError(`${origin}: neither JSON nor YAML: ${oneLine((error as Error).message)}`);
    }
    return asObject(value, origin);
  };
  const low = mesh === undefined
    ? {}
    : asObject(read(mesh, v.meshConfig)["defaultConfig"], `${v.meshConfig}: defaultConfig`);
  const high = own === undefined ? {} : read(own, "PROXY_CONFIG");
  const metadata = {
    ...asObject(low["proxyMetadata"], "proxyMetadata"),
    ...asObject(high["proxyMetadata"], "PROXY_CONFIG: proxyMetadata"),
  };
  return { ...low, ...high, ...(Object.keys(metadata).length === 0 ? {} : { proxyMetadata: metadata }) };
}

/** What istiod's template writes; the YAML parser is not loaded for it. */
function isJson(text: string | undefined): boolean {
  try {
    JSON.parse(text ?? "");
    return true;
  } catch {
    return false;
  }
}

function asObject(value: unknown, origin: string): Fields {
  if (value === null || value === undefined) return {};
  if (typeof value !== "object" || Array.isArray(value)) throw new UsageError(`${origin}: must be a mapping`);
  return value as Fields;
}

function discoveryAddress(proxyConfig: Fields): string {
  const given = proxyConfig["discoveryAddress"] ?? DEFAULT_DISCOVERY;
  const problem = (rule: string) => new UsageError(`PROXY_CONFIG: discoveryAddress: ${JSON.stringify(given)} ${rule}`);
  if (typeof given !== "string") throw problem("must be text");
  let address: string | undefined;
  try {
    address = parseServerAddress(given);
  } catch (error) {
    throw problem((error as Error).message);
  }
  if (address === undefined) throw problem("must be host:port: a waypoint has its configuration from istiod");
  return address;
}

function number(proxyConfig: Fields, name: string, min: number, max: number): number | undefined {
  const value = proxyConfig[name] ?? undefined;
  if (value === undefined) return undefined;
  try {
    return parseInteger(String(value), min, max);
  } catch (error) {
    throw new UsageError(`PROXY_CONFIG: ${name}: ${JSON.stringify(value)} ${(error as Error).message}`);
  }
}

/** In the JSON of protobuf 0 is what was not set. */
function port(proxyConfig: Fields, name: string, fallback: number): number {
  return number(proxyConfig, name, 0, 65_535) || fallback;
}

function drain(proxyConfig: Fields, name: string, fallbackMs: number): number {
  const value = proxyConfig[name] ?? undefined;
  if (value === undefined) return fallbackMs;
  try {
    if (typeof value !== "string") throw new Error("must be a duration such as 5s");
    return parseDuration(value);
  } catch (error) {
    throw new UsageError(`PROXY_CONFIG: ${name}: ${JSON.stringify(value)} ${(error as Error).message}`);
  }
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

function typedMetadata(v: Values): Fields {
  return Object.fromEntries(v.metadataJson.map(([key, value]) => {
    try {
      return [key, JSON.parse(value)];
    } catch {
      throw new UsageError(`environment variable ISTIO_METAJSON_${key}: must be JSON`);
    }
  }));
}

function readDownward(path: string, host: Host): Readonly<Record<string, string>> {
  try {
    return parseDownwardFile(host.readText(path) ?? "").entries;
  } catch (error) {
    throw new UsageError(`cannot read ${path}: ${(error as Error).message}`);
  }
}

/** Undefined: the system's own. */
function rootOfProvider(name: string): string | undefined {
  if (name === "none" || name === "system") return undefined;
  const path = Object.hasOwn(PROVIDER_ROOTS, name) ? PROVIDER_ROOTS[name] : undefined;
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

function oneLine(text: string): string {
  return text.replaceAll(/\p{Cc}+/gu, " ").trim().slice(0, 300);
}

function deepFreeze<T>(value: T): T {
  if (typeof value === "object" && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const entry of Object.values(value)) deepFreeze(entry);
  }
  return value;
}
