/**
 * The waypoint's options: the flags of `pilot-agent proxy` and the environment that istiod's template sets (waypoint.md 1.2, 1.3), under Istio's
 * names and with Istio's defaults.
 */
import { istioLogLevel, logAsJson } from "./log_options.ts";
import {
  boolean,
  choice,
  custom,
  duration,
  integer,
  type Option,
  optionalInteger,
  optionalText,
  prefixed,
  text,
} from "./options.ts";
import { parseCpuQuantity, parseHeaderName, parseServerAddress } from "./values.ts";
import { refusedOptions } from "./waypoint_refusals.ts";

export const DEFAULT_LABELS_PATH = "./etc/istio/pod/labels";
export const DEFAULT_ANNOTATIONS_PATH = "./etc/istio/pod/annotations";
export const DEFAULT_WAYPOINT_TOKEN_PATH = "./var/run/secrets/tokens/istio-token";

/** A flag of pilot-agent that is taken so that Istio's own template works, and has no effect. */
function ignored(flag: string, help: string): Option<string | undefined> {
  return optionalText({ flag }, `${help} Accepted and without effect.`);
}

function fraction(env: string, fallback: number, help: string): Option<number> {
  return custom({ env, metavar: "0..1" }, fallback, String(fallback), help, (value) => {
    const number = /^[0-9]{0,3}(\.[0-9]{1,9})?$/.test(value) && value !== "" ? Number(value) : NaN;
    if (!(number >= 0 && number <= 1)) throw new Error("must be a number from 0 to 1");
    return number;
  });
}

function metadataName(name: string): string {
  if (name === "") throw new Error("must have a name after the prefix");
  return name;
}

const roots = { metavar: "PATH|PEM|SYSTEM" };

