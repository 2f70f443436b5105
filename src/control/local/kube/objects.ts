/**
 * What a mesh file may hold as written for Kubernetes, read and checked: Gateway (class istio-waypoint), HTTPRoute and GRPCRoute with a
 * Service as parent (Gateway API, GAMMA), AuthorizationPolicy and RequestAuthentication (Istio security API), Namespace for its labels.
 *
 * Field names are the API's own. Defaults are filled in; what cannot be honoured was refused by line before it gets here.
 */
import type { SourcePath } from "../yaml_source.ts";

export interface ObjectHead {
  readonly name: string;
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  /** Of the object in the file. */
  readonly path: SourcePath;
}

export interface KubeObjects {
  /** Labels of namespaces, by name. */
  readonly namespaces: ReadonlyMap<string, Readonly<Record<string, string>>>;
  /** Where they stand, by name. */
  readonly namespacePaths: ReadonlyMap<string, SourcePath>;
  readonly gateways: readonly WaypointGateway[];
  readonly routes: readonly RouteObject[];
  readonly policies: readonly AuthorizationPolicy[];
  readonly authentications: readonly RequestAuthentication[];
}

/** A Gateway of the class istio-waypoint. Its pod, service account and Service have its name. */
export interface WaypointGateway extends ObjectHead {
  /** The label istio.io/waypoint-for. */
  readonly waypointFor: "service" | "workload" | "all" | "none";
  /** allowedRoutes.namespaces.from: whose services and pods may name it. */
  readonly usableFrom: "Same" | "All";
}

/** A reference to a Service, or to a port of it, with where it stands. */
export interface ServiceRef {
  readonly namespace: string;
  readonly name: string;
  readonly port: number | undefined;
  readonly path: SourcePath;
}

/** An HTTPRoute, or a GRPCRoute with its methods written as paths. */
export interface RouteObject extends ObjectHead {
  readonly kind: "HTTPRoute" | "GRPCRoute";
  readonly parents: readonly ServiceRef[];
  readonly rules: readonly RouteRule[];
}

export interface RouteRule {
  readonly name: string | undefined;
  /** At least one; one of them must match. */
  readonly matches: readonly RouteMatch[];
  readonly filters: RouteFilters;
  readonly backends: readonly Backend[];
  /** `timeouts.request`, in milliseconds; 0 is none, undefined the default. */
  readonly requestTimeoutMs: number | undefined;
  /** `timeouts.backendRequest`, in milliseconds: for one try. */
  readonly backendRequestTimeoutMs: number | undefined;
  readonly retry: RouteRetry | undefined;
  readonly path: SourcePath;
}

export interface RouteRetry {
  /** HTTP status codes that are tried again. */
  readonly codes: readonly number[];
  readonly attempts: number | undefined;
  readonly backoffMs: number | undefined;
}

/** Prefix is the Gateway API's: whole path elements. A GRPCRoute yields exact and regex paths, and a prefix that ends in "/". */
export interface PathMatch {
  readonly type: "Exact" | "PathPrefix" | "RegularExpression";
  readonly value: string;
}

export interface NamedMatch {
  readonly type: "Exact" | "RegularExpression";
  /** Of a header: as written; compared without regard to case. */
  readonly name: string;
  readonly value: string;
}

/** All parts must match. */
export interface RouteMatch {
  readonly path: PathMatch;
  readonly method: string | undefined;
  readonly headers: readonly NamedMatch[];
  readonly queryParams: readonly NamedMatch[];
  readonly where: SourcePath;
}

export interface HeaderModifier {
  readonly set: readonly { readonly name: string; readonly value: string }[];
  readonly add: readonly { readonly name: string; readonly value: string }[];
  readonly remove: readonly string[];
}

export interface PathModifier {
  readonly type: "ReplaceFullPath" | "ReplacePrefixMatch";
  readonly value: string;
}

