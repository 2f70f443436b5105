/**
 * What each role runs with: one frozen, typed Config per role, made by the command line and the
 * environment (Istio's own variable names) and read by everybody else. Imports nothing.
 *
 * Units are in the names. `undefined` means "not configured"; defaults are already applied.
 */

/** Where a PEM root bundle comes from. `system` is the literal `SYSTEM`: the operating system's roots. */
export type RootSource =
  | { readonly kind: "file"; readonly path: string }
  | { readonly kind: "pem"; readonly pem: string }
  | { readonly kind: "system" };

/** A bearer token; a file is read again for each call, because Kubernetes replaces it. */
export type TokenSource =
  | { readonly kind: "file"; readonly path: string }
  | { readonly kind: "literal"; readonly value: string }
  | { readonly kind: "none" };

/** How ztunnel reaches istiod, for xDS and for the CA alike. */
export interface IstiodClientConfig {
  /** `https://host:port`, or undefined when this client is switched off. */
  readonly address: string | undefined;
  readonly root: RootSource;
  /** Accepted as the server's name beside the address's own host. */
  readonly altHostname: string | undefined;
  /** Extra metadata, names in lower case, in the order of the environment. */
  readonly headers: readonly (readonly [name: string, value: string])[];
}

export interface XdsConfig extends IstiodClientConfig {
  readonly onDemand: boolean;
}

export interface CaConfig extends IstiodClientConfig {
  /** Requested life of a certificate. */
  readonly secretTtlMs: number;
  readonly fake: boolean;
}

/** One workload, for the dedicated mode (`namespace/name/serviceaccount`). */
export interface DedicatedWorkload {
  readonly namespace: string;
  readonly name: string;
  readonly serviceAccount: string;
}

/** TCP keepalive and TCP_USER_TIMEOUT of the proxy's own sockets. */
export interface SocketConfig {
  readonly keepaliveEnabled: boolean;
  readonly keepaliveTimeMs: number;
  readonly keepaliveIntervalMs: number;
  readonly keepaliveRetries: number;
  readonly userTimeoutEnabled: boolean;
}

/** The mesh resources given to the process itself instead of by istiod. */
export type LocalXdsSource =
  | { readonly kind: "file"; readonly path: string }
  | { readonly kind: "yaml"; readonly text: string }
  | { readonly kind: "none" };

export type LogFormat = "plain" | "json";

export interface LogConfig {
  /** Directives in `RUST_LOG`'s form, without the built-in prefix: `info`, `access=debug,info`. */
  readonly filter: string;
  readonly format: LogFormat;
}

/** ztunnel, the L4 node proxy. Field comments name the variable where the name does not tell it. */
export interface ZtunnelConfig {
  readonly role: "ztunnel";

  readonly proxyMode: "shared" | "dedicated";
  /** Set exactly when `proxyMode` is `dedicated`. */
  readonly proxyWorkload: DedicatedWorkload | undefined;
  /** TCP proxying at all (`ENABLE_PROXY`). */
  readonly proxyEnabled: boolean;

  /** Undefined: every workload counts as local. */
  readonly nodeName: string | undefined;
  readonly network: string;
  readonly clusterId: string;
  readonly clusterDomain: string;
  /** Of ztunnel's own identity only; a workload's trust domain comes with the workload. */
  readonly trustDomain: string;
  readonly podName: string;
  readonly podNamespace: string;
  readonly serviceAccount: string;
  readonly instanceIp: string;

  /** SO_MARK of outgoing sockets; undefined: none. */
  readonly packetMark: number | undefined;
  /** Who says which pods there are: the node agent, `ambit local`, or nobody (dedicated mode). */
  readonly podSource: "agent" | "local" | "none";
  /** Unix seqpacket socket of the node agent (`INPOD_UDS`). */
  readonly inpodSocketPath: string;
  readonly inpodPortReuse: boolean;
  /** Undefined: spoof the source where the kernel allows it. */
  readonly requireOriginalSource: boolean | undefined;
  readonly ipv6Enabled: boolean;

  readonly xds: XdsConfig;
  readonly ca: CaConfig;
  readonly authToken: TokenSource;
  readonly crlPath: string | undefined;
  readonly localXds: LocalXdsSource;
  /** Unix stream socket of `ambit local`'s control plane; set by the parent process. */
  readonly localControl: string | undefined;

  readonly preferredServiceNamespace: string | undefined;

  readonly poolMaxStreamsPerConnection: number;
  readonly poolUnusedReleaseTimeoutMs: number;
  readonly http2StreamWindowBytes: number;
  readonly http2ConnectionWindowBytes: number;
  readonly http2FrameBytes: number;
  readonly socket: SocketConfig;

