/**
 * `/config_dump`: the shape that `istioctl ztunnel-config` reads. Mesh resources come in already
 * in that vocabulary; this adds version, configuration, certificates and connections.
 */
import type { RootSource, ZtunnelConfig } from "../cli/config.ts";
import type { MeshDump } from "../mesh/config_dump.ts";
import type { BuildInfo } from "../telemetry/build_info.ts";
import type { LazyMeshDump } from "./mesh_dump.ts";

export interface CertificateInfo {
  readonly pem: string;
  readonly serialNumber: bigint;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

export type CertificateState =
  | { readonly kind: "initializing" }
  | {
    readonly kind: "available";
    /** Leaf first, without the root. */
    readonly chain: readonly CertificateInfo[];
    readonly roots: readonly CertificateInfo[];
  }
  | { readonly kind: "unavailable"; readonly error: string };

export interface IdentityCertificate {
  /** SPIFFE id. */
  readonly identity: string;
  readonly state: CertificateState;
}

export interface InboundConnection {
  /** `ip:port`. */
  readonly src: string;
  /** The host the client meant, as a waypoint forwarded it. */
  readonly originalDst: string | null;
  readonly actualDst: string;
  readonly protocol: "HBONE" | "TCP";
}

export interface OutboundConnection {
  readonly src: string;
  readonly originalDst: string;
  readonly actualDst: string;
  readonly protocol: "HBONE" | "TCP" | "DOUBLEHBONE";
}

export interface PodState {
  readonly state: "Pending" | "Up";
  readonly connections: {
    readonly inbound: readonly InboundConnection[];
    readonly outbound: readonly OutboundConnection[];
  };
  readonly info: { readonly name: string; readonly namespace: string; readonly serviceAccount: string };
}

export interface ConfigDumpInput {
  /** Sorted already, or sorted as it is written. */
  readonly mesh: MeshDump | LazyMeshDump;
  /** What was given by file; also part of `mesh`. */
  readonly staticConfig: Pick<MeshDump, "workloads" | "services" | "policies">;
  readonly config: ZtunnelConfig;
  readonly certificates: readonly IdentityCertificate[];
  /** By pod UID. */
  readonly pods: ReadonlyMap<string, PodState>;
  readonly build: BuildInfo;
  /** Where names that are no mesh names are asked for; undefined: unknown. */
  readonly resolver?: ResolverConfig;
}

/** What the DNS proxy forwards to. */
export interface ResolverConfig {
  readonly search: readonly string[];
  /** `ip:port`. */
  readonly nameServers: readonly string[];
  readonly ndots: number;
  readonly attempts: number;
  readonly timeoutMs: number;
}

/** An object for `JSON.stringify` or, with a lazy mesh, `jsonPieces`; certificates and pods are sorted, so that two dumps can be compared. */
export function composeConfigDump(input: ConfigDumpInput): Record<string, unknown> {
  const { mesh, staticConfig, config, certificates, pods, build } = input;
  return {
    workloads: mesh.workloads,
    services: mesh.services,
    policies: mesh.policies,
    stagedServices: mesh.stagedServices,
    staticConfig,
    version: {
      version: build.version,
      gitRevision: build.gitRevision,
      // Istio's field for the toolchain.
      rustVersion: build.runtime,
      buildProfile: build.buildProfile,
      buildStatus: build.gitRevision.endsWith("-dirty") ? "Modified" : "Clean",
      istioVersion: config.istioVersion ?? "unknown",
      cryptoProvider: "openssl",
    },
    config: dumpConfig(config, input.resolver),
    certificates: sorted(certificates, (entry) => entry.identity).map(dumpCertificate),
    ...(config.proxyMode === "shared"
      ? { workloadState: Object.fromEntries(sorted([...pods], ([uid]) => uid).map(([uid, pod]) => [uid, pod])) }
      : {}),
  };
}

function sorted<T>(items: readonly T[], key: (item: T) => string): T[] {
  return [...items].sort((a, b) => {
    const [left, right] = [key(a), key(b)];
    return left < right ? -1 : left > right ? 1 : 0;
  });
}

function dumpCertificate({ identity, state }: IdentityCertificate): Record<string, unknown> {
  switch (state.kind) {
    case "initializing":
      return { identity, state: "Initializing", certChain: [], rootCerts: [] };
    case "unavailable":
      return { identity, state: `Unavailable: ${state.error}`, certChain: [], rootCerts: [] };
    case "available":
      return {
        identity,
        state: "Available",
        certChain: state.chain.map(dumpOneCertificate),
        rootCerts: state.roots.map(dumpOneCertificate),
      };
  }
}

/** Istio's own encoding: base64 of the PEM text, the serial number as decimal text. */
function dumpOneCertificate(certificate: CertificateInfo): Record<string, string> {
  return {
    pem: btoa(certificate.pem),
    serialNumber: certificate.serialNumber.toString(10),
    validFrom: formatSeconds(certificate.notBeforeMs),
    expirationTime: formatSeconds(certificate.notAfterMs),
  };
}

function formatSeconds(timeMs: number): string {
  return new Date(timeMs).toISOString().replace(/\.[0-9]+Z$/, "Z");
}

/** Ports inside a pod; none of them may be a destination through the proxy. */
const OUTBOUND_PORT = 15001;
const INBOUND_PLAINTEXT_PORT = 15006;
const INBOUND_HBONE_PORT = 15008;
const SOCKS5_PORT = 15080;

function dumpConfig(config: ZtunnelConfig, resolver: ResolverConfig | undefined): Record<string, unknown> {
  const any = config.ipv6Enabled ? "[::]" : "0.0.0.0";
  return {
    proxy: config.proxyEnabled,
    dnsProxy: config.dnsProxyEnabled,
    windowSize: config.http2StreamWindowBytes,
    connectionWindowSize: config.http2ConnectionWindowBytes,
    frameSize: config.http2FrameBytes,
    poolMaxStreamsPerConn: config.poolMaxStreamsPerConnection,
    poolUnusedReleaseTimeout: dumpDuration(config.poolUnusedReleaseTimeoutMs),
    socks5Addr: config.socks5Enabled ? `127.0.0.1:${SOCKS5_PORT}` : null,
    adminAddr: { Localhost: [config.ipv6Enabled, config.adminPort] },
    statsAddr: { SocketAddr: `${any}:${config.statsPort}` },
    readinessAddr: { SocketAddr: `${any}:${config.readinessPort}` },
    inboundAddr: `${any}:${INBOUND_HBONE_PORT}`,
    inboundPlaintextAddr: `${any}:${INBOUND_PLAINTEXT_PORT}`,
    outboundAddr: `${any}:${OUTBOUND_PORT}`,
    dnsProxyAddr: dumpDnsAddress(config),
    illegalPorts: [
      OUTBOUND_PORT,
      INBOUND_PLAINTEXT_PORT,
      INBOUND_HBONE_PORT,
      ...(config.socks5Enabled ? [SOCKS5_PORT] : []),
    ],
    network: config.network,
    localNode: config.nodeName ?? null,
    proxyMode: config.proxyMode === "shared" ? "Shared" : "Dedicated",
    proxyWorkloadInformation: config.proxyWorkload ?? null,
    clusterId: config.clusterId,
    clusterDomain: config.clusterDomain,
    caAddress: config.ca.address ?? null,
    caRootCert: dumpRoot(config.ca.root),
    altCaHostname: config.ca.altHostname ?? null,
    xdsAddress: config.xds.address ?? null,
    xdsRootCert: dumpRoot(config.xds.root),
    altXdsHostname: config.xds.altHostname ?? null,
    preferedServiceNamespace: config.preferredServiceNamespace ?? null,
    secretTtl: dumpDuration(config.ca.secretTtlMs),
    xdsOnDemand: config.xds.onDemand,
    fakeCa: config.ca.fake,
    fakeSelfInbound: false,
    selfTerminationDeadline: dumpDuration(config.terminationDeadlineMs),
    proxyMetadata: config.proxyMetadata,
    numWorkerThreads: config.workers,
    requireOriginalSource: config.requireOriginalSource ?? null,
    proxyArgs: config.proxyArgs,
    dnsResolverCfg: {
      domain: null,
      search: resolver?.search ?? [],
      name_servers: (resolver?.nameServers ?? []).map((server) => ({ socket_addr: server })),
    },
    dnsResolverOpts: resolver === undefined ? {} : {
      ndots: resolver.ndots,
      attempts: resolver.attempts,
      timeout: dumpDuration(resolver.timeoutMs),
    },
    inpodUds: config.inpodSocketPath,
    inpodPortReuse: config.inpodPortReuse,
    packetMark: config.packetMark ?? null,
    socketConfig: {
      keepaliveTime: dumpDuration(config.socket.keepaliveTimeMs),
      keepaliveInterval: dumpDuration(config.socket.keepaliveIntervalMs),
      keepaliveRetries: config.socket.keepaliveRetries,
      keepaliveEnabled: config.socket.keepaliveEnabled,
      userTimeoutEnabled: config.socket.userTimeoutEnabled,
    },
    // Values may be credentials.
    xdsHeaders: config.xds.headers.map(([name]) => [name, "<redacted>"]),
    caHeaders: config.ca.headers.map(([name]) => [name, "<redacted>"]),
    localhostAppTunnel: config.localhostAppTunnel,
    ztunnelIdentity: dumpOwnIdentity(config),
    ztunnelWorkload: dumpOwnWorkload(config),
    ipv6Enabled: config.ipv6Enabled,
    crlPath: config.crlPath ?? null,
    enableEnhancedBaggage: config.responseBaggage,
  };
}

/** As Rust's Duration is serialized. */
function dumpDuration(ms: number): { secs: number; nanos: number } {
  return { secs: Math.floor(ms / 1000), nanos: (ms % 1000) * 1_000_000 };
}

function dumpRoot(root: RootSource): unknown {
  switch (root.kind) {
    case "file":
      return { File: root.path };
    case "pem":
      return { Static: null };
    case "system":
      return "Default";
  }
}

function dumpDnsAddress(config: ZtunnelConfig): unknown {
  const match = /^localhost:([0-9]+)$/.exec(config.dnsProxyAddress);
  return match === null
    ? { SocketAddr: config.dnsProxyAddress }
    : { Localhost: [config.ipv6Enabled, Number(match[1])] };
}

/** ztunnel has an identity of its own only when all three variables are there. */
function dumpOwnWorkload(config: ZtunnelConfig): unknown {
  const { podName, podNamespace, serviceAccount } = config;
  if (podName === "" || podNamespace === "" || serviceAccount === "") return null;
  return { name: podName, namespace: podNamespace, serviceAccount };
}

function dumpOwnIdentity(config: ZtunnelConfig): string | null {
  if (dumpOwnWorkload(config) === null) return null;
  return `spiffe://${config.trustDomain}/ns/${config.podNamespace}/sa/${config.serviceAccount}`;
}
