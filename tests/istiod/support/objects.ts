/** Kubernetes and Istio objects as a cluster's own controllers would leave them (reference control_plane, "What the objects must look like"). */
import type { KubeObject } from "./kube_api.ts";
import { SYSTEM_NAMESPACE } from "./control_plane.ts";

export const KUBELET_PORT = 10250;
/** ztunnel's own, and every pod's. */
const ALL_HEALTHY = [{ type: "Ready", status: "True" }, { type: "ContainersReady", status: "True" }];

export function namespaceObject(name: string, labels: Readonly<Record<string, string>> = {}): KubeObject {
  return {
    apiVersion: "v1",
    kind: "Namespace",
    metadata: { name, labels: { "istio.io/dataplane-mode": "ambient", ...labels } },
  };
}

export function serviceAccountObject(namespace: string, name: string): KubeObject {
  return { apiVersion: "v1", kind: "ServiceAccount", metadata: { name, namespace } };
}

export interface NodeFacts {
  readonly name: string;
  readonly addresses: readonly string[];
  readonly labels?: Readonly<Record<string, string>>;
}

export function nodeObject({ name, addresses, labels }: NodeFacts): KubeObject {
  return {
    apiVersion: "v1",
    kind: "Node",
    metadata: { name, labels: { "kubernetes.io/hostname": name, ...labels } },
    status: {
      addresses: addresses.map((address) => ({ type: "InternalIP", address })),
      daemonEndpoints: { kubeletEndpoint: { Port: KUBELET_PORT } },
      conditions: [{ type: "Ready", status: "True" }],
    },
  };
}

export interface PodFacts {
  readonly name: string;
  readonly namespace: string;
  readonly node: string;
  readonly addresses: readonly string[];
  readonly serviceAccount: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly captured: boolean;
  readonly hostNetwork?: boolean;
  /** Named ports of its container. */
  readonly ports?: Readonly<Record<string, number>>;
  /** Instead of the one made here, as a Deployment's template has it. */
  readonly spec?: Readonly<Record<string, unknown>>;
  /** Default: it is, from the beginning. */
  readonly ready?: boolean;
}

export function podObject(pod: PodFacts): KubeObject {
  const ports = Object.entries(pod.ports ?? {}).map(([name, containerPort]) => ({ name, containerPort }));
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name: pod.name,
      namespace: pod.namespace,
      labels: { app: pod.name, ...pod.labels },
      annotations: { ...(pod.captured ? { "ambient.istio.io/redirection": "enabled" } : {}), ...pod.annotations },
    },
    spec: {
      nodeName: pod.node,
      serviceAccountName: pod.serviceAccount,
      automountServiceAccountToken: false,
      ...(pod.hostNetwork ? { hostNetwork: true } : {}),
      containers: [{ name: "app", image: "none", ...(ports.length > 0 ? { ports } : {}) }],
      ...pod.spec,
    },
    status: podStatus(pod.addresses, pod.ready !== false),
  };
}

export function podStatus(addresses: readonly string[], ready: boolean): Readonly<Record<string, unknown>> {
  return {
    phase: "Running",
    podIP: addresses[0],
    podIPs: addresses.map((ip) => ({ ip })),
    hostIP: "10.240.0.1",
    conditions: ready ? ALL_HEALTHY : ALL_HEALTHY.map((condition) => ({ ...condition, status: "False" })),
    startTime: new Date().toISOString(),
  };
}

/** The pod of a node's ztunnel, as the chart's DaemonSet makes it. */
export function ztunnelPodObject(name: string, node: string, address: string): KubeObject {
  const pod = podObject({
    name,
    namespace: SYSTEM_NAMESPACE,
    node,
    addresses: [address],
    serviceAccount: "ztunnel",
    captured: false,
    labels: { app: "ztunnel", "istio.io/dataplane-mode": "none" },
  });
  return { ...pod, spec: { ...(pod.spec as object), containers: [{ name: "istio-proxy", image: "none" }] } };
}

export interface ServiceFacts {
  readonly name: string;
  readonly namespace: string;
  readonly selector?: Readonly<Record<string, string>>;
  /** Service port to target port or its name. */
  readonly ports: Readonly<Record<number, number | string>>;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly headless?: boolean;
  readonly more?: Readonly<Record<string, unknown>>;
}

export function serviceObject(
  { name, namespace, selector, ports, labels, annotations, headless, more }: ServiceFacts,
): KubeObject {
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name, namespace, labels: labels ?? {}, annotations: annotations ?? {} },
    spec: {
      ...(selector === undefined ? {} : { selector }),
      ...(headless ? { clusterIP: "None" } : {}),
      ports: Object.entries(ports).map(([port, targetPort]) => ({
        name: `tcp-${port}`,
        port: Number(port),
        targetPort,
      })),
      ...more,
    },
  };
}

/** What an endpoint controller would make of a service and its pods. */
export function endpointSliceObject(
  { name, namespace, ports }: ServiceFacts,
  pods: readonly { readonly name: string; readonly uid: string; readonly node: string; readonly ip: string }[],
): KubeObject {
  return {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: { name: `${name}-1`, namespace, labels: { "kubernetes.io/service-name": name } },
    addressType: "IPv4",
    ports: Object.entries(ports).map(([port, target]) => ({
      name: `tcp-${port}`,
      port: Number(target),
      protocol: "TCP",
    })),
    endpoints: pods.map(({ name, uid, node, ip }) => ({
      addresses: [ip],
      nodeName: node,
      conditions: { ready: true, serving: true, terminating: false },
      targetRef: { kind: "Pod", name, namespace, uid },
    })),
  };
}

export function authorizationPolicy(namespace: string, name: string, spec: unknown, annotations = {}): KubeObject {
  return {
    apiVersion: "security.istio.io/v1",
    kind: "AuthorizationPolicy",
    metadata: { name, namespace, annotations },
    spec,
  };
}

export function peerAuthentication(namespace: string, name: string, spec: unknown): KubeObject {
  return { apiVersion: "security.istio.io/v1", kind: "PeerAuthentication", metadata: { name, namespace }, spec };
}

export interface GatewayFacts {
  readonly name: string;
  readonly namespace: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** A waypoint as `istioctl waypoint generate` writes it. */
export function waypointObject({ name, namespace, labels, annotations }: GatewayFacts): KubeObject {
  return {
    apiVersion: "gateway.networking.k8s.io/v1",
    kind: "Gateway",
    metadata: {
      name,
      namespace,
      labels: { "istio.io/waypoint-for": "all", ...labels },
      annotations: annotations ?? {},
    },
    spec: {
      gatewayClassName: "istio-waypoint",
      listeners: [{ name: "mesh", port: 15008, protocol: "HBONE" }],
    },
  };
}
