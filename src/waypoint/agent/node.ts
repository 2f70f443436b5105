/** The node that a waypoint's xDS requests name, waypoint.md 1.7: istiod finds by it which services and policies are meant. */
import type { WaypointConfig } from "../../cli/config.ts";

export interface WaypointNode {
  readonly id: string;
  readonly cluster: string;
  readonly metadata: Readonly<Record<string, unknown>>;
}

type NodeConfig = Pick<
  WaypointConfig,
  | "domain"
  | "serviceCluster"
  | "podName"
  | "podNamespace"
  | "serviceAccount"
  | "instanceIp"
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
>;

/** Changes with each rollout of a Deployment: no metric may carry it. */
const DROPPED_LABEL = "pod-template-hash";
/** Between the parts of a node id; istiod counts four. */
const SEPARATOR = "~";

/** What is made here loses against `ISTIO_META_*`, and that against `ISTIO_METAJSON_*`. @throws Error for a part that would break the id */
export function describeWaypointNode(config: NodeConfig): WaypointNode {
  const { podName, podNamespace, instanceIp, domain } = config;
  for (const part of [podName, podNamespace, instanceIp, domain]) {
    if (part.includes(SEPARATOR)) throw new Error(`${JSON.stringify(part)} cannot be part of a node id: it holds a ~`);
  }
  const { [DROPPED_LABEL]: _, ...labels } = config.labels;
  const { [DROPPED_LABEL]: __, ...metaLabels } = asRecord(config.proxyMetadataJson["LABELS"]);
  const made: Record<string, unknown> = {
    NAME: podName,
    NAMESPACE: podNamespace,
    SERVICE_ACCOUNT: config.serviceAccount,
    INSTANCE_IPS: instanceIp,
    CLUSTER_ID: config.clusterId,
    NODE_NAME: config.nodeName,
    ISTIO_VERSION: config.istioVersion,
    ENVOY_STATUS_PORT: config.readinessPort,
    ENVOY_PROMETHEUS_PORT: config.prometheusPort,
    PROXY_CONFIG: config.proxyConfig,
    ANNOTATIONS: config.annotations,
  };
  for (const name of Object.keys(made)) if (isEmpty(made[name])) delete made[name];
  return {
    id: ["waypoint", instanceIp, `${podName}.${podNamespace}`, domain].join(SEPARATOR),
    cluster: config.serviceCluster,
    metadata: {
      ...made,
      ...config.proxyMetadata,
      ...config.proxyMetadataJson,
      LABELS: { ...labels, ...metaLabels },
    },
  };
}

function asRecord(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? value as Record<string, unknown> : {};
}

function isEmpty(value: unknown): boolean {
  return value === undefined || value === "" ||
    (typeof value === "object" && Object.keys(asRecord(value)).length === 0);
}
