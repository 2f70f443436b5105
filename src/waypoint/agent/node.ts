/**
 * The node that a waypoint's xDS requests name, waypoint.md 1.7: istiod finds by it which services and policies are meant. The metadata is what
 * pilot-agent would have written into Envoy's bootstrap.
 */
import type { WaypointConfig } from "../../cli/config.ts";

export interface Locality {
  readonly region: string;
  readonly zone: string;
  readonly subZone: string;
}

export interface WaypointNode {
  readonly id: string;
  readonly cluster: string;
  readonly metadata: Readonly<Record<string, unknown>>;
  /** Undefined: not known; istiod takes that of the pod's node. */
  readonly locality: Locality | undefined;
}

type NodeConfig = Pick<
  WaypointConfig,
  | "domain"
  | "serviceCluster"
  | "podName"
  | "podNamespace"
  | "serviceAccount"
  | "instanceIp"
  | "instanceIps"
  | "nodeName"
  | "clusterId"
  | "istioVersion"
  | "labels"
  | "annotations"
  | "proxyConfig"
  | "proxyMetadata"
  | "proxyMetadataJson"
  | "readinessPort"
  | "prometheusPort"
  | "exitOnZeroConnections"
>;

/** Changes with each rollout of a Deployment: no metric may carry it. */
const DROPPED_LABEL = "pod-template-hash";
/** Between the parts of a node id; istiod counts four. */
const SEPARATOR = "~";
/** The second is from before there was the first. */
const LOCALITY_LABELS = ["topology.istio.io/locality", "istio-locality"];
const SANITIZED_LABEL = "istio-locality";
/** By which a pod says to which application it belongs. */
const APP_LABELS = ["app", "app.kubernetes.io/name", "service.istio.io/canonical-name"];
const CANONICAL_LABELS = ["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"];
/** Says nothing: ProxyConfig's default. */
const NO_NAME = "istio-proxy";

/** What the pod itself says wins over `ISTIO_METAJSON_*`, and that over `ISTIO_META_*`. @throws Error for a part that would break the id */
export function describeWaypointNode(config: NodeConfig): WaypointNode {
  const { podName, podNamespace, instanceIp, domain, proxyMetadata, proxyMetadataJson, proxyConfig } = config;
  for (const part of [podName, podNamespace, instanceIp, domain]) {
    if (part.includes(SEPARATOR)) throw new Error(`${JSON.stringify(part)} cannot be part of a node id: it holds a ~`);
  }
  const given: Record<string, unknown> = { ...proxyMetadata, ...proxyMetadataJson };
  const { [DROPPED_LABEL]: _, ...own } = config.labels;
  const labels: Record<string, string> = { ...texts(given["LABELS"]), ...texts(given["STATIC_LABELS"]), ...own };
  const locality = localityOf(labels);
  if (locality !== undefined) {
    labels[SANITIZED_LABEL] = [locality.region, locality.zone, locality.subZone].filter((part) => part !== "").join(
      "/",
    );
  }
  const made: Record<string, unknown> = {
    NAME: podName,
    NAMESPACE: podNamespace,
    SERVICE_ACCOUNT: config.serviceAccount,
    INSTANCE_IPS: config.instanceIps.join(","),
    ENVOY_STATUS_PORT: config.readinessPort,
    ENVOY_PROMETHEUS_PORT: config.prometheusPort,
    EXIT_ON_ZERO_ACTIVE_CONNECTIONS: config.exitOnZeroConnections ? "true" : "",
    METADATA_DISCOVERY: "true",
    PROXY_CONFIG: proxyConfig,
    ANNOTATIONS: { ...texts(given["ANNOTATIONS"]), ...config.annotations },
    LABELS: labels,
    PILOT_SAN: proxyConfig["controlPlaneAuthPolicy"] === "MUTUAL_TLS" ? [hostOf(proxyConfig["discoveryAddress"])] : "",
  };
  const fallback: Record<string, unknown> = {
    CLUSTER_ID: config.clusterId,
    NODE_NAME: config.nodeName,
    ISTIO_VERSION: config.istioVersion,
  };
  for (const table of [made, fallback]) {
    for (const name of Object.keys(table)) if (isEmpty(table[name])) delete table[name];
  }
  const metadata = { ...fallback, ...given, ...made };
  return {
    id: ["waypoint", instanceIp, `${podName}.${podNamespace}`, domain].join(SEPARATOR),
    cluster: clusterName(config, labels, String(metadata["WORKLOAD_NAME"] ?? "")),
    metadata,
    locality,
  };
}

/** Envoy's name of itself: in traces, and in the logs of whom it calls. */
function clusterName(
  { proxyConfig, podNamespace, serviceCluster }: NodeConfig,
  labels: Readonly<Record<string, string>>,
  workload: string,
): string {
  const orDefault = (name: string): string => {
    if (name !== "" && name !== NO_NAME) return name;
    const app = first(labels, APP_LABELS) ?? (workload === "" ? undefined : workload);
    return app === undefined ? serviceCluster : `${app}.${podNamespace}`;
  };
  const canonical = first(labels, CANONICAL_LABELS) ?? (workload || NO_NAME);
  switch (proxyConfig["tracingServiceName"]) {
    case "CANONICAL_NAME_ONLY":
      return orDefault(canonical);
    case "CANONICAL_NAME_AND_NAMESPACE":
      return `${canonical}.${podNamespace}`;
  }
  const named = proxyConfig["serviceCluster"];
  // Said to be nothing: the command line's.
  if (named === "") return serviceCluster;
  return orDefault(typeof named === "string" ? named : NO_NAME);
}

/** `region/zone/subzone`; a label's value cannot hold a slash, so that dots may stand for them. */
function localityOf(labels: Readonly<Record<string, string>>): Locality | undefined {
  const text = first(labels, LOCALITY_LABELS);
  if (text === undefined) return undefined;
  const [region = "", zone = "", ...rest] = (text.includes("/") ? text : text.replaceAll(".", "/")).split("/");
  return { region, zone, subZone: rest.join("/") };
}

function first(labels: Readonly<Record<string, string>>, names: readonly string[]): string | undefined {
  for (const name of names) if (labels[name] !== undefined && labels[name] !== "") return labels[name];
  return undefined;
}

function hostOf(address: unknown): string {
  const host = String(address).replace(/^https:\/\//, "").split(":")[0];
  return host === "localhost" ? "istiod.istio-system.svc" : host;
}

/** Metadata in which only texts have a meaning. */
function texts(value: unknown): Readonly<Record<string, string>> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return {};
  return Object.fromEntries(
    Object.entries(value).filter((entry): entry is [string, string] => typeof entry[1] === "string"),
  );
}

function isEmpty(value: unknown): boolean {
  return value === undefined || value === "" ||
    (typeof value === "object" && value !== null && Object.keys(value).length === 0);
}
