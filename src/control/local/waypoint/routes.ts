/** The routes of a port of a service: what HTTPRoutes and GRPCRoutes make of it, or everything to the service itself (waypoint.md 2.9). */
import type { JsonObject } from "@bufbuild/protobuf";
import type { Service } from "../../../mesh/types.ts";
import type { Backend, RouteMatch, RouteObject, RouteRule, ServiceRef } from "../kube/objects.ts";
import { inboundName } from "./names.ts";
import type { References } from "./references.ts";
import {
  corsPolicy,
  headerChanges,
  hostRewrite,
  mirrorPolicies,
  redirectAction,
  rewriteParts,
} from "./route_filters.ts";
import { routeMatch } from "./route_match.ts";
import { compareMatches } from "./route_precedence.ts";
import { extension } from "./xds_resource.ts";

/** istiod's default. */
const RETRY_ON = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";
const RETRIES = 2;
const HOST_ATTEMPTS = "5";

interface Candidate {
  readonly route: RouteObject;
  readonly rule: RouteRule;
  readonly match: RouteMatch;
  readonly name: string;
}

/** Of the routes that name this port of the service; without any, all requests go to it. Where none matches, the answer is 404. */
export function serviceRoutes(
  service: Service,
  port: number,
  routes: readonly RouteObject[],
  references: References,
): readonly JsonObject[] {
  const own = routes.filter(({ parents }) => parents.some((parent) => isParent(parent, service, port)));
  if (own.length === 0) return [defaultRoute(inboundName(port, "http", service), `${service.hostname}:${port}/*`)];
  const candidates = own.flatMap((route) =>
    route.rules.flatMap((rule, index) => {
      const name = rule.name ?? `${route.namespace}.${route.name}.${index}`;
      return rule.matches.map((match): Candidate => ({ route, rule, match, name }));
    })
  );
  return candidates.sort(compareMatches)
    .map((candidate) => makeRoute(candidate, service, port, references));
}

export function defaultRoute(cluster: string, operation: string): JsonObject {
  return {
    name: "default",
    match: { prefix: "/" },
    decorator: { operation },
    route: { cluster, timeout: "0s", max_grpc_timeout: "0s", retry_policy: retryPolicy(undefined) },
  };
}

function isParent(parent: ServiceRef, { namespace, name }: Service, port: number): boolean {
  return parent.namespace === namespace && parent.name === name && (parent.port ?? port) === port;
}

function makeRoute(
  { route, rule, match, name }: Candidate,
  service: Service,
  port: number,
  references: References,
): JsonObject {
  const { filters } = rule;
  const common = {
    name,
    match: routeMatch(match),
    metadata: { filter_metadata: { istio: { config: sourceOf(route) } } },
    decorator: {
      operation: `${service.hostname}:${port}${match.path.type === "PathPrefix" ? "/*" : match.path.value}`,
    },
    ...headerChanges(filters.requestHeaders, filters.responseHeaders),
    ...corsPolicy(filters.cors),
  };
  const backends = rule.backends.filter(({ weight }) => weight > 0);
  // What gets no request must be there all the same: its weight is what will be changed.
  for (const { ref, weight } of rule.backends) if (weight === 0) references.find(ref);
  if (filters.redirect !== undefined || backends.length === 0) {
    for (const { backend } of filters.mirrors) {
      references.report(backend.path, "a rule that answers by itself mirrors nothing; leave RequestMirror out");
    }
  }
  if (filters.redirect !== undefined) return { ...common, redirect: redirectAction(filters.redirect, match, port) };
  if (backends.length === 0) return { ...common, direct_response: { status: 500 } };
  const timeout = duration(rule.requestTimeoutMs ?? 0);
  return {
    ...common,
    route: {
      ...destinations(backends, references),
      ...hostRewrite(filters.requestHeaders),
      ...rewriteParts(filters.rewrite, match),
      ...mirrorPolicies(filters.mirrors, (ref) => references.cluster(ref)),
      cluster_not_found_response_code: "INTERNAL_SERVER_ERROR",
      timeout,
      max_grpc_timeout: timeout,
      retry_policy: retryPolicy(rule),
    },
  };
}

/** Where it comes from, as istiod writes it. */
function sourceOf({ kind, namespace, name }: RouteObject): string {
  const kebab = kind === "HTTPRoute" ? "http-route" : "grpc-route";
  return `/apis/gateway.networking.k8s.io/v1/namespaces/${namespace}/${kebab}/${name}`;
}

function destinations(backends: readonly Backend[], references: References): JsonObject {
  const [first] = backends;
  if (backends.length === 1 && first!.requestHeaders === undefined && first!.responseHeaders === undefined) {
    return { cluster: references.cluster(first!.ref) };
  }
  return {
    weighted_clusters: {
      clusters: backends.map(({ ref, weight, requestHeaders, responseHeaders }) => ({
        name: references.cluster(ref),
        weight,
        ...hostRewrite(requestHeaders),
        ...headerChanges(requestHeaders, responseHeaders),
      })),
    },
  };
}

function retryPolicy(rule: RouteRule | undefined): JsonObject {
  const { retry, backendRequestTimeoutMs } = rule ?? {};
  return {
    retry_on: RETRY_ON,
    num_retries: retry?.attempts ?? RETRIES,
    host_selection_retry_max_attempts: HOST_ATTEMPTS,
    retry_host_predicate: [
      extension(
        "envoy.retry_host_predicates.previous_hosts",
        "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
      ),
    ],
    ...(retry === undefined || retry.codes.length === 0 ? {} : { retriable_status_codes: [...retry.codes] }),
    ...(retry?.backoffMs === undefined ? {} : { retry_back_off: { base_interval: duration(retry.backoffMs) } }),
    ...(backendRequestTimeoutMs === undefined || backendRequestTimeoutMs === 0
      ? {}
      : { per_try_timeout: duration(backendRequestTimeoutMs) }),
  };
}

export function duration(ms: number): string {
  return `${ms / 1000}s`;
}
