/**
 * From ztunnel's option values to its Config: everything that depends on more than one option, on
 * the machine or on a file is decided here, once.
 */
import type { RootSource, TokenSource, ZtunnelConfig } from "./config.ts";
import { UsageError } from "./errors.ts";
import type { Environment, ParsedArguments, ValuesOf } from "./options.ts";
import { resolveOptions } from "./options.ts";
import { mergeProxyConfig, MESH_CONFIG_PATH } from "./proxy_config.ts";
import type { ProxyConfig } from "./proxy_config.ts";
import { parseServerAddress } from "./values.ts";
import { DEFAULT_AGENT_SOCKET, DEFAULT_TOKEN_PATH, ztunnelOptions } from "./ztunnel_options.ts";

/** What the command line needs to know of the machine. */
export interface Host {
  /** CPUs this process may use. */
  readonly cpus: number;
  /** As the kernel has it. */
  readonly hostName?: string;
  /** Of the interfaces that are up, without loopback and link-local ones. */
  addresses?(): readonly { readonly interface: string; readonly ip: string }[];
  exists(path: string): boolean;
  /** Undefined when there is no such file; throws when it cannot be read. */
  readText(path: string): string | undefined;
  /** Loads the YAML parser, which is not needed in most processes. */
  loadYaml(): Promise<(text: string) => unknown>;
}

type Values = ValuesOf<typeof ztunnelOptions>;

/** Not configurable in ProxyConfig. */
const READINESS_PORT = 15021;
const DEFAULT_ADMIN_PORT = 15000;
const DEFAULT_STATS_PORT = 15020;
const DEFAULT_PACKET_MARK = 1337;
const DEFAULT_TERMINATION_DEADLINE_MS = 5000;

