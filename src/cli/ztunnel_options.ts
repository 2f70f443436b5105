/**
 * ztunnel's options: every environment variable Istio's ztunnel reads, under Istio's names and
 * with Istio's defaults, each with a flag.
 */
import {
  boolean,
  choice,
  custom,
  duration,
  integer,
  optionalBoolean,
  optionalInteger,
  optionalText,
  prefixed,
  text,
} from "./options.ts";
import { logFormat, logLevel } from "./log_options.ts";
import {
  parseCpuQuantity,
  parseDuration,
  parseHeaderName,
  parseServerAddress,
  parseSocketAddress,
  parseWorkerCount,
  parseWorkloadInfo,
} from "./values.ts";
import type { WorkerCount } from "./values.ts";

/** 4 MiB: the RFC's 65,535 throttles a tunnel on any real path. */
const STREAM_WINDOW_BYTES = 4 * 1024 * 1024;
/** Four streams at full window. */
const CONNECTION_WINDOW_BYTES = 16 * 1024 * 1024;
const FRAME_BYTES = 1024 * 1024;
/** RFC 9113 section 6.9.1: a window is a 31-bit number. */
const MAX_WINDOW_BYTES = 2 ** 31 - 1;
/** RFC 9113 section 6.5.2: SETTINGS_MAX_FRAME_SIZE. */
const MIN_FRAME_BYTES = 16_384;
const MAX_FRAME_BYTES = 2 ** 24 - 1;
const MAX_SECONDS = 2 ** 21;

/** Relative to the working directory, which is `/` in the chart. */
const DEFAULT_ROOT = "./var/run/secrets/istio/root-cert.pem";
export const DEFAULT_AGENT_SOCKET = "/var/run/ztunnel/ztunnel.sock";
export const DEFAULT_TOKEN_PATH = "./var/run/secrets/tokens/istio-token";

const address = { metavar: "HOST:PORT" };
const path = { metavar: "PATH" };

function serverAddress(env: string, help: string) {
  const parse = (value: string) => ({ url: parseServerAddress(value) });
  const istiod = "istiod of the cluster";
  return custom<{ url: string | undefined } | undefined>({ env, ...address }, undefined, istiod, help, parse);
}

function metadataName(name: string): string {
  if (name === "") throw new Error("must have a name after the prefix");
  return name;
}