  /** From the start of a graceful stop to the cut. */
  readonly terminationDeadlineMs: number;
  readonly localhostAppTunnel: boolean;
  /** Send baggage in CONNECT responses, and use incoming baggage (`ENABLE_RESPONSE_BAGGAGE`). */
  readonly responseBaggage: boolean;
  readonly authzPolicyInfoLogging: boolean;
  readonly socks5Enabled: boolean;
  readonly tls12Enabled: boolean;
  readonly compliancePolicy: "none" | "pqc";

  readonly workers: number;
  readonly adminPort: number;
  readonly statsPort: number;
  readonly readinessPort: number;

  readonly dnsProxyEnabled: boolean;
  /** Per pod; `localhost:N` binds both loopbacks. */
  readonly dnsProxyAddress: string;
  /** Of the mesh's own answers (`AMBIT_DNS_TTL`). */
  readonly dnsTtlSeconds: number;

  /** Node metadata: ProxyConfig's `proxyMetadata` with every `ISTIO_META_*` over it, prefix removed. */
  readonly proxyMetadata: Readonly<Record<string, string>>;
  /** Parsed `ISTIO_METAJSON_*`, prefix removed; these win over `proxyMetadata`. */
  readonly proxyMetadataJson: Readonly<Record<string, unknown>>;
  readonly istioVersion: string | undefined;
  /** The command line as given, joined by spaces; shown in the config dump. */
  readonly proxyArgs: string;
  readonly log: LogConfig;
}

/** `ambit local [mesh.yaml]`: control plane, CA and data plane on one machine. */
export interface LocalConfig {
  readonly role: "local";
  /** Undefined: none was named on the command line. */
  readonly meshFile: string | undefined;
  /** Directory for the CA key, sockets and logs; undefined: a private temporary one, removed at the end. */
  readonly stateDir: string | undefined;
  /** Data-plane workers of each node's ztunnel. */
  readonly workers: number;
  /** The DNS questions of pods go to their node's ztunnel. */
  readonly dnsCapture: boolean;
  /** Node agents capture pods, as in a cluster, by their labels. */
  readonly cni: boolean;
  readonly log: LogConfig;
}

/** L7 proxy of a namespace. */
export interface WaypointConfig {
  readonly role: "waypoint";
  /** `NAMESPACE.svc.cluster.local`: the last part of the node id. */
  readonly domain: string;
  /** Name of the service in traces. */
  readonly serviceCluster: string;
  readonly podName: string;
  readonly podNamespace: string;
  readonly serviceAccount: string;
  readonly instanceIp: string;
  /** All addresses of the own pod, `instanceIp` first. */
  readonly instanceIps: readonly string[];
  readonly trustDomain: string;
  readonly nodeName: string;
  readonly clusterId: string;
  readonly workers: number;
  readonly ipv6Enabled: boolean;
  /** 15008, but in tests. */
  readonly hbonePort: number;
  readonly xds: IstiodClientConfig;
  readonly ca: Omit<CaConfig, "fake"> & {
    /** Of the cluster's signers, the one that shall sign; "": istiod's own choice. */
    readonly certSigner: string;
  };
  /** Unix stream socket of `ambit local`, which then takes istiod's place; set by the parent process. */
  readonly localControl: string | undefined;
  /** Certificate revocation lists; undefined: none are looked for. */
  readonly crlPath: string | undefined;
  /** Which part of its life a certificate still has when it is renewed, and by how much this varies. */
  readonly secretGraceRatio: number;
  readonly secretGraceJitter: number;
  /** Of the own certificate. */
  readonly key:
    | { readonly kind: "ec"; readonly curve: "P-256" | "P-384" }
    | { readonly kind: "rsa"; readonly bits: number };
  /** Directory in which the own certificate is kept as files, for others. */
  readonly outputCerts: string | undefined;
  readonly authToken: TokenSource;
  readonly compliancePolicy: "none" | "pqc";
  /** Of the own pod, from the downward API. */
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  /** Both as they are now: they may change while the pod runs. Files that cannot be read leave what was known at the start. */
  readonly readPod: () => Pick<WaypointConfig, "labels" | "annotations">;
  /** What of the configuration has no effect, for the log. */
  readonly notes: readonly string[];
  /** Istio's ProxyConfig with its defaults, for the node's metadata. */
  readonly proxyConfig: Readonly<Record<string, unknown>>;
  /** `ISTIO_META_*` of ProxyConfig's `proxyMetadata` with the environment's over it, prefix removed. */
  readonly proxyMetadata: Readonly<Record<string, string>>;
  readonly proxyMetadataJson: Readonly<Record<string, unknown>>;
  /** As told to istiod, which sends older shapes to older proxies. */
  readonly istioVersion: string;
  readonly adminPort: number;
  readonly statsPort: number;
  readonly readinessPort: number;
  readonly prometheusPort: number;
  /** Connections of a chain that was replaced or removed are ended after this. */
  readonly drainMs: number;
  /** From the request to stop to the end. */
  readonly terminationDrainMs: number;
  readonly exitOnZeroConnections: boolean;
  readonly minimumDrainMs: number;
  /** Tunnels that are taken at the same time; undefined: as many as there are descriptors. */
  readonly maxConnections: number | undefined;
  readonly proxyArgs: string;
  readonly log: LogConfig;
}

