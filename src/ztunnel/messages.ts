/**
 * What the main thread and a data-plane worker tell each other, in order, over one channel. Everything is cloneable;
 * descriptors are numbers, because they belong to the process.
 */
import type { Authorization, MeshResources, PolicyKey, Workload, WorkloadUid } from "../mesh/mod.ts";
import type { TlsMaterial } from "../platform/tls_context.ts";
import type { MetricsSnapshot } from "../telemetry/registry.ts";

/** What a worker is started with. Shared memory travels bare: Deno walks a typed array over it element by element, 40 MB of garbage. */
export interface WorkerStart {
  readonly index: number;
  /** Counts the workers ever started: names this one's metrics. */
  readonly generation: number;
  readonly settings: WorkerSettings;
  /** Log directives in force. */
  readonly directives: string;
  /** One slot a worker: open connections, for balancing. */
  readonly load: SharedArrayBuffer;
  /** Whose each descriptor is. */
  readonly ownership: SharedArrayBuffer;
}

/** The part of the role's configuration that the data path needs. */
export interface WorkerSettings {
  readonly network: string;
  readonly clusterId: string;
  readonly packetMark: number | undefined;
  readonly ipv6Enabled: boolean;
  readonly illegalPorts: readonly number[];
  readonly localhostAppTunnel: boolean;
  readonly responseBaggage: boolean;
  readonly policyInfoLogging: boolean;
  readonly poolMaxStreamsPerConnection: number;
  readonly poolUnusedReleaseMs: number;
  readonly streamWindowBytes: number;
  readonly connectionWindowBytes: number;
  readonly maxFrameBytes: number;
  readonly keepaliveEnabled: boolean;
  readonly keepaliveIdleSeconds: number;
  readonly keepaliveIntervalSeconds: number;
  readonly keepaliveProbes: number;
  readonly userTimeoutMs: number | undefined;
  readonly logFormat: "plain" | "json";
  readonly istioVersion: string | undefined;
}

/** A pod of this node and its listening sockets, which the main thread owns. */
export interface PodDescription {
  readonly uid: string;
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  /** Descriptor of the pod's network namespace; -1: the thread's own. */
  readonly namespaceFd: number;
  readonly listeners: {
    readonly outbound: number;
    readonly inboundPlaintext: number;
    readonly inboundHbone: number;
  };
  /** Inbound connections keep their client's source address. */
  readonly originalSource: boolean;
}

/** What is decided about a pod by the mesh; replaced as a whole. */
export interface PodState {
  readonly workload: Workload;
  readonly identity: string;
  /** Every policy that applies to the workload. */
  readonly policies: readonly Authorization[];
  /** Named by the workload, but not known: connections wait for them, then are refused. */
  readonly missingPolicies: readonly PolicyKey[];
}

export type ToWorker =
  | { readonly type: "pod_up"; readonly pod: PodDescription; readonly state: PodState; readonly tls: TlsMaterial }
  | { readonly type: "pod_down"; readonly uid: string }
  | { readonly type: "pod_state"; readonly uid: string; readonly state: PodState }
  | { readonly type: "certificate"; readonly identity: string; readonly tls: TlsMaterial }
  /** Cached answers that may have changed. */
  | { readonly type: "invalidate"; readonly keys: readonly string[] }
  | { readonly type: "answer"; readonly key: string; readonly resources: MeshResources }
  /** Everything posted before belongs to this epoch: confirm it. */
  | { readonly type: "epoch"; readonly epoch: number }
  /** A connection another worker accepted and passed on. */
  | { readonly type: "adopt"; readonly uid: string; readonly listener: ListenerKind; readonly fd: number }
  /** Workloads whose last pod is gone: their metrics end. */
  | { readonly type: "evict"; readonly owners: readonly string[] }
  | { readonly type: "report"; readonly id: number; readonly connections: boolean }
  | { readonly type: "log"; readonly directives: string }
  /** Stop accepting. */
  | { readonly type: "drain" }
  /** No further connection will come: say `drained` when the last one has ended. */
  | { readonly type: "finish" };

export type FromWorker =
  | { readonly type: "started"; readonly wakeFd: number }
  | { readonly type: "lookup"; readonly key: string; readonly query: MeshQuery }
  /** Answers that are not used any more. */
  | { readonly type: "forget"; readonly keys: readonly string[] }
  | { readonly type: "confirmed"; readonly epoch: number }
  | {
    readonly type: "pass";
    readonly worker: number;
    readonly uid: string;
    readonly listener: ListenerKind;
    readonly fd: number;
  }
  | {
    readonly type: "report";
    readonly id: number;
    readonly metrics: MetricsSnapshot;
    readonly connections: readonly ConnectionView[];
  }
  | { readonly type: "drained" };

/** What a worker may ask of the mesh; `closure.ts` cuts the answer out of the whole. */
export type MeshQuery =
  /** An address as clients of a namespace see it; without a namespace visibility does not matter. */
  | { readonly kind: "address"; readonly network: string; readonly ip: string; readonly namespace: string | undefined }
  /** A service by name, and a local workload as its endpoint. */
  | { readonly kind: "hostname"; readonly hostname: string; readonly uid: WorkloadUid }
  /** A local workload and the services it belongs to. */
  | { readonly kind: "workload"; readonly uid: WorkloadUid };

/** One open connection as the admin endpoint shows it. */
export interface ConnectionView {
  /** The pod's uid. */
  readonly pod: string;
  readonly direction: "inbound" | "outbound";
  readonly src: string;
  readonly originalDst: string | undefined;
  readonly actualDst: string;
  readonly protocol: "HBONE" | "TCP" | "DOUBLEHBONE";
}

export type ListenerKind = "outbound" | "inboundPlaintext" | "inboundHbone";