export const ztunnelOptions = {
  proxyMode: choice(
    { env: "PROXY_MODE" },
    ["shared", "dedicated"],
    "shared",
    "shared: node proxy with listeners in each pod; dedicated: one workload in the own network namespace.",
  ),
  proxyWorkload: custom(
    { env: "PROXY_WORKLOAD_INFO", metavar: "NAMESPACE/NAME/SERVICEACCOUNT" },
    undefined,
    "",
    "The workload of the dedicated mode; required there.",
    parseWorkloadInfo,
  ),
  proxyEnabled: boolean({ env: "ENABLE_PROXY" }, true, "Proxy TCP at all."),
  nodeName: optionalText({ env: "NODE_NAME" }, "Own node. Without it every workload counts as local."),
  network: text({ env: "NETWORK" }, "", "Own network."),
  clusterId: text({ env: ["ISTIO_META_CLUSTER_ID", "CLUSTER_ID"], flag: "cluster-id" }, "Kubernetes", "Own cluster."),
  clusterDomain: text({ env: "CLUSTER_DOMAIN" }, "cluster.local", "DNS domain of the cluster."),
  trustDomain: text({ env: "TRUST_DOMAIN" }, "cluster.local", "Trust domain of ztunnel's own identity only."),
  podName: text({ env: "POD_NAME" }, "", "Own pod: node id and self listener."),
  podNamespace: text({ env: "POD_NAMESPACE" }, "", "Namespace of the own pod."),
  serviceAccount: text({ env: "SERVICE_ACCOUNT" }, "", "Service account of the own pod."),
  instanceIp: text({ env: "INSTANCE_IP" }, "", "IP address of the own pod."),
  packetMark: optionalInteger(
    { env: "PACKET_MARK" },
    "1337 in shared mode, none in dedicated mode",
    0,
    2 ** 32 - 1,
    "SO_MARK of the proxy's own sockets.",
  ),
  inpodSocketPath: custom<string | undefined>(
    { env: "INPOD_UDS", ...path },
    undefined,
    DEFAULT_AGENT_SOCKET,
    "Socket of the node agent.",
    (value) => value,
  ),
  inpodPortReuse: boolean({ env: "INPOD_PORT_REUSE" }, true, "SO_REUSEPORT on the listeners in pods."),
  requireOriginalSource: optionalBoolean(
    { env: "ENABLE_ORIG_SRC" },
    "automatic",
    "Connect to the application from the client's own address.",
  ),
  ipv6Enabled: boolean({ env: "IPV6_ENABLED" }, true, "Listen on [::] rather than 0.0.0.0."),

  xdsAddress: serverAddress("XDS_ADDRESS", "Where mesh resources come from. Empty: no xDS."),
  xdsRoot: text(
    { env: "XDS_ROOT_CA", metavar: "PATH|PEM|SYSTEM" },
    DEFAULT_ROOT,
    "Roots that xDS must chain to: a file, PEM text, or SYSTEM.",
  ),
  xdsAltHostname: optionalText({ env: "ALT_XDS_HOSTNAME" }, "Second name accepted in the xDS server's certificate."),
  xdsHeaders: prefixed(
    "xds-header",
    "XDS_HEADER_",
    "NAME=VALUE",
    "Extra metadata on xDS calls; repeatable.",
    parseHeaderName,
  ),
  xdsOnDemand: boolean({ env: "XDS_ON_DEMAND" }, false, "Ask for workloads when they are first needed."),
  caAddress: serverAddress("CA_ADDRESS", "Where certificates come from."),
  caRoot: text(
    { env: "CA_ROOT_CA", metavar: "PATH|PEM|SYSTEM" },
    DEFAULT_ROOT,
    "Roots that the CA's server must chain to: a file, PEM text, or SYSTEM.",
  ),
  caAltHostname: optionalText({ env: "ALT_CA_HOSTNAME" }, "Second name accepted in the CA server's certificate."),
  caHeaders: prefixed(
    "ca-header",
    "CA_HEADER_",
    "NAME=VALUE",
    "Extra metadata on CA calls; repeatable.",
    parseHeaderName,
  ),
  secretTtlMs: duration({ env: "SECRET_TTL" }, 24 * 3_600_000, "Requested life of a certificate."),
  fakeCa: boolean({ env: "FAKE_CA" }, false, "Refused outside test builds, as in Istio's release builds."),
  authToken: custom<string | undefined>(
    { env: "AUTH_TOKEN", metavar: "PATH|TOKEN" },
    undefined,
    DEFAULT_TOKEN_PATH,
    "Bearer token for istiod: a file, read again for each call, or the token itself.",
    (value) => value,
  ),
  crlPath: optionalText({ env: "CRL_PATH", ...path }, "Certificate revocation list, PEM or DER."),
  localXdsPath: optionalText({ env: "LOCAL_XDS_PATH", ...path }, "Mesh resources from a YAML file instead of xDS."),
  localXds: optionalText({ env: "LOCAL_XDS", metavar: "YAML" }, "Mesh resources as YAML text instead of xDS."),
  localControl: optionalText(
    { env: "LOCAL_CONTROL", ...path },
    "Socket of `ambit local`, which sets it for the processes it starts.",
  ),
  preferredServiceNamespace: optionalText(
    { env: "PREFERED_SERVICE_NAMESPACE", flagAliases: ["preferred-service-namespace"] },
    "Namespace that wins where several services have one name (the variable is misspelled in Istio).",
  ),

  poolMaxStreamsPerConnection: integer(
    { env: "POOL_MAX_STREAMS_PER_CONNECTION" },
    100,
    1,
    65_535,
    "Connections that share one tunnel.",
  ),
  poolUnusedReleaseTimeoutMs: duration(
    { env: "POOL_UNUSED_RELEASE_TIMEOUT" },
    5 * 60_000,
    "How long a tunnel without streams stays open.",
  ),
  http2StreamWindowBytes: integer(
    { env: "HTTP2_STREAM_WINDOW_SIZE", metavar: "BYTES" },
    STREAM_WINDOW_BYTES,
    65_535,
    MAX_WINDOW_BYTES,
    "HTTP/2 receive window of a stream.",
  ),
  http2ConnectionWindowBytes: integer(
    { env: "HTTP2_CONNECTION_WINDOW_SIZE", metavar: "BYTES" },
    CONNECTION_WINDOW_BYTES,
    65_535,
    MAX_WINDOW_BYTES,
    "HTTP/2 receive window of a connection.",
  ),
  http2FrameBytes: integer(
    { env: "HTTP2_FRAME_SIZE", metavar: "BYTES" },
    FRAME_BYTES,
    MIN_FRAME_BYTES,
    MAX_FRAME_BYTES,
    "Largest HTTP/2 frame accepted.",
  ),
  keepaliveTimeMs: duration({ env: "KEEPALIVE_TIME" }, 180_000, "Idle time before the first TCP keepalive probe."),
  keepaliveIntervalMs: duration({ env: "KEEPALIVE_INTERVAL" }, 180_000, "Time between keepalive probes."),
  keepaliveRetries: integer({ env: "KEEPALIVE_RETRIES" }, 9, 1, 127, "Unanswered probes that end a connection."),
  keepaliveEnabled: boolean({ env: "KEEPALIVE_ENABLED" }, true, "TCP keepalive on the proxy's own sockets."),
  userTimeoutEnabled: boolean({ env: "USER_TIMEOUT_ENABLED" }, false, "TCP_USER_TIMEOUT beside keepalive."),
  terminationDeadlineMs: custom<number | undefined>(
    { env: "CONNECTION_TERMINATION_DEADLINE", metavar: "DURATION" },
    undefined,
    "from the grace period, else 5s",
    "How long open connections may finish after a graceful stop begins.",
    parseDuration,
  ),
  terminationGracePeriodSeconds: optionalInteger(
    { env: "TERMINATION_GRACE_PERIOD_SECONDS", metavar: "SECONDS" },
    "",
    0,
    MAX_SECONDS,
    "The pod's grace period: above 10 the deadline is 5 seconds before its end, else 1 second.",
  ),
  localhostAppTunnel: boolean(
    { env: "LOCALHOST_APP_TUNNEL" },
    true,
    "Reach an application tunnel (PROXY protocol) at localhost in the pod.",
  ),
  responseBaggage: boolean(
    { env: "ENABLE_RESPONSE_BAGGAGE" },
    true,
    "Send baggage in tunnel responses, and use the baggage that comes in.",
  ),
  authzPolicyInfoLogging: boolean(
    { env: "AUTHZ_POLICY_INFO_LOGGING" },
    false,
    "Log policy decisions at info, not debug.",
  ),
  socks5Enabled: boolean({ env: "UNSTABLE_ENABLE_SOCKS5" }, false, "SOCKS5 listener on 127.0.0.1:15080 in each pod."),
  tls12Enabled: boolean({ env: "TLS12_ENABLED" }, false, "Accept TLS 1.2 too."),
  compliancePolicy: custom<"none" | "pqc">(
    { env: "COMPLIANCE_POLICY", metavar: "pqc" },
    "none",
    "",
    "pqc: only key exchanges that withstand quantum computers.",
    (value) => {
      if (value === "") return "none";
      if (value === "pqc") return "pqc";
      throw new Error("must be pqc or empty");
    },
  ),
  workerThreads: custom<WorkerCount | undefined>(
    { env: "ZTUNNEL_WORKER_THREADS", metavar: "N|P%" },
    undefined,
    "concurrency of PROXY_CONFIG, else by CPU limit and request, else a quarter of the CPUs, at least 2",
    "Data-plane workers: a number, a share of the CPUs, or 0 for one per CPU.",
    parseWorkerCount,
  ),
  resourceCpuLimit: custom<number | undefined>(
    { env: "ZTUNNEL_RESOURCE_CPU_LIMIT", metavar: "CPUS" },
    undefined,
    "",
    "CPU limit of the container (downward API).",
    parseCpuQuantity,
  ),
  resourceCpuRequest: custom<number | undefined>(
    { env: "ZTUNNEL_RESOURCE_CPU_REQUEST", metavar: "CPUS" },
    undefined,
    "",
    "CPU request of the container (downward API).",
    parseCpuQuantity,
  ),
  cpuCount: custom<number | undefined>(
    { env: "ZTUNNEL_CPU_LIMIT", metavar: "CPUS" },
    undefined,
    "CPUs of the machine",
    "CPUs that count as available (downward API).",
    parseCpuQuantity,
  ),
  proxyConfig: optionalText(
    { env: "PROXY_CONFIG", metavar: "YAML" },
    "ProxyConfig merged over defaultConfig of ./etc/istio/config/mesh: discoveryAddress, proxyAdminPort, statsPort, " +
      "concurrency, proxyMetadata.",
  ),
  metadata: prefixed("istio-meta", "ISTIO_META_", "NAME=VALUE", "Node metadata; repeatable.", metadataName),
  metadataJson: prefixed(
    "istio-metajson",
    "ISTIO_METAJSON_",
    "NAME=JSON",
    "Typed node metadata; wins over --istio-meta; repeatable.",
    metadataName,
  ),
  istioVersion: optionalText({ env: "ISTIO_META_ISTIO_VERSION", flag: "istio-version" }, "Istio version to report."),
  dnsCapture: custom<string | undefined>(
    { env: "ISTIO_META_DNS_CAPTURE", flag: "dns-capture", metavar: "true|false" },
    undefined,
    "true",
    "DNS proxy; anything but true switches it off.",
    (value) => value,
  ),
  dnsProxyAddress: custom<string | undefined>(
    { env: "ISTIO_META_DNS_PROXY_ADDR", flag: "dns-proxy-addr", ...address },
    undefined,
    "localhost:15053",
    "Where the DNS proxy listens in each pod.",
    parseSocketAddress,
  ),
  dnsTtlSeconds: integer(
    { env: "AMBIT_DNS_TTL", flag: "dns-ttl", metavar: "SECONDS" },
    30,
    0,
    86_400,
    "How long clients may remember the DNS proxy's own answers.",
  ),
  kubernetesServiceHost: optionalText(
    { env: "KUBERNETES_SERVICE_HOST" },
    "Set in a cluster: istiod is istiod.istio-system.svc:15012 rather than localhost:15012.",
  ),
  logLevel,
  logFormat,
} as const;