/** Where and how the node agent installs the plugin. */
export interface CniInstallConfig {
  readonly netDir: string;
  /** Undefined: the first valid file. */
  readonly confName: string | undefined;
  readonly chained: boolean;
  readonly ownedConfig: boolean;
  readonly ownedConfigFile: string;
  readonly kubeconfigMode: number;
  readonly confGroupRead: boolean;
  /** Undefined: the service account's. */
  readonly kubeCaFile: string | undefined;
  readonly skipTlsVerify: boolean;
  readonly binaryDir: string;
  readonly binarySource: string;
  readonly serviceAccountDir: string;
  readonly kubernetesHost: string | undefined;
  readonly kubernetesPort: string | undefined;
  readonly kubernetesProtocol: string;
  /** Level of `cni-plugin` in Istio's words. */
  readonly pluginLogLevel: string;
}

/** Whose traffic the node agent captures, and how. */
export interface CniAmbientConfig {
  readonly enabled: boolean;
  /** YAML; read when the agent starts. */
  readonly selectors: string | undefined;
  readonly dnsCapture: boolean;
  readonly ipv6: boolean;
  readonly reconcileOnStartup: boolean;
  readonly disableSafeUpgrade: boolean;
  readonly detectionRetry: boolean;
  readonly nativeNftables: boolean;
  readonly forceIptablesBinary: "legacy" | "nft" | undefined;
  readonly probeIpv4: string;
  readonly probeIpv6: string;
  readonly scopedXtablesLocking: boolean;
  readonly awsBranchEni: boolean;
  /** Path of the node's network namespace; undefined: the agent is in it. */
  readonly hostNetns: string | undefined;
  readonly ztunnelSocket: string;
  /** 0: never. */
  readonly verifyIntervalMs: number;
  /** 0: never. */
  readonly hostVerifyIntervalMs: number;
}

/** Node agent. */
export interface CniConfig {
  readonly role: "cni";
  readonly runDir: string;
  /** Where the node's file system is mounted; "" when the agent sees it as it is. */
  readonly hostRoot: string;
  /** The node's /proc. */
  readonly procRoot: string;
  readonly nodeName: string;
  readonly podName: string;
  readonly podNamespace: string;
  readonly systemNamespace: string;
  readonly revision: string;
  readonly excludedNamespaces: readonly string[];
  readonly install: CniInstallConfig;
  readonly ambient: CniAmbientConfig;
  /** What of the repair controller was asked for; it is not part of this version. */
  readonly repair: "repair" | "delete" | "label" | "none";
  /** 0: none. */
  readonly monitoringPort: number;
  readonly healthPort: number;
  /** 0: none. */
  readonly ctrlzPort: number;
  readonly ctrlzAddress: string;
  /** `stdout`, `stderr` and paths. */
  readonly logTargets: readonly string[];
  readonly log: LogConfig;
}

/** `ambit cni status`: a question to the agent that runs. */
export interface CniStatusConfig {
  /** The agent's run directory. */
  readonly runDir: string;
  readonly namespace: string | undefined;
  readonly json: boolean;
}

/** The CNI plugin: takes its configuration from stdin and the `CNI_*` variables. */
export interface CniPluginConfig {
  readonly role: "cni-plugin";
}

/** `ambit explain`: a question to the ztunnel that runs. */
export interface ExplainConfig {
  /** As typed: a service account, a pod or an address. */
  readonly from: string;
  readonly to: string;
  /** `host:port` of the admin server. */
  readonly address: string;
  readonly json: boolean;
}

export type RoleConfig = ZtunnelConfig | LocalConfig | WaypointConfig | CniConfig | CniPluginConfig;
export type RoleName = RoleConfig["role"];