/** @throws UsageError for a value, or a combination of values, that cannot be used. */
export async function buildZtunnelConfig(
  parsed: ParsedArguments,
  env: Environment,
  host: Host,
  proxyArgs: string,
): Promise<ZtunnelConfig> {
  const v = resolveOptions(ztunnelOptions, parsed, env);
  const proxyConfig = await readProxyConfig(v, host);
  const proxyMetadata = nodeMetadata(v, proxyConfig);
  const dnsProxyEnabled = (v.dnsCapture ?? proxyMetadata["DNS_CAPTURE"] ?? "true").toLowerCase() === "true";

  if (v.proxyMode === "dedicated" && v.proxyWorkload === undefined) {
    throw new UsageError("PROXY_MODE=dedicated needs PROXY_WORKLOAD_INFO=namespace/name/serviceaccount");
  }
  if (v.localXdsPath !== undefined && v.localXds !== undefined) {
    throw new UsageError("LOCAL_XDS_PATH and LOCAL_XDS exclude each other: set one of them");
  }
  if (v.xdsOnDemand && dnsProxyEnabled) {
    throw new UsageError("XDS_ON_DEMAND and the DNS proxy exclude each other: set ISTIO_META_DNS_CAPTURE=false");
  }
  if (!v.proxyEnabled && !dnsProxyEnabled) {
    throw new UsageError("nothing to serve: ENABLE_PROXY is false and the DNS proxy is off");
  }

  const istiod = v.kubernetesServiceHost !== undefined
    ? "https://istiod.istio-system.svc:15012"
    : "https://localhost:15012";
  return deepFreeze({
    role: "ztunnel",
    proxyMode: v.proxyMode,
    proxyWorkload: v.proxyMode === "dedicated" ? v.proxyWorkload : undefined,
    proxyEnabled: v.proxyEnabled,
    nodeName: v.nodeName,
    network: v.network,
    clusterId: v.clusterId,
    clusterDomain: v.clusterDomain,
    trustDomain: v.trustDomain,
    podName: v.podName,
    podNamespace: v.podNamespace,
    serviceAccount: v.serviceAccount,
    instanceIp: v.instanceIp,
    packetMark: v.packetMark ?? (v.proxyMode === "shared" ? DEFAULT_PACKET_MARK : undefined),
    podSource: podSource(v),
    inpodSocketPath: v.inpodSocketPath ?? DEFAULT_AGENT_SOCKET,
    inpodPortReuse: v.inpodPortReuse,
    requireOriginalSource: v.requireOriginalSource,
    ipv6Enabled: v.ipv6Enabled,
    xds: {
      address: v.xdsAddress !== undefined ? v.xdsAddress.url : discoveryAddress(proxyConfig) ?? istiod,
      root: rootSource(v.xdsRoot, host),
      altHostname: v.xdsAltHostname,
      headers: v.xdsHeaders,
      onDemand: v.xdsOnDemand,
    },
    ca: {
      address: v.fakeCa ? undefined : v.caAddress !== undefined ? v.caAddress.url : istiod,
      root: rootSource(v.caRoot, host),
      altHostname: v.caAltHostname,
      headers: v.caHeaders,
      secretTtlMs: v.secretTtlMs,
      fake: v.fakeCa,
    },
    authToken: tokenSource(v.authToken, host),
    crlPath: v.crlPath,
    localXds: v.localXdsPath !== undefined
      ? { kind: "file", path: v.localXdsPath }
      : v.localXds !== undefined
      ? { kind: "yaml", text: v.localXds }
      : { kind: "none" },
    localControl: v.localControl || undefined,
    preferredServiceNamespace: v.preferredServiceNamespace,
    poolMaxStreamsPerConnection: v.poolMaxStreamsPerConnection,
    poolUnusedReleaseTimeoutMs: v.poolUnusedReleaseTimeoutMs,
    http2StreamWindowBytes: v.http2StreamWindowBytes,
    http2ConnectionWindowBytes: v.http2ConnectionWindowBytes,
    http2FrameBytes: v.http2FrameBytes,
    socket: {
      keepaliveEnabled: v.keepaliveEnabled,
      keepaliveTimeMs: v.keepaliveTimeMs,
      keepaliveIntervalMs: v.keepaliveIntervalMs,
      keepaliveRetries: v.keepaliveRetries,
      userTimeoutEnabled: v.userTimeoutEnabled,
    },
    terminationDeadlineMs: terminationDeadlineMs(v.terminationDeadlineMs, v.terminationGracePeriodSeconds),
    localhostAppTunnel: v.localhostAppTunnel,
    responseBaggage: v.responseBaggage,
    authzPolicyInfoLogging: v.authzPolicyInfoLogging,
    socks5Enabled: v.socks5Enabled,
    tls12Enabled: v.tls12Enabled,
    compliancePolicy: v.compliancePolicy,
    workers: workerCount(v, proxyConfig.concurrency, host.cpus),
    adminPort: proxyConfig.proxyAdminPort ?? DEFAULT_ADMIN_PORT,
    statsPort: proxyConfig.statsPort ?? DEFAULT_STATS_PORT,
    readinessPort: READINESS_PORT,
    dnsProxyEnabled,
    dnsProxyAddress: v.dnsProxyAddress ?? "localhost:15053",
    dnsTtlSeconds: v.dnsTtlSeconds,
    proxyMetadata,
    proxyMetadataJson: typedMetadata(v),
    istioVersion: v.istioVersion ?? proxyMetadata["ISTIO_VERSION"],
    proxyArgs,
    log: { filter: v.logLevel, format: v.logFormat },
  });
}

/** `ambit local` says which pods there are too, unless a node agent is named beside it. */
function podSource(v: Values): ZtunnelConfig["podSource"] {
  if (v.proxyMode === "dedicated") return "none";
  return v.localControl && v.inpodSocketPath === undefined ? "local" : "agent";
}

