/** What the engine asks of clusters: a host for a request, an HTTP connection or a byte stream to it, and places for its outcome. */
import type { ConnectionInfo } from "../engine/connection_info.ts";
import type { ClientConnection } from "../http/exchange.ts";
import type { ByteStream } from "../transport/byte_stream.ts";
import type { ClusterName, ClusterSpec, EndpointSpec } from "../spec/mod.ts";

/** One endpoint, alive in this worker. */
export interface UpstreamHost {
  readonly endpoint: EndpointSpec;
  /** For `%UPSTREAM_HOST%`: `ip:port`, or `envoy://connect_originate/ip:port`. */
  readonly shown: string;
  readonly cluster: Cluster;
}

export interface PickRequest {
  readonly connection: ConnectionInfo;
  /** 64 bits as an unsigned text-free pair is slow: 53 bits suffice and all replicas agree. Undefined: no hash. */
  readonly hash: number | undefined;
  /** The request's host without port, or the SNI: for dynamic forwarding and `autoSni`. */
  readonly authority: string;
  /** Hosts tried before, in order. */
  readonly tried: readonly UpstreamHost[];
  readonly avoidTried: boolean;
  readonly hostAttempts: number;
  /** Tries after which other priorities are preferred; 0 never. */
  readonly priorityUpdateFrequency: number;
}

/** Why nothing could be had, in terms of Envoy's flags and texts. */
export interface UpstreamFailure {
  readonly flag: "UH" | "UO" | "UF" | "NC" | "UT" | "DF";
  /** Envoy's reset reason, such as `remote connection failure` or `overflow`. */
  readonly reason: string;
  /** For `%UPSTREAM_TRANSPORT_FAILURE_REASON%` and people: `10.0.0.9:15008: connection refused`. */
  readonly detail: string;
  /** The request surely did not reach anybody. */
  readonly safeToRetry: boolean;
}

export interface HttpWaiter {
  /** Send the request before returning. */
  connected(connection: ClientConnection, host: UpstreamHost, localAddress: string): void;
  failed(failure: UpstreamFailure, host: UpstreamHost | undefined): void;
}

export interface StreamWaiter {
  connected(stream: ByteStream, host: UpstreamHost, localAddress: string): void;
  failed(failure: UpstreamFailure, host: UpstreamHost | undefined): void;
}

/** A wait that can be given up. */
export interface Wait {
  cancel(): void;
}

export interface Cluster {
  readonly name: ClusterName;
  readonly spec: ClusterSpec;
  /** An HTTP connection with room for one request to a host of the cluster's choice. May answer from within. */
  http(request: PickRequest, downstreamVersion: "1.0" | "1.1" | "2", waiter: HttpWaiter): Wait;
  /** A byte stream of its own, for TCP chains and upgrades. */
  stream(request: PickRequest, waiter: StreamWaiter): Wait;
  /** The outcome of a try, for outlier detection: a status, or that it never answered. */
  outcome(
    host: UpstreamHost,
    outcome: { readonly status: number } | { readonly localFailure: "connect" | "reset" | "timeout" },
  ): void;
  /** A retry may be made now (max_retries, budget); `done` when it is over. Undefined: no. */
  takeRetry(): (() => void) | undefined;
}

export interface Clusters {
  get(name: ClusterName): Cluster | undefined;
}
