/**
 * What the main thread and a data-plane worker tell each other, in order, over one channel. Everything is cloneable;
 * descriptors are numbers, because they belong to the process.
 */
import type { DnsScope } from "../mesh/dns.ts";
import type { Authorization, MeshResources, PolicyKey, Workload, WorkloadUid } from "../mesh/mod.ts";
import type { TlsMaterial } from "../platform/tls_context.ts";
import type { TlsPolicy } from "../platform/tls_policy.ts";
import type { MetricsSnapshot } from "../telemetry/registry.ts";
import type { WorkerProfile } from "./cpu_profile.ts";
import type { ProfileOrder } from "./worker_profiler.ts";
import type { DnsSettings } from "./dns/settings.ts";

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
  /** How names of the mesh are completed, where a connection is asked for by one. */
  readonly names: { readonly clusterDomain: string; readonly preferredNamespace: string | undefined };
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
  /** Undefined: TLS 1.3 alone, with any of the key exchanges there are. */
  readonly tls?: TlsPolicy | undefined;
  readonly logFormat: "plain" | "json";
  readonly istioVersion: string | undefined;
  /** Undefined: there is no DNS proxy. */
  readonly dns?: DnsSettings | undefined;
}

/** A pod of this node and its listening sockets, which the main thread owns. */
export interface PodDescription {
  readonly uid: string;
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  /** Descriptor of the pod's network namespace; -1: the thread's own. */
  readonly namespaceFd: number;
  /** Those it has; none when it does not accept any more. */
  readonly listeners: Readonly<Partial<Record<ListenerKind, number>>>;
  /** SO_MARK of the sockets made for it. */
  readonly mark: number | undefined;
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

/** What the main thread has a worker's reactor do with SOCK_SEQPACKET sockets, which no runtime watches (worker_links.ts). */
export type LinkOrder =
  /** Connect, and tell what comes. */
  | { readonly do: "connect"; readonly link: number; readonly path: string }
  /** Accept at a listener that stays the main thread's. */
  | { readonly do: "accept"; readonly link: number; readonly fd: number }
  /** `fds` stay the main thread's: it closes none before an epoch that follows is confirmed. */
  | { readonly do: "send"; readonly link: number; readonly bytes: Uint8Array; readonly fds: readonly number[] }
  | { readonly do: "close"; readonly link: number };

export type LinkEvent =
  /** `uid`: whose process is at the other end; -1 when the kernel does not tell. */
  | { readonly event: "connected"; readonly link: number; readonly uid: number }
  | { readonly event: "accepted"; readonly link: number; readonly listener: number; readonly uid: number }
  | {
    readonly event: "message";
    readonly link: number;
    readonly bytes: Uint8Array;
    /** The main thread's from now on. */
    readonly fds: readonly number[];
    /** Part of it is lost. */
    readonly damage: string | undefined;
  }
  | { readonly event: "closed"; readonly link: number; readonly reason: string };

export type ToWorker =
  /**
   * The pod's listeners are open, but it cannot be served yet: what connects is held back until `pod_up` comes, or refused with `reason`
   * after a while. Told again, only the reason is new.
   */
  | { readonly type: "pod_wait"; readonly pod: PodDescription; readonly reason: string }
  | { readonly type: "link"; readonly order: LinkOrder }
  | { readonly type: "pod_up"; readonly pod: PodDescription; readonly state: PodState; readonly tls: TlsMaterial }
  | { readonly type: "pod_down"; readonly uid: string }
  | { readonly type: "pod_state"; readonly uid: string; readonly state: PodState }
  | { readonly type: "certificate"; readonly identity: string; readonly tls: TlsMaterial }
  /** Certificate revocation lists in PEM, one a text; they replace those before. */
  | { readonly type: "revocations"; readonly lists: readonly string[] }
  /** Cached answers that may have changed. */
  | { readonly type: "invalidate"; readonly keys: readonly string[] }
  /** `sampled`: of a large service it holds only some endpoints; others come with the next answer. */
  | { readonly type: "answer"; readonly key: string; readonly resources: MeshResources; readonly sampled: boolean }
  /** Everything posted before belongs to this epoch: confirm it. */
  | { readonly type: "epoch"; readonly epoch: number }
  /** A connection another worker accepted and passed on. */
  | { readonly type: "adopt"; readonly uid: string; readonly listener: ListenerKind; readonly fd: number }
  /** Workloads whose last pod is gone: their metrics end. */
  | { readonly type: "evict"; readonly owners: readonly string[] }
  | { readonly type: "report"; readonly id: number; readonly connections: boolean }
  | { readonly type: "log"; readonly directives: string }
  | { readonly type: "profile"; readonly order: ProfileOrder }
  /** Look into every accept queue: who was woken for a connection may have gone before it took it. */
  | { readonly type: "sweep" }
  /** Stop accepting. */
  | { readonly type: "drain" }
  /** No further connection will come: say `drained` when the last one has ended. */
  | { readonly type: "finish" }
  /** The time for that is over: cut the rest, write its log lines, and say `drained`. */
  | { readonly type: "cut"; readonly reason: string };

export type FromWorker =
  | { readonly type: "started"; readonly wakeFd: number }
  | { readonly type: "link"; readonly event: LinkEvent }
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
  }
  /** Part of what a report was asked for; the report itself comes last. */
  | { readonly type: "connections"; readonly id: number; readonly connections: readonly ConnectionView[] }
  | { readonly type: "profile"; readonly answer: WorkerProfile }
  | { readonly type: "drained" };

/** What a worker may ask of the mesh; `closure.ts` cuts the answer out of the whole. */
export type MeshQuery =
  /** An address as clients of a namespace see it; without a namespace visibility does not matter. */
  | { readonly kind: "address"; readonly network: string; readonly ip: string; readonly namespace: string | undefined }
  /** A service by name, and a local workload as its endpoint. */
  | { readonly kind: "hostname"; readonly hostname: string; readonly uid: WorkloadUid }
  /** A local workload and the services it belongs to. */
  | { readonly kind: "workload"; readonly uid: WorkloadUid }
  /** A domain name as a pod's DNS query gives it, or as the pod may have meant it. */
  | { readonly kind: "dns"; readonly name: string; readonly scope: DnsScope };

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

export type ListenerKind =
  | "outbound"
  | "inboundPlaintext"
  | "inboundHbone"
  /** On the pod's loopback. */
  | "socks"
  /** The DNS proxy; the datagram kinds are bound, and nothing is accepted there. */
  | DnsListenerKind;
export type DnsListenerKind = "dnsUdp" | "dnsTcp" | "dnsUdp6" | "dnsTcp6";
