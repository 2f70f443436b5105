/** Kubernetes objects of the CNI lab: what the chart and a kubelet would make. */
import { type KubeObject } from "../../istiod/support/kube_api.ts";
import { podStatus } from "../../istiod/support/objects.ts";

export const MODE_LABEL = "istio.io/dataplane-mode";
export const REDIRECTION = "ambient.istio.io/redirection";
export const CNI_NAME = "istio-cni";
export const DAEMON_SET = "istio-cni-node";

export interface PodFacts {
  readonly name: string;
  readonly namespace: string;
  readonly node: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly serviceAccount?: string;
  readonly hostNetwork?: boolean;
  /** Names of its containers. Default: "app". */
  readonly containers?: readonly string[];
}

/** A pod that a scheduler has bound and a kubelet has not yet begun. */
export function boundPodObject(
  { name, namespace, node, labels, annotations, serviceAccount, hostNetwork, containers }: PodFacts,
): KubeObject {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace, labels: { app: name, ...labels }, annotations: annotations ?? {} },
    spec: {
      nodeName: node,
      serviceAccountName: serviceAccount ?? name,
      automountServiceAccountToken: false,
      terminationGracePeriodSeconds: 0,
      ...(hostNetwork ? { hostNetwork: true } : {}),
      containers: (containers ?? ["app"]).map((name) => ({ name, image: "none" })),
    },
    status: { phase: "Pending" },
  };
}

export function runningStatus(addresses: readonly string[]): Readonly<Record<string, unknown>> {
  return podStatus(addresses, true);
}

/** `mode` undefined: without the label. */
export function namespaceObject(name: string, mode: "ambient" | "none" | undefined): KubeObject {
  const labels: Record<string, string> = mode === undefined ? {} : { [MODE_LABEL]: mode };
  return { apiVersion: "v1", kind: "Namespace", metadata: { name, labels } };
}

/** The chart's DaemonSet as far as the agent looks at it: whether it is there and not being deleted, and its affinity. */
export function daemonSetObject(namespace: string): KubeObject {
  const labels = { "k8s-app": DAEMON_SET };
  return {
    apiVersion: "apps/v1",
    kind: "DaemonSet",
    metadata: { name: DAEMON_SET, namespace, labels },
    spec: {
      selector: { matchLabels: labels },
      template: {
        metadata: { labels },
        spec: { serviceAccountName: CNI_NAME, containers: [{ name: "install-cni", image: "none" }] },
      },
    },
  };
}

/** What the chart lets the service account do, in ambient mode with repair by default. */
export function clusterRoleObject(): KubeObject {
  return {
    apiVersion: "rbac.authorization.k8s.io/v1",
    kind: "ClusterRole",
    metadata: { name: CNI_NAME },
    rules: [
      { apiGroups: [""], resources: ["pods", "nodes", "namespaces"], verbs: ["get", "list", "watch"] },
      { apiGroups: [""], resources: ["events"], verbs: ["create", "patch"] },
      { apiGroups: [""], resources: ["pods/status"], verbs: ["patch", "update"] },
      { apiGroups: ["apps"], resources: ["daemonsets"], resourceNames: [DAEMON_SET], verbs: ["get"] },
    ],
  };
}

export function clusterRoleBindingObject(namespace: string): KubeObject {
  return {
    apiVersion: "rbac.authorization.k8s.io/v1",
    kind: "ClusterRoleBinding",
    metadata: { name: `${CNI_NAME}-${namespace}` },
    roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: CNI_NAME },
    subjects: [{ kind: "ServiceAccount", name: CNI_NAME, namespace }],
  };
}
