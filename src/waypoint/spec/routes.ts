/** Routes of one chain as data. The first route that matches decides. */
import type { ClusterName } from "./chains.ts";
import type { Format, HeaderMatch, MetadataMatch, PathMatch, PerMillion, QueryMatch, TextMatch } from "./match.ts";

export interface RouteTableSpec {
  readonly name: string;
  /** Searched exact, then suffix (`*.a`), then prefix (`a.*`), then `*`; the longest first. */
  readonly hosts: readonly VirtualHostSpec[];
  readonly headers: HeaderChangeSpec;
  readonly maxDirectBodyBytes: number;
}

export interface VirtualHostSpec {
  readonly name: string;
  readonly domains: readonly string[];
  readonly routes: readonly RouteSpec[];
  readonly headers: HeaderChangeSpec;
  readonly attemptCountInRequest: boolean;
}

export interface RouteSpec {
  readonly name: string;
  readonly path: PathMatch;
  readonly headers: readonly HeaderMatch[];
  readonly query: readonly QueryMatch[];
  readonly metadata: readonly MetadataMatch[];
  /** Only gRPC requests. */
  readonly grpcOnly: boolean;
  /** Which share of matching requests takes it; 1,000,000 all. */
  readonly fraction: PerMillion;
  readonly change: HeaderChangeSpec;
  /** Name of the span. */
  readonly operation: string;
  /** The object it was made of, for logs: istio's `config`. */
  readonly source: string;
  readonly action: RouteActionSpec;
  /** Per-route settings of filters; undefined: the filter's own. */
  readonly fault: FaultSpec | undefined;
  readonly cors: CorsSpec | undefined;
  /** A per-route setting that cannot be honoured: requests of this route are answered 503 with this reason in the log. */
  readonly refusal: string | undefined;
}

/** Removals come before additions; values are formats. */
export interface HeaderChangeSpec {
  readonly requestRemove: readonly string[];
  readonly requestAdd: readonly HeaderAddSpec[];
  readonly responseRemove: readonly string[];
  readonly responseAdd: readonly HeaderAddSpec[];
}

export interface HeaderAddSpec {
  readonly name: string;
  readonly value: Format;
  readonly action: "append" | "add if absent" | "overwrite" | "overwrite if exists";
  readonly keepEmpty: boolean;
}

export type RouteActionSpec =
  | ForwardSpec
  | {
    readonly kind: "redirect";
    readonly scheme: string | undefined;
    readonly host: string | undefined;
    readonly port: number | undefined;
    readonly path: string | undefined;
    readonly prefixRewrite: string | undefined;
    readonly regexRewrite: RegexRewriteSpec | undefined;
    readonly stripQuery: boolean;
    readonly code: 301 | 302 | 303 | 307 | 308;
  }
  | { readonly kind: "direct"; readonly status: number; readonly body: string };

export interface RegexRewriteSpec {
  readonly pattern: string;
  /** With `\1` for groups. */
  readonly substitution: string;
}

export interface ForwardSpec {
  readonly kind: "forward";
  /** One with weight 1, or several; weight 0 is never chosen. Empty, or all of weight 0: the request has no cluster. */
  readonly clusters: readonly WeightedClusterSpec[];
  /** Status when the cluster is unknown: 503, or 500 for Gateway API routes. */
  readonly unknownClusterStatus: number;
  readonly prefixRewrite: string | undefined;
  readonly regexRewrite: RegexRewriteSpec | undefined;
  readonly hostRewrite: string | undefined;
  readonly autoHostRewrite: boolean;
  readonly appendForwardedHost: boolean;
  /** 0: none. */
  readonly timeoutMs: number;
  /** Undefined: grpc-timeout is not looked at; 0: as the client says. */
  readonly maxGrpcTimeoutMs: number | undefined;
  /** Undefined: the chain's. 0: none. */
  readonly idleTimeoutMs: number | undefined;
  readonly retry: RetrySpec | undefined;
  readonly hash: readonly HashPolicySpec[];
  readonly mirrors: readonly MirrorSpec[];
  /** Upgrades taken on this route although the chain refuses them, or the reverse. */
  readonly upgrades: Readonly<Record<string, boolean>>;
}

export interface WeightedClusterSpec {
  readonly cluster: ClusterName;
  readonly weight: number;
  readonly change: HeaderChangeSpec;
  readonly hostRewrite: string | undefined;
}

export interface RetrySpec {
  /** Beyond the first try. */
  readonly retries: number;
  readonly on: readonly RetryCondition[];
  readonly statuses: readonly number[];
  readonly retriableHeaders: readonly HeaderMatch[];
  /** 0: the route's timeout alone. */
  readonly perTryTimeoutMs: number;
  readonly perTryIdleMs: number;
  readonly baseBackoffMs: number;
  readonly maxBackoffMs: number;
  readonly avoidPreviousHosts: boolean;
  readonly hostAttempts: number;
  /** Other priorities after this many tries; 0: never. */
  readonly priorityUpdateFrequency: number;
}

export type RetryCondition =
  | "5xx"
  | "gateway-error"
  | "reset"
  | "reset-before-request"
  | "connect-failure"
  | "envoy-ratelimited"
  | "retriable-4xx"
  | "refused-stream"
  | "retriable-status-codes"
  | "retriable-headers"
  | "cancelled"
  | "deadline-exceeded"
  | "internal"
  | "resource-exhausted"
  | "unavailable";

export type HashPolicySpec =
  & ({ readonly kind: "header"; readonly name: string } | { readonly kind: "query"; readonly name: string } | {
    readonly kind: "source ip";
  } | {
    readonly kind: "cookie";
    readonly name: string;
    /** Set by us when absent; undefined: never set. 0: a session cookie. */
    readonly ttlSeconds: number | undefined;
    readonly path: string;
    readonly attributes: readonly { readonly name: string; readonly value: string }[];
  })
  & { readonly terminal: boolean };

export interface MirrorSpec {
  readonly cluster: ClusterName;
  readonly fraction: PerMillion;
  readonly appendShadowSuffix: boolean;
  readonly traced: boolean;
}

export interface FaultSpec {
  readonly delay: { readonly ms: number; readonly fraction: PerMillion } | undefined;
  readonly abort:
    | { readonly kind: "http"; readonly status: number; readonly fraction: PerMillion }
    | { readonly kind: "grpc"; readonly status: number; readonly fraction: PerMillion }
    | undefined;
}

export interface CorsSpec {
  readonly origins: readonly TextMatch[];
  readonly methods: string;
  readonly headers: string;
  readonly exposeHeaders: string;
  readonly maxAge: string;
  readonly credentials: boolean;
  readonly forwardOtherPreflights: boolean;
}