async function readProxyConfig(v: Values, host: Host): Promise<ProxyConfig> {
  let mesh: string | undefined;
  try {
    mesh = host.readText(MESH_CONFIG_PATH);
  } catch (error) {
    throw new UsageError(`cannot read ${MESH_CONFIG_PATH}: ${error instanceof Error ? error.message : String(error)}`);
  }
  const env = v.proxyConfig === "" ? undefined : v.proxyConfig;
  const parseYaml = mesh === undefined && env === undefined ? () => undefined : await host.loadYaml();
  return mergeProxyConfig(
    mesh === undefined ? undefined : { origin: MESH_CONFIG_PATH, text: mesh },
    env === undefined ? undefined : { origin: "PROXY_CONFIG", text: env },
    parseYaml,
  );
}

function discoveryAddress(proxyConfig: ProxyConfig): string | undefined {
  if (proxyConfig.discoveryAddress === undefined || proxyConfig.discoveryAddress === "") return undefined;
  try {
    return parseServerAddress(proxyConfig.discoveryAddress);
  } catch (error) {
    const value = JSON.stringify(proxyConfig.discoveryAddress);
    throw new UsageError(`PROXY_CONFIG: discoveryAddress: ${value} ${(error as Error).message}`);
  }
}

/** The environment wins over ProxyConfig; both lose the prefix. */
function nodeMetadata(v: Values, proxyConfig: ProxyConfig): Readonly<Record<string, string>> {
  const prefix = "ISTIO_META_";
  const entries = new Map<string, string>();
  for (const [key, value] of Object.entries(proxyConfig.proxyMetadata)) {
    entries.set(key.startsWith(prefix) ? key.slice(prefix.length) : key, value);
  }
  for (const [key, value] of v.metadata) entries.set(key, value);
  return Object.fromEntries(entries);
}

function typedMetadata(v: Values): Readonly<Record<string, unknown>> {
  return Object.fromEntries(v.metadataJson.map(([key, value]) => {
    try {
      return [key, JSON.parse(value)];
    } catch {
      throw new UsageError(`environment variable ISTIO_METAJSON_${key}: must be JSON`);
    }
  }));
}

function rootSource(value: string, host: Host): RootSource {
  if (value === "SYSTEM" && !host.exists(value)) return { kind: "system" };
  if (value.includes("-----BEGIN")) return { kind: "pem", pem: value };
  // A file that is not there yet is still a file: Kubernetes may mount it late, and it is read at each connect.
  return { kind: "file", path: value };
}

function tokenSource(value: string | undefined, host: Host): TokenSource {
  if (value === undefined) {
    return host.exists(DEFAULT_TOKEN_PATH) ? { kind: "file", path: DEFAULT_TOKEN_PATH } : { kind: "none" };
  }
  if (value === "") return { kind: "none" };
  return host.exists(value) ? { kind: "file", path: value } : { kind: "literal", value };
}

/** Leaves the last seconds of the pod's grace period for the process itself. */
export function terminationDeadlineMs(deadlineMs: number | undefined, graceSeconds: number | undefined): number {
  if (deadlineMs !== undefined) return deadlineMs;
  if (graceSeconds === undefined) return DEFAULT_TERMINATION_DEADLINE_MS;
  return Math.max(1, graceSeconds > 10 ? graceSeconds - 5 : graceSeconds - 1) * 1000;
}

function workerCount(v: Values, concurrency: number | undefined, hostCpus: number): number {
  const cpus = Math.max(1, v.cpuCount || hostCpus);
  const wanted = v.workerThreads ?? (concurrency === undefined ? undefined : { kind: "count", count: concurrency });
  switch (wanted?.kind) {
    case "percent":
      return Math.max(1, Math.ceil(cpus * wanted.percent / 100));
    case "all":
      return cpus;
    case "count":
      return wanted.count === 0 ? cpus : wanted.count;
    case undefined: {
      const request = v.resourceCpuRequest ?? 0;
      if (v.resourceCpuLimit) return Math.max(v.resourceCpuLimit, request);
      return Math.max(Math.ceil(cpus / 4), request, 2);
    }
  }
}

function deepFreeze<T>(value: T): T {
  if (typeof value === "object" && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const entry of Object.values(value)) deepFreeze(entry);
  }
  return value;
}