export const waypointOptions = {
  domain: text(
    { env: "DNS_DOMAIN", flag: "domain" },
    "",
    "DNS domain of the own namespace: $(POD_NAMESPACE).svc.cluster.local.",
  ),
  serviceCluster: text(
    { env: "SERVICE_CLUSTER", flag: "serviceCluster", flagAliases: ["service-cluster"] },
    "",
    "Service account and namespace, joined by a dot: the name of the service in traces.",
  ),
  concurrency: optionalInteger(
    { flag: "concurrency" },
    "concurrency of PROXY_CONFIG, else by ISTIO_CPU_LIMIT, else 2",
    0,
    1024,
    "Data-plane workers; 0: one per CPU.",
  ),
  meshConfig: text({ flag: "meshConfig", metavar: "PATH" }, "./etc/istio/config/mesh", "Mesh configuration file."),
  logLevel: istioLogLevel,
  logAsJson,
  proxyLogLevel: ignored("proxyLogLevel", "Envoy's log level."),
  proxyComponentLogLevel: ignored("proxyComponentLogLevel", "Envoy's log level by component."),
  outlierLogPath: ignored("outlierLogPath", "Envoy's log of ejected hosts."),
  templateFile: ignored("templateFile", "Envoy's bootstrap template."),
  stsPort: ignored("stsPort", "Port of the token exchange."),
  profiling: ignored("profiling", "Profiling of pilot-agent."),

  podName: text({ env: "POD_NAME" }, "", "Own pod."),
  podNamespace: text({ env: "POD_NAMESPACE" }, "", "Namespace of the own pod."),
  serviceAccount: text({ env: "SERVICE_ACCOUNT" }, "", "Service account of the own pod: its identity."),
  instanceIp: text({ env: "INSTANCE_IP" }, "", "Address of the own pod, by which istiod knows what it serves."),
  trustDomain: text({ env: "TRUST_DOMAIN" }, "cluster.local", "Trust domain of the own identity."),
  nodeName: text({ env: "ISTIO_META_NODE_NAME", flag: "node-name" }, "", "Own node."),
  clusterId: text({ env: ["ISTIO_META_CLUSTER_ID", "CLUSTER_ID"], flag: "cluster-id" }, "Kubernetes", "Own cluster."),
  cpuLimit: custom<number | undefined>(
    { env: "ISTIO_CPU_LIMIT", metavar: "CPUS" },
    undefined,
    "",
    "CPU limit of the container (downward API).",
    parseCpuQuantity,
  ),
  ipv6Enabled: boolean({ env: "IPV6_ENABLED" }, true, "Listen on [::] rather than 0.0.0.0."),
  proxyConfig: optionalText(
    { env: "PROXY_CONFIG", metavar: "JSON" },
    "ProxyConfig merged over defaultConfig of the mesh file.",
  ),
  metadata: prefixed("istio-meta", "ISTIO_META_", "NAME=VALUE", "Node metadata; repeatable.", metadataName),
  metadataJson: prefixed(
    "istio-metajson",
    "ISTIO_METAJSON_",
    "NAME=JSON",
    "Typed node metadata; wins over --istio-meta; repeatable.",
    metadataName,
  ),
  labelsPath: text(
    { env: "AMBIT_POD_LABELS", flag: "pod-labels", metavar: "PATH" },
    DEFAULT_LABELS_PATH,
    "The own pod's labels, as the downward API writes them.",
  ),
  annotationsPath: text(
    { env: "AMBIT_POD_ANNOTATIONS", flag: "pod-annotations", metavar: "PATH" },
    DEFAULT_ANNOTATIONS_PATH,
    "The own pod's annotations, as the downward API writes them.",
  ),

  xdsRoot: optionalText(
    { env: "XDS_ROOT_CA", ...roots },
    "Roots that xDS must chain to: a file, PEM text, or SYSTEM. By default those of PILOT_CERT_PROVIDER.",
  ),
  xdsHeaders: prefixed(
    "xds-header",
    "XDS_HEADER_",
    "NAME=VALUE",
    "Extra metadata on xDS calls; repeatable.",
    parseHeaderName,
  ),
  istiodSan: optionalText({ env: "ISTIOD_SAN" }, "Second name accepted in istiod's certificate."),
  localControl: optionalText(
    { env: "LOCAL_CONTROL", metavar: "PATH" },
    "Socket of `ambit local`, which sets it for the processes it starts: it takes istiod's place.",
  ),
  caAddress: custom<{ readonly url: string | undefined } | undefined>(
    { env: "CA_ADDR", metavar: "HOST:PORT" },
    undefined,
    "discoveryAddress of PROXY_CONFIG",
    "Where certificates come from.",
    (value) => ({ url: parseServerAddress(value) }),
  ),
  caRoot: optionalText(
    { env: "CA_ROOT_CA", ...roots },
    "Roots that the CA must chain to: a file, PEM text, or SYSTEM. By default those of PILOT_CERT_PROVIDER.",
  ),
  caHeaders: prefixed(
    "ca-header",
    "CA_HEADER_",
    "NAME=VALUE",
    "Extra metadata on CA calls; repeatable.",
    parseHeaderName,
  ),
  certProvider: text(
    { env: "PILOT_CERT_PROVIDER" },
    "istiod",
    "Who signed istiod's certificate: istiod, kubernetes, custom, or none for the system's roots.",
  ),
  certSigner: text(
    { env: "ISTIO_META_CERT_SIGNER", flag: "cert-signer" },
    "",
    "Signer of the cluster that istiod shall use.",
  ),
  secretTtlMs: duration({ env: "SECRET_TTL" }, 24 * 3_600_000, "Requested life of the certificate."),
  secretGraceRatio: fraction(
    "SECRET_GRACE_PERIOD_RATIO",
    0.5,
    "Which part of its life a certificate still has when it is renewed.",
  ),
  secretGraceJitter: fraction("SECRET_GRACE_PERIOD_RATIO_JITTER", 0.01, "By how much that varies, up or down."),
  eccSignature: custom<"" | "ECDSA">(
    { env: "ECC_SIGNATURE_ALGORITHM", metavar: "ECDSA" },
    "",
    "ECDSA, unless WORKLOAD_RSA_KEY_SIZE is set",
    "Signature algorithm of the own key.",
    (value) => {
      if (value === "" || value === "ECDSA") return value;
      throw new Error("must be ECDSA or empty");
    },
  ),
  eccCurve: choice({ env: "ECC_CURVE" }, ["P256", "P384"], "P256", "Curve of the own key."),
  rsaKeyBits: optionalInteger(
    { env: "WORKLOAD_RSA_KEY_SIZE" },
    "none: the key is ECDSA",
    2048,
    4096,
    "Makes the own key RSA, of so many bits.",
  ),
  pkcs8: boolean({ env: "PKCS8_KEY" }, false, "Form of key.pem: it is PKCS#8 in any case."),
  outputCerts: optionalText(
    { env: "OUTPUT_CERTS", metavar: "PATH" },
    "Directory in which the own certificate and key are kept as files, for other containers of the pod.",
  ),
  crlPath: text(
    { env: "CRL_PATH", metavar: "PATH" },
    "./var/run/secrets/istio/crl/ca-crl.pem",
    "Certificate revocation lists, PEM or DER; the file may come later.",
  ),
  caCrlEnabled: boolean({ env: "PILOT_ENABLE_CA_CRL" }, true, "Whether revocation lists are looked for."),
  authToken: text(
    { env: "AUTH_TOKEN", metavar: "PATH" },
    DEFAULT_WAYPOINT_TOKEN_PATH,
    "Bearer token for istiod, read again for each call.",
  ),
  compliancePolicy: custom<"none" | "pqc">(
    { env: "COMPLIANCE_POLICY", metavar: "pqc" },
    "none",
    "",
    "pqc: only key exchanges that withstand quantum computers.",
    (value) => {
      if (value === "") return "none";
      if (value === "pqc") return "pqc";
      throw new Error("must be pqc or empty: the FIPS policies need a certified build of OpenSSL");
    },
  ),

  readinessPort: integer({ env: "ENVOY_STATUS_PORT" }, 15021, 1, 65_535, "Port of /healthz/ready."),
  prometheusPort: integer({ env: "ENVOY_PROMETHEUS_PORT" }, 15090, 1, 65_535, "Port of the proxy's own metrics."),
  exitOnZeroConnections: boolean(
    { env: "EXIT_ON_ZERO_ACTIVE_CONNECTIONS" },
    false,
    "End when the last connection has, instead of after terminationDrainDuration.",
  ),
  minimumDrainMs: duration(
    { env: "MINIMUM_DRAIN_DURATION" },
    5_000,
    "With EXIT_ON_ZERO_ACTIVE_CONNECTIONS: not before this.",
  ),
  ...refusedOptions,
  listenPort: integer({ env: "AMBIT_HBONE_PORT", flag: "hbone-port" }, 15008, 0, 65_535, "Port of tunnels."),
} as const;
