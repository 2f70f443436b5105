/**
 * Where the node agent's pods come from. In a cluster the API server (kube_source.ts); `ambit local --cni` gives its own. The
 * agent's core knows only this interface and the few fields of a pod below, which a Kubernetes Pod has.
 */
import { canonicalIp } from "../../mesh/ip.ts";
import { REDIRECTION_ANNOTATION } from "../eligibility.ts";

export interface MeshPod {
  readonly metadata: {
    readonly name?: string;
    readonly namespace?: string;
    readonly uid?: string;
    readonly resourceVersion?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly deletionTimestamp?: string;
  };
  readonly spec?: {
    readonly nodeName?: string;
    readonly hostNetwork?: boolean;
    readonly serviceAccountName?: string;
  };
  readonly status?: {
    readonly phase?: string;
    readonly podIP?: string;
    readonly podIPs?: readonly { readonly ip?: string }[];
  };
}

export interface MeshNamespace {
  readonly metadata: {
    readonly name?: string;
    readonly labels?: Readonly<Record<string, string>>;
  };
}

/** What a source says; between `start` and its resolution also for everything that exists already. */
export interface PodSourceEvents {
  podAdded(pod: MeshPod): void;
  podUpdated(before: MeshPod, after: MeshPod): void;
  /** `last` is the pod as it was last seen. */
  podDeleted(last: MeshPod): void;
  namespaceAdded(namespace: MeshNamespace): void;
  namespaceUpdated(before: MeshNamespace, after: MeshNamespace): void;
}

/** The value of the annotation that says whether a pod is captured; null takes it away. */
export type RedirectionState = "enabled" | "pending" | null;

export interface PodEvent {
  readonly type: "Normal" | "Warning";
  /** One word in CamelCase. */
  readonly reason: string;
  readonly message: string;
}

/** The pods of this node and all namespaces. */
export interface PodSource {
  /** Begins to deliver. Resolves when everything that exists was delivered. */
  start(events: PodSourceEvents): Promise<void>;
  pod(namespace: string, name: string): MeshPod | undefined;
  pods(): readonly MeshPod[];
  namespace(name: string): MeshNamespace | undefined;
  /** Asks the origin itself, for what `pod` may not know yet. Undefined: there is none. Rejects when nobody answers. */
  fetchPod(namespace: string, name: string, signal: AbortSignal): Promise<MeshPod | undefined>;
  fetchNamespace(name: string, signal: AbortSignal): Promise<MeshNamespace | undefined>;
  /** Rejects with `PodGone` when there is no such pod (any more), otherwise with what went wrong. */
  annotate(pod: MeshPod, state: RedirectionState): Promise<void>;
  /** Tells the pod's owners. Never rejects: what cannot be told is the source's to log. */
  event(pod: MeshPod, event: PodEvent): Promise<void>;
  stop(): void;
}

/** There is no such pod (any more). */
export class PodGone extends Error {
  override readonly name = "PodGone";
}

export function podUid(pod: MeshPod): string {
  return pod.metadata.uid ?? "";
}

/** `namespace/name`. */
export function podKey(pod: MeshPod): string {
  return `${pod.metadata.namespace ?? ""}/${pod.metadata.name ?? ""}`;
}

/** Canonical and without repetition; status.podIPs, else status.podIP. */
export function podIps(pod: MeshPod): readonly string[] {
  const { podIPs = [], podIP } = pod.status ?? {};
  const listed = podIPs.map(({ ip }) => ip).filter((ip) => ip !== undefined && ip !== "");
  const texts = listed.length > 0 ? listed : [podIP];
  const ips = texts.map((text) => text === undefined ? undefined : canonicalIp(text)).filter((ip) => ip !== undefined);
  return [...new Set(ips)];
}

/** It will never run again. */
export function isTerminal(pod: MeshPod): boolean {
  const phase = pod.status?.phase;
  return phase === "Succeeded" || phase === "Failed";
}

/** What the annotation says, which in a cluster is the only record of it. */
export function redirectionState(pod: MeshPod): RedirectionState {
  const value = pod.metadata.annotations?.[REDIRECTION_ANNOTATION];
  return value === "enabled" || value === "pending" ? value : null;
}

/** ztunnel cannot pass through ztunnel. */
export function isZtunnel(pod: MeshPod, systemNamespace: string): boolean {
  return pod.metadata.namespace === systemNamespace && pod.metadata.labels?.["app"] === "ztunnel";
}

export function sameIps(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((ip) => b.includes(ip));
}
