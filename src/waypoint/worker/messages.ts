/**
 * What the main thread and a data-plane worker of a waypoint tell each other, in order, over one channel. Everything is cloneable; descriptors are
 * numbers, because they belong to the process.
 */
import type { TlsPolicy } from "../../platform/tls_policy.ts";
import type { ConfigUpdate } from "../spec/mod.ts";
import type { TokenQuestion } from "../filters/jwt_questions.ts";
import type { TokenVerdict } from "../filters/jwt_verdict.ts";
import type { TelemetryMessage } from "../telemetry/messages.ts";
import type { DnsAnswer, DnsQuestion } from "../upstream/resolver.ts";
import type { CollectorCall, CollectorOutcome } from "./collector_calls.ts";
import type { LimitPlaces } from "./limit_places.ts";

/** What a worker is started with. Shared memory travels bare: Deno walks a typed array over it element by element. */
export interface WorkerStart {
  readonly index: number;
  /** Counts the workers ever started: names this one's metrics. */
  readonly generation: number;
  readonly settings: WorkerSettings;
  /** Log directives in force. */
  readonly directives: string;
  /** One slot a worker: open connections, for balancing and for the end of a drain. */
  readonly load: SharedArrayBuffer;
  /** Whose each descriptor is. */
  readonly ownership: SharedArrayBuffer;
}

/** The part of the role's configuration that the data path needs. */
export interface WorkerSettings {
  /** Own SPIFFE id. */
  readonly identity: string;
  /** For `%HOSTNAME%`: the own pod. */
  readonly hostname: string;
  /** Addresses of the own pod, which nobody reaches through it. */
  readonly ownAddresses: readonly string[];
  readonly tls: TlsPolicy;
  readonly logFormat: "plain" | "json";
  /** Connections of a removed chain are cut after this. */
  readonly drainMs: number;
  /** As xDS and spans name this proxy. */
  readonly nodeId: string;
  /** Facts of the node that telemetry tells: NAME, NAMESPACE, WORKLOAD_NAME, … */
  readonly node: Readonly<Record<string, string>>;
  readonly serviceCluster: string;
  /** Tunnels that all workers together take; absent: any number. */
  readonly maxConnections?: number | undefined;
  /** Where endpoints take tunnels: 15008, but in tests. */
  readonly endpointPort?: number;
}

export type ToWorker =
  /** A socket that listens for tunnels; the main thread owns it. */
  | { readonly type: "listen"; readonly fd: number }
  /** Applied as a whole, then confirmed. */
  | { readonly type: "config"; readonly update: ConfigUpdate; readonly places: LimitPlaces | undefined }
  /** Nothing but a question whether all before it was handled. */
  | { readonly type: "epoch"; readonly epoch: number }
  | { readonly type: "resolved"; readonly id: number; readonly answer: DnsAnswer }
  /** Who signed a token. */
  | { readonly type: "judged"; readonly id: number; readonly verdict: TokenVerdict }
  /** Telemetry on its way to a collector, through this worker's clusters. */
  | { readonly type: "call"; readonly id: number; readonly call: CollectorCall }
  /** A connection that another worker accepted. */
  | { readonly type: "adopt"; readonly fd: number }
  | { readonly type: "log"; readonly directives: string }
  /** An answer `report` is asked for. */
  | { readonly type: "report"; readonly id: number }
  /** GOAWAY to everybody, at once. New connections are still taken. */
  | { readonly type: "drain" }
  /** The end: connections are cut, the last lines written. */
  | { readonly type: "cut"; readonly reason: string };

export type FromWorker =
  | { readonly type: "started"; readonly wakeFd: number }
  | { readonly type: "confirmed"; readonly epoch: number }
  /** A name to look up. */
  | { readonly type: "resolve"; readonly question: DnsQuestion }
  /** A token whose signature is to be checked. */
  | { readonly type: "judge"; readonly question: TokenQuestion }
  /** A peer's certificate is revoked, or its chain is not known any more. `source`: a tunnel that this end opened. */
  | {
    readonly type: "revocation";
    readonly event: "rejected" | "untracked";
    readonly reporter: "source" | "destination";
  }
  /** Metrics, spans and records of logs. */
  | { readonly type: "telemetry"; readonly message: TelemetryMessage }
  | { readonly type: "called"; readonly id: number; readonly outcome: CollectorOutcome }
  /** A connection for another worker. */
  | { readonly type: "pass"; readonly worker: number; readonly fd: number }
  /** A part of a report: all parts of all workers are summed. */
  | { readonly type: "report"; readonly id: number; readonly report: WorkerReport; readonly isLast: boolean }
  /** After `cut`: nothing is left. */
  | { readonly type: "ended" };

/** Counts of one worker or of a part of it, for the admin server. */
export interface WorkerReport {
  /** Tunnels on port 15008. */
  readonly connections: number;
  /** CONNECT requests under way. */
  readonly streams: number;
  /** Chains that could not be compiled, with why. */
  readonly refusedChains: Readonly<Record<string, string>>;
  /** Of telemetry. */
  readonly telemetry: unknown;
}
