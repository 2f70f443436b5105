/** The configuration of a waypoint as plain data, and the change that brings a worker from one to the next. */
import type { ChainName, ChainSpec, ClusterName, SelectionSpec, TerminateSpec } from "./chains.ts";
import type { ClusterSpec, EndpointsSpec } from "./clusters.ts";

export type * from "./chains.ts";
export type * from "./clusters.ts";
export type * from "./match.ts";
export type * from "./policy.ts";
export type * from "./routes.ts";
export type * from "./telemetry.ts";

/**
 * One update. A part that is absent stays as it is; objects that did not change are not sent, so that connections of other services are not
 * touched. A worker applies it as a whole, before the next event of its sockets, and confirms `epoch`.
 */
export interface ConfigUpdate {
  readonly epoch: number;
  readonly terminate?: TerminateSpec;
  readonly selection?: SelectionSpec;
  /**
   * A selection of thousands of services comes in parts: those before the last as `selectionPart`, the last as `selection`. `at` counts the ranges before
   * it; a worker that has not all of them, because it is new, has the whole selection already, and passes over the parts.
   */
  readonly selectionPart?: { readonly at: number; readonly ranges: SelectionSpec["ranges"] };
  readonly selectionAt?: number;
  readonly chains?: readonly ChainSpec[];
  readonly removedChains?: readonly ChainName[];
  readonly clusters?: readonly ClusterSpec[];
  readonly removedClusters?: readonly ClusterName[];
  /** Replaces all endpoints of a name. */
  readonly endpoints?: readonly EndpointsSpec[];
  readonly removedEndpoints?: readonly string[];
  /** PEM by secret name. */
  readonly secrets?: Readonly<Record<string, SecretSpec | null>>;
  /** Peers by address, for metrics and logs. */
  readonly workloads?: readonly WorkloadSpec[];
  readonly removedWorkloads?: readonly string[];
}

export type SecretSpec =
  | { readonly kind: "certificate"; readonly chain: string; readonly key: string }
  | { readonly kind: "trust"; readonly roots: string; readonly crl: string | undefined }
  /** The operating system's own roots. */
  | { readonly kind: "system trust" };

/** What telemetry says of a peer (istio.workload.Workload, waypoint.md appendix F). */
export interface WorkloadSpec {
  readonly uid: string;
  readonly addresses: readonly string[];
  readonly name: string;
  readonly namespace: string;
  readonly workloadName: string;
  readonly workloadType: string;
  readonly canonicalName: string;
  readonly canonicalRevision: string;
  readonly clusterId: string;
  /** spiffe://… */
  readonly identity: string;
  readonly region: string;
  readonly zone: string;
}
