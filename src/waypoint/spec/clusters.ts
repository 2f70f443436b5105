/** Where requests go, as data: clusters and their endpoints. */
import type { ClusterName } from "./chains.ts";
import type { TextMatch } from "./match.ts";

export interface ClusterSpec {
  readonly name: ClusterName;
  /** `alt_stat_name` without its mark. */
  readonly statName: string;
  readonly discovery: DiscoverySpec;
  readonly balancing: BalancingSpec;
  /** 0: Envoy's 5 s. */
  readonly connectTimeoutMs: number;
  readonly limits: LimitsSpec;
  readonly outliers: OutlierSpec | undefined;
  readonly protocol: UpstreamProtocolSpec;
  /** Of the bytes of the request itself: inside the tunnel, or straight on TCP. */
  readonly transport: TransportSpec;
  /** By the endpoint's `tag`, in order; the first that matches replaces `transport`. */
  readonly transportByTag: readonly { readonly tag: EndpointTag; readonly transport: TransportSpec }[];
  readonly service: { readonly host: string; readonly name: string; readonly namespace: string } | undefined;
  /** The DestinationRule it was made of, for logs and metrics. */
  readonly source: string;
  readonly keepalive:
    | { readonly idleSeconds: number; readonly intervalSeconds: number; readonly probes: number }
    | undefined;
}

export type DiscoverySpec =
  /** Endpoints come in `EndpointsSpec` of this name. */
  | { readonly kind: "eds"; readonly name: string }
  | { readonly kind: "static"; readonly endpoints: EndpointsSpec }
  | {
    readonly kind: "dns";
    /** Strict: every address is an endpoint. Logical: the first address, again for each new connection. */
    readonly strict: boolean;
    readonly family: "v4" | "v6" | "auto" | "v4 preferred" | "all";
    readonly respectTtl: boolean;
    readonly refreshMs: number;
    readonly jitterMs: number;
    readonly endpoints: EndpointsSpec;
  }
  /** Where the client wanted to go: straight, or through the tunnel to that address. */
  | { readonly kind: "original destination"; readonly port: number | undefined; readonly hbone: boolean }
  /** Resolve the request's host (or the SNI), which must lie below the wildcard. */
  | {
    readonly kind: "dynamic forward";
    readonly wildcard: string;
    readonly family: "v4" | "v6" | "auto" | "v4 preferred" | "all";
  };

export interface EndpointsSpec {
  readonly name: string;
  readonly localities: readonly LocalityEndpointsSpec[];
  /** 140 unless told. */
  readonly overprovisioning: number;
}

export interface LocalityEndpointsSpec {
  readonly region: string;
  readonly zone: string;
  readonly subzone: string;
  readonly priority: number;
  /** 0 where localities are not weighed. */
  readonly weight: number;
  readonly endpoints: readonly EndpointSpec[];
}

export type EndpointTag = "tunnel" | "istio tls" | "plain";

export interface EndpointSpec {
  /** Its key everywhere, hashing included: `ip:port`, or `host:port` before resolution. */
  readonly id: string;
  readonly reach: EndpointReach;
  readonly health: "healthy" | "unhealthy" | "draining" | "degraded";
  readonly weight: number;
  readonly tag: EndpointTag;
  /** Istio's workload text: `name;ns;canonical;revision;cluster`. */
  readonly workload: string;
}

export type EndpointReach =
  /** `others`: further addresses of the same endpoint, tried in turn. A host name only in DNS clusters. */
  | {
    readonly kind: "direct";
    readonly host: string;
    readonly port: number;
    readonly others: readonly { readonly host: string; readonly port: number }[];
  }
  /** CONNECT to `target` through the HBONE port of its own address, or of `via`. */
  | { readonly kind: "hbone"; readonly target: string; readonly via: string | undefined }
  /** Double HBONE through a network gateway; refused until multi-network is there. */
  | { readonly kind: "gateway"; readonly gateway: string; readonly target: string };

export interface BalancingSpec {
  readonly policy:
    | { readonly kind: "round robin"; readonly slowStart: SlowStartSpec | undefined }
    | { readonly kind: "least request"; readonly choices: number; readonly slowStart: SlowStartSpec | undefined }
    | { readonly kind: "random" }
    | { readonly kind: "ring hash"; readonly minSize: number; readonly maxSize: number; readonly hostnames: boolean }
    | { readonly kind: "maglev"; readonly tableSize: number; readonly hostnames: boolean }
    /** The discovery says where. */
    | { readonly kind: "given" };
  readonly panicPercent: number;
  readonly localityWeighted: boolean;
}

export interface SlowStartSpec {
  readonly windowMs: number;
  readonly aggression: number;
  readonly minWeightPercent: number;
}

/** Infinity is no limit. */
export interface LimitsSpec {
  readonly maxConnections: number;
  readonly maxPending: number;
  readonly maxRequests: number;
  readonly maxRetries: number;
  readonly retryBudget: { readonly percent: number; readonly minConcurrency: number } | undefined;
  /** 0: no limit. */
  readonly maxRequestsPerConnection: number;
  readonly idleTimeoutMs: number;
  readonly maxConnectionMs: number;
  readonly maxConcurrentStreams: number;
}

export interface OutlierSpec {
  readonly consecutive5xx: number | undefined;
  readonly consecutiveGatewayFailure: number | undefined;
  readonly consecutiveLocalOrigin: number | undefined;
  readonly splitLocalOrigin: boolean;
  readonly intervalMs: number;
  readonly baseEjectionMs: number;
  readonly maxEjectionMs: number;
  readonly maxEjectionPercent: number;
}

export interface UpstreamProtocolSpec {
  readonly kind: "http1" | "http2" | "as downstream";
  readonly http2KeepaliveMs: number;
  readonly preserveHeaderCase: boolean;
}

export type TransportSpec =
  | { readonly kind: "raw" }
  | { readonly kind: "tls"; readonly tls: UpstreamTlsSpec }
  /** HAProxy's PROXY protocol before the bytes of `inner`. */
  | { readonly kind: "proxy protocol"; readonly version: 1 | 2; readonly inner: TransportSpec };

export interface UpstreamTlsSpec {
  /** "" none; with `autoSni` the request's host. */
  readonly sni: string;
  readonly autoSni: boolean;
  /** Verify the certificate's name against the request's host. */
  readonly autoSan: boolean;
  readonly sans: readonly { readonly type: "uri" | "dns" | "email" | "ip" | "any"; readonly match: TextMatch }[];
  /** Secrets by name (`default`, `file-root:system`, `kubernetes://x-cacert`); undefined: no verification was asked for. */
  readonly trust: string | undefined;
  readonly certificate: string | undefined;
  readonly alpn: readonly string[];
  readonly minVersion: "1.2" | "1.3";
  readonly maxVersion: "1.2" | "1.3";
  readonly insecureSkipVerify: boolean;
}
