/**
 * What a waypoint does with a connection, as immutable plain data: made on the main thread from what istiod sent, or from a mesh file, and
 * posted to the workers, which compile it. Nothing here knows Envoy.
 */
import type { AccessLogSpec, StatsSpec, TracingSpec } from "./telemetry.ts";
import type { Cidr, TextMatch } from "./match.ts";
import type { ExtAuthzSpec, HttpPolicySpec, NetworkRbacSpec } from "./policy.ts";
import type { RouteTableSpec } from "./routes.ts";

export type ChainName = string & { readonly __chain: unique symbol };
export type ClusterName = string & { readonly __cluster: unique symbol };

/** What the bytes of a connection turned out to be. Sniffed only where a selection asks for it. */
export type SniffedProtocol = "http/1.0" | "http/1.1" | "h2c" | "other";

/** Which chain a connection takes. Searched from the most specific range; a range that matches and has no way for the port ends the search. */
export interface SelectionSpec {
  /** Authorities (`host:port`) that come before addresses; empty without multi-network. */
  readonly authorities: Readonly<Record<string, ChainName>>;
  readonly ranges: readonly { readonly cidrs: readonly Cidr[]; readonly to: PortSelection }[];
}

export type PortSelection =
  | { readonly kind: "ports"; readonly ports: Readonly<Record<number, ChainChoice>> }
  /** Any port, as for workloads. */
  | { readonly kind: "any"; readonly to: ChainChoice };

export type ChainChoice =
  | { readonly kind: "chain"; readonly chain: ChainName }
  /** By the first bytes; an absent protocol means no chain. */
  | { readonly kind: "sniff"; readonly protocols: Readonly<Partial<Record<SniffedProtocol, ChainName>>> };

/** CONNECT as it is terminated on port 15008. */
export interface TerminateSpec {
  /** A client certificate's URI name must match one; empty: any name. */
  readonly peerNames: readonly TextMatch[];
  readonly maxConcurrentStreams: number;
  readonly pingIntervalMs: number;
  readonly pingTimeoutMs: number;
  /** Of CONNECT requests themselves. */
  readonly accessLogs: readonly AccessLogSpec[];
  /** A filter that cannot be honoured stands here: every CONNECT is answered 503, and this says why. */
  readonly refusal: string | undefined;
}

export type ChainSpec = HttpChainSpec | TcpChainSpec | RefusedChainSpec;

/** A chain that holds something ambit does not do: its connections are closed, its requests answered 503. */
export interface RefusedChainSpec {
  readonly kind: "refused";
  readonly name: ChainName;
  /** For a person: which filter, and why. */
  readonly reason: string;
  /** So that a client of an HTTP service reads a 503. */
  readonly http: boolean;
}

export interface TcpChainSpec {
  readonly kind: "tcp";
  readonly name: ChainName;
  readonly rbac: readonly NetworkRbacSpec[];
  /** gRPC ext_authz for connections. */
  readonly extAuthz: readonly ExtAuthzSpec[];
  /** Weights are of their sum; one cluster has weight 1. */
  readonly clusters: readonly { readonly cluster: ClusterName; readonly weight: number }[];
  /** 0: never. */
  readonly idleTimeoutMs: number;
  /** 0: never. */
  readonly maxConnectionMs: number;
  readonly hashSourceIp: boolean;
  /** Resolve the SNI below this wildcard and connect there, on this port. */
  readonly sniForward: { readonly port: number } | undefined;
  readonly accessLogs: readonly AccessLogSpec[];
  readonly stats: StatsSpec | undefined;
}

export interface HttpChainSpec {
  readonly kind: "http";
  readonly name: ChainName;
  readonly statPrefix: string;
  readonly options: HttpOptionsSpec;
  readonly routes: RouteTableSpec;
  /** In the order they run, before the router. */
  readonly policies: readonly HttpPolicySpec[];
  readonly accessLogs: readonly AccessLogSpec[];
  readonly stats: StatsSpec | undefined;
  readonly tracing: TracingSpec | undefined;
}

/** The connection manager's own settings. Times of 0 mean never. */
export interface HttpOptionsSpec {
  readonly serverName: string;
  readonly serverHeader: "overwrite" | "append if absent" | "pass through";
  readonly acceptHttp10: boolean;
  readonly normalizePath: boolean;
  readonly mergeSlashes: boolean;
  readonly escapedSlashes: "keep" | "reject" | "unescape and forward" | "unescape and redirect";
  readonly upgrades: readonly string[];
  readonly proxy100Continue: boolean;
  readonly preserveHeaderCase: boolean;
  readonly streamIdleMs: number;
  readonly requestTimeoutMs: number;
  readonly requestHeadersTimeoutMs: number;
  readonly idleTimeoutMs: number;
  readonly maxConnectionMs: number;
  readonly maxRequestHeadersKb: number;
  readonly maxHeaders: number;
  readonly requestId: {
    readonly generate: boolean;
    readonly preserveExternal: boolean;
    readonly alwaysInResponse: boolean;
  };
  readonly forwardedClientCert: "sanitize" | "forward only" | "append" | "set";
  /** `By=<own>;URI=<client>` put into x-forwarded-client-cert, by the Gateway's annotation. */
  readonly setClientCert: boolean;
  /** Only for bodies that are buffered (retries, ext_authz). */
  readonly maxBufferedBytes: number;
}