export interface RouteFilters {
  readonly requestHeaders: HeaderModifier | undefined;
  readonly responseHeaders: HeaderModifier | undefined;
  readonly redirect: {
    readonly scheme: string | undefined;
    readonly hostname: string | undefined;
    readonly port: number | undefined;
    readonly statusCode: number;
    readonly path: PathModifier | undefined;
  } | undefined;
  readonly rewrite: { readonly hostname: string | undefined; readonly path: PathModifier | undefined } | undefined;
  readonly mirrors: readonly { readonly backend: ServiceRef; readonly percent: number }[];
  readonly cors: {
    readonly allowOrigins: readonly string[];
    readonly allowMethods: readonly string[];
    readonly allowHeaders: readonly string[];
    readonly exposeHeaders: readonly string[];
    readonly allowCredentials: boolean;
    readonly maxAgeSeconds: number;
  } | undefined;
}

/** `ref.port` is required. */
export interface Backend {
  readonly ref: ServiceRef;
  readonly weight: number;
  readonly requestHeaders: HeaderModifier | undefined;
  readonly responseHeaders: HeaderModifier | undefined;
}

/** What a policy is attached to. A selector, or nothing (the whole namespace, or the mesh if in the root namespace), is ztunnel's. */
export type PolicyTarget =
  | { readonly kind: "selector"; readonly matchLabels: Readonly<Record<string, string>> }
  | { readonly kind: "namespace" }
  | { readonly kind: "refs"; readonly refs: readonly TargetRef[] };

export interface TargetRef {
  readonly kind: "Gateway" | "Service";
  readonly name: string;
  readonly path: SourcePath;
}

export interface AuthorizationPolicy extends ObjectHead {
  readonly target: PolicyTarget;
  readonly action: "ALLOW" | "DENY" | "AUDIT";
  /** The annotation istio.io/dry-run. */
  readonly dryRun: boolean;
  /** One of them must match; none at all matches nothing. */
  readonly rules: readonly PolicyRule[];
}

/** An empty `from` or `to` says nothing: it holds for everybody. All of `when` must hold. */
export interface PolicyRule {
  readonly from: readonly PolicySource[];
  readonly to: readonly PolicyOperation[];
  readonly when: readonly PolicyCondition[];
  readonly path: SourcePath;
}

/** A list that is empty says nothing. Values may begin or end with `*`, as Istio has it. */
export interface PolicySource {
  readonly principals: readonly string[];
  readonly notPrincipals: readonly string[];
  readonly requestPrincipals: readonly string[];
  readonly notRequestPrincipals: readonly string[];
  readonly namespaces: readonly string[];
  readonly notNamespaces: readonly string[];
  readonly serviceAccounts: readonly string[];
  readonly notServiceAccounts: readonly string[];
  readonly ipBlocks: readonly string[];
  readonly notIpBlocks: readonly string[];
  readonly remoteIpBlocks: readonly string[];
  readonly notRemoteIpBlocks: readonly string[];
  readonly path: SourcePath;
}

export interface PolicyOperation {
  readonly hosts: readonly string[];
  readonly notHosts: readonly string[];
  readonly ports: readonly string[];
  readonly notPorts: readonly string[];
  readonly methods: readonly string[];
  readonly notMethods: readonly string[];
  readonly paths: readonly string[];
  readonly notPaths: readonly string[];
  readonly path: SourcePath;
}

/** `key` as of Istio's table of conditions: `source.ip`, `request.headers[x]`, `request.auth.claims[a][b]`, ... */
export interface PolicyCondition {
  readonly key: string;
  readonly values: readonly string[];
  readonly notValues: readonly string[];
  readonly path: SourcePath;
}

/** Only with targetRefs: requests are read at a waypoint and nowhere else. */
export interface RequestAuthentication extends ObjectHead {
  readonly refs: readonly TargetRef[];
  readonly jwtRules: readonly JwtRule[];
}

export interface JwtRule {
  readonly issuer: string;
  readonly audiences: readonly string[];
  /** A JSON Web Key Set (RFC 7517). */
  readonly jwks: string | undefined;
  /** Of a service of the mesh. One of the two is there. */
  readonly jwksUri: string | undefined;
  readonly fromHeaders: readonly { readonly name: string; readonly prefix: string }[];
  readonly fromParams: readonly string[];
  readonly fromCookies: readonly string[];
  readonly outputPayloadToHeader: string | undefined;
  readonly outputClaimToHeaders: readonly { readonly header: string; readonly claim: string }[];
  readonly forwardOriginalToken: boolean;
  readonly timeoutMs: number | undefined;
  readonly path: SourcePath;
}
