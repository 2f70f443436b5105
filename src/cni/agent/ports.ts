/**
 * What the agent's core needs of the other parts, as interfaces: the real ones are in ../redirection, ../host, ../netns and
 * ../zds.
 */
import type { PodNetns } from "../netns/pod_netns.ts";
import type { MeshPod } from "./pods.ts";

/** Which namespaces the pods have. What `get`, `open` and `find` give is the cache's: it lives while the pod is in it. */
export interface Namespaces {
  /** From now on a ztunnel that connects is told of this pod: to keep it, if its namespace is not known. */
  ensure(pod: MeshPod): void;
  get(uid: string): PodNetns | undefined;
  /** The namespace at the path that the container runtime named, which becomes this pod's. Rejects when it is none. */
  open(pod: MeshPod, path: string): Promise<PodNetns>;
  /**
   * Looks through the processes of the node for the namespaces of these pods, by uid and with a look at their addresses, and
   * makes them theirs; with `replace` also of those that have another one. What is found nowhere is missing in the result.
   */
  find(
    wanted: ReadonlyMap<string, readonly string[]>,
    settings?: { readonly replace?: boolean },
  ): Promise<ReadonlyMap<string, PodNetns>>;
  /** The same look, and nothing is changed: the identity of what is found. */
  look(wanted: ReadonlyMap<string, readonly string[]>): Promise<ReadonlyMap<string, string>>;
  /** No ztunnel is told of this pod any more. The namespace, if it was known, is the caller's to release. */
  take(uid: string): PodNetns | undefined;
}

export interface ZdsConnectionState {
  readonly id: string;
  /** Milliseconds since the epoch. */
  readonly sinceMs: number;
  readonly snapshotSent: boolean;
  /** Whether this ztunnel has said that it serves the pod. */
  acked(uid: string): boolean;
}

/** The ztunnels of this node. */
export interface Ztunnels {
  /** To the newest; resolves with its ack. Rejects with why there is none. */
  add(pod: MeshPod, netns: PodNetns, signal: AbortSignal | undefined): Promise<void>;
  /** To all. */
  del(uid: string): Promise<void>;
  /** Oldest first. */
  connections(): readonly ZdsConnectionState[];
}

/** Rules and sets of the node itself, for kubelet's probes. */
export interface HostNetwork {
  addPod(uid: string, ips: readonly string[]): Promise<void>;
  removePod(uid: string, ips: readonly string[]): Promise<void>;
  /** Exactly these pods. */
  sync(pods: readonly { readonly uid: string; readonly ips: readonly string[] }[]): Promise<void>;
  /** What is not as it should be. */
  verify(): Promise<readonly string[]>;
  repair(): Promise<void>;
  describe(): string;
}

/** What is counted; the role makes metrics of it. */
export interface AgentCounters {
  /** An event of the informers was handled. */
  reconciled(type: "add" | "update" | "delete"): void;
  /** Something was found otherwise than it was set up. */
  drifted(kind: DriftKind): void;
  repaired(kind: DriftKind, success: boolean): void;
  /** A captured pod, or the node, was looked at. */
  verified(tookMs: number): void;
  /** From the plugin's call to the rules in the pod, and to the end. */
  enrolled(redirectedMs: number, tookMs: number): void;
  enrolmentFailed(step: string): void;
}

export type DriftKind = "namespace" | "rules" | "ztunnel" | "host" | "annotation";
