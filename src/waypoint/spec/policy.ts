/** Policy of a chain as data: RBAC, JWT, ext_authz. A policy that could not be understood never becomes one of these: its chain is refused. */
import type { ClusterName } from "./chains.ts";
import type { Cidr, HeaderMatch, MetadataMatch, PathMatch, TextMatch } from "./match.ts";

/** Filters that run before the router, in their order. Fault and CORS stand where Envoy has them, with settings by route. */
export type HttpPolicySpec =
  | { readonly kind: "rbac"; readonly rbac: RbacSpec }
  | { readonly kind: "jwt"; readonly jwt: JwtSpec }
  | { readonly kind: "ext_authz"; readonly extAuthz: ExtAuthzSpec }
  | { readonly kind: "fault" }
  | { readonly kind: "cors" }
  | { readonly kind: "grpc_web" }
  | { readonly kind: "grpc_stats" };

/** One RBAC filter. */
export interface RbacSpec {
  /** Undefined: nothing is enforced. */
  readonly rules: RbacRulesSpec | undefined;
  /** Judged and reported only (dry-run, and what ext_authz waits for). */
  readonly shadow: RbacRulesSpec | undefined;
  /** Before `shadow_effective_policy_id` and `shadow_engine_result` in dynamic metadata `envoy.filters.http.rbac`. */
  readonly shadowPrefix: string;
}

export interface NetworkRbacSpec extends RbacSpec {
  readonly statPrefix: string;
}

export interface RbacRulesSpec {
  /** "log" never denies. */
  readonly action: "allow" | "deny" | "log";
  /** By name, `ns[NS]-policy[NAME]-rule[N]`, in the order of names, as Envoy judges them. */
  readonly policies: readonly {
    readonly name: string;
    readonly principals: RuleSpec;
    readonly permissions: RuleSpec;
  }[];
}

/** One condition tree for principals and permissions alike. */
export type RuleSpec =
  | { readonly kind: "any" }
  | { readonly kind: "never" }
  | { readonly kind: "and" | "or"; readonly of: readonly RuleSpec[] }
  | { readonly kind: "not"; readonly of: RuleSpec }
  /** The client's SPIFFE id, whole (`io.istio.peer_principal`). Absent identity matches nothing. */
  | { readonly kind: "principal"; readonly match: TextMatch }
  /** A verified identity of any name. */
  | { readonly kind: "authenticated" }
  | { readonly kind: "source ip" | "remote ip" | "destination ip"; readonly cidr: Cidr }
  | { readonly kind: "destination port"; readonly port: number }
  | { readonly kind: "sni"; readonly match: TextMatch }
  | { readonly kind: "header"; readonly match: HeaderMatch }
  | { readonly kind: "path"; readonly match: PathMatch | { readonly kind: "text"; readonly match: TextMatch } }
  | { readonly kind: "metadata"; readonly match: MetadataMatch };

export interface JwtSpec {
  readonly providers: Readonly<Record<string, JwtProviderSpec>>;
  /** The first that matches; without one no token is asked for. */
  readonly rules: readonly {
    readonly path: PathMatch;
    readonly headers: readonly HeaderMatch[];
    readonly requires: JwtRequirement;
  }[];
  readonly bypassCorsPreflight: boolean;
}

export type JwtRequirement =
  | { readonly kind: "provider"; readonly provider: string; readonly audiences: readonly string[] | undefined }
  | { readonly kind: "any" | "all"; readonly of: readonly JwtRequirement[] }
  | { readonly kind: "allow missing" }
  | { readonly kind: "allow missing or failed" };

export interface JwtProviderSpec {
  readonly name: string;
  readonly issuer: string;
  readonly audiences: readonly string[];
  readonly keys:
    | { readonly kind: "inline"; readonly jwks: string }
    | {
      readonly kind: "remote";
      readonly uri: string;
      readonly cluster: ClusterName;
      readonly timeoutMs: number;
      readonly cacheMs: number;
    };
  readonly fromHeaders: readonly { readonly name: string; readonly prefix: string }[];
  readonly fromParams: readonly string[];
  readonly fromCookies: readonly string[];
  readonly forward: boolean;
  /** "" none. The payload as base64url. */
  readonly forwardPayloadHeader: string;
  readonly padForwardPayload: boolean;
  readonly claimsToHeaders: readonly { readonly claim: string; readonly header: string }[];
  /** Key in dynamic metadata `envoy.filters.http.jwt_authn`; "" none. */
  readonly payloadInMetadata: string;
  readonly headerInMetadata: string;
  /** Claims whose text is split at spaces in metadata. */
  readonly spaceDelimitedClaims: readonly string[];
  readonly clockSkewSeconds: number;
  /** Undefined: any subject. */
  readonly subjects: TextMatch | undefined;
  readonly requireExpiration: boolean;
  /** Routes are chosen again after its claims are known. */
  readonly clearRouteCache: boolean;
}

export interface ExtAuthzSpec {
  readonly service:
    | {
      readonly kind: "grpc";
      readonly cluster: ClusterName;
      readonly authority: string;
      readonly timeoutMs: number; /** Undefined: all are told. */
      readonly allowedHeaders: readonly TextMatch[] | undefined;
    }
    | {
      readonly kind: "http";
      readonly cluster: ClusterName;
      readonly uri: string;
      readonly timeoutMs: number;
      readonly pathPrefix: string;
      readonly addToCheck: readonly { readonly name: string; readonly value: string }[];
      /** Request headers told to the service, beside those it always gets. */
      readonly allowedHeaders: readonly TextMatch[];
      readonly toUpstream: readonly TextMatch[];
      readonly toUpstreamAppend: readonly TextMatch[];
      readonly toClient: readonly TextMatch[];
      readonly toClientOnSuccess: readonly TextMatch[];
    };
  readonly body: { readonly maxBytes: number; readonly allowPartial: boolean; readonly asBytes: boolean } | undefined;
  readonly failureAllows: boolean;
  readonly statusOnError: number;
  /** Only where the shadow policy of this prefix was effective: the id must start with it. Undefined: always. */
  readonly onlyIfPolicy: { readonly metadataKey: string; readonly prefix: string } | undefined;
  readonly statPrefix: string;
  readonly includePeerCertificate: boolean;
  readonly clearRouteCache: boolean;
}
