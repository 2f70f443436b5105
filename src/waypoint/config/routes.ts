/** Inline route configurations to route tables. A route that cannot be honoured is refused alone where that is safe: its requests are answered 503. */
import type { Any } from "@bufbuild/protobuf/wkt";
import {
  DirectResponseActionSchema,
  RedirectAction_RedirectResponseCode as RedirectCode,
  RedirectActionSchema,
  type Route,
  RouteSchema,
  type VirtualHost,
  VirtualHost_TlsRequirementType as TlsRequirement,
  VirtualHostSchema,
} from "../../gen/envoy/config/route/v3/route_components_pb.ts";
import { type RouteConfiguration, RouteConfigurationSchema } from "../../gen/envoy/config/route/v3/route_pb.ts";
import type { DataSource, Metadata } from "../../gen/envoy/config/core/v3/base_pb.ts";
import type { RouteActionSpec, RouteSpec, RouteTableSpec, VirtualHostSpec } from "../spec/mod.ts";
import { corsSpec, faultSpec } from "./route_filters.ts";
import { forward } from "./route_action.ts";
import { expectUnderstood, typeOf, understand, Unsupported, within } from "./guard.ts";
import { HEADER_CHANGE_FIELDS, headerChanges } from "./headers.ts";
import { regexRewrite } from "./matchers.ts";
import { routeMatch } from "./route_match.ts";

const TABLE = understand(
  RouteConfigurationSchema,
  `name virtual_hosts max_direct_response_body_size_bytes ${HEADER_CHANGE_FIELDS}`,
  "validate_clusters metadata ignore_port_in_host_matching",
);
/** Envoy's default. */
const MAX_DIRECT_BODY_BYTES = 4096;

/** @throws Unsupported */
export function routeTable(table: RouteConfiguration): RouteTableSpec {
  expectUnderstood(TABLE, table);
  const maxDirectBodyBytes = table.maxDirectResponseBodySizeBytes ?? MAX_DIRECT_BODY_BYTES;
  return {
    name: table.name,
    headers: headerChanges(table),
    maxDirectBodyBytes,
    hosts: table.virtualHosts.map((host) =>
      within(`virtual host ${host.name}`, () => virtualHost(host, maxDirectBodyBytes))
    ),
  };
}

const HOST = understand(
  VirtualHostSchema,
  `name domains routes include_request_attempt_count require_tls ${HEADER_CHANGE_FIELDS}`,
  "metadata",
);

function virtualHost(host: VirtualHost, maxBodyBytes: number): VirtualHostSpec {
  expectUnderstood(HOST, host);
  if (host.requireTls !== TlsRequirement.NONE) throw new Unsupported("VirtualHost.require_tls is not supported");
  return {
    name: host.name,
    domains: host.domains.map((domain) => domain.toLowerCase()),
    headers: headerChanges(host),
    attemptCountInRequest: host.includeRequestAttemptCount,
    routes: host.routes.map((route, index) =>
      within(`route ${route.name || index}`, () => routeSpec(route, maxBodyBytes))
    ),
  };
}

const ROUTE = understand(
  RouteSchema,
  `name match route redirect direct_response metadata decorator typed_per_filter_config ${HEADER_CHANGE_FIELDS}`,
  "tracing stat_prefix",
);

/** @throws Unsupported when it is not known which requests it is for: those would go to a later route */
function routeSpec(route: Route, maxBodyBytes: number): RouteSpec {
  const match = routeMatch(route.match);
  try {
    expectUnderstood(ROUTE, route);
    const { fault, cors } = perFilter(route.typedPerFilterConfig);
    return {
      ...common(route),
      ...match,
      change: headerChanges(route),
      action: action(route, maxBodyBytes),
      fault,
      cors,
      refusal: undefined,
    };
  } catch (error) {
    if (!(error instanceof Unsupported)) throw error;
    // Its requests are known and it stands where it stands: refusing them leaves all others as they were.
    const refused: RouteActionSpec = { kind: "direct", status: 503, body: "" };
    return {
      ...common(route),
      ...match,
      change: { requestRemove: [], requestAdd: [], responseRemove: [], responseAdd: [] },
      action: refused,
      fault: undefined,
      cors: undefined,
      refusal: error.message,
    };
  }
}

function common(route: Route): Pick<RouteSpec, "name" | "operation" | "source"> {
  return { name: route.name, operation: route.decorator?.operation ?? "", source: sourceOf(route.metadata) };
}

/** `istio` / `config` of metadata: the object it was made of. */
export function sourceOf(metadata: Metadata | undefined): string {
  const config = metadata?.filterMetadata["istio"]?.["config"];
  return typeof config === "string" ? config : "";
}

/** Settings of filters that only this route has. A filter that does not run for a waypoint may have them without effect. */
function perFilter(config: { readonly [name: string]: Any }): Pick<RouteSpec, "fault" | "cors"> {
  let fault: RouteSpec["fault"], cors: RouteSpec["cors"];
  for (const [name, any] of Object.entries(config)) {
    switch (typeOf(any)) {
      case "envoy.extensions.filters.http.fault.v3.HTTPFault":
        fault = within(name, () => faultSpec(any));
        break;
      case "envoy.extensions.filters.http.cors.v3.CorsPolicy":
        cors = within(name, () => corsSpec(any));
        break;
      default:
        throw new Unsupported(`typed_per_filter_config ${name} (${typeOf(any)}) is not supported`);
    }
  }
  return { fault, cors };
}

function action(route: Route, maxBodyBytes: number): RouteActionSpec {
  switch (route.action.case) {
    case "route":
      return forward(route.action.value);
    case "redirect":
      return redirect(route);
    case "directResponse":
      return direct(route, maxBodyBytes);
    default:
      throw new Unsupported(`the action ${route.action.case ?? "nothing"} is not supported`);
  }
}

const REDIRECT = understand(
  RedirectActionSchema,
  "https_redirect scheme_redirect host_redirect port_redirect path_redirect prefix_rewrite regex_rewrite response_code strip_query",
);
const CODES: Readonly<Record<RedirectCode, 301 | 302 | 303 | 307 | 308>> = {
  [RedirectCode.MOVED_PERMANENTLY]: 301,
  [RedirectCode.FOUND]: 302,
  [RedirectCode.SEE_OTHER]: 303,
  [RedirectCode.TEMPORARY_REDIRECT]: 307,
  [RedirectCode.PERMANENT_REDIRECT]: 308,
};

function redirect({ action }: Route): RouteActionSpec {
  if (action.case !== "redirect") throw new Unsupported("not a redirect");
  const { value } = action;
  expectUnderstood(REDIRECT, value);
  const { schemeRewriteSpecifier: scheme, pathRewriteSpecifier: path } = value;
  const code = CODES[value.responseCode];
  if (code === undefined) throw new Unsupported(`the redirect code ${value.responseCode} is not known`);
  return {
    kind: "redirect",
    scheme: scheme.case === "schemeRedirect"
      ? scheme.value
      : scheme.case === "httpsRedirect" && scheme.value
      ? "https"
      : undefined,
    host: value.hostRedirect || undefined,
    port: value.portRedirect || undefined,
    // istiod sets the oneof with no text when the path is to stay.
    path: path.case === "pathRedirect" ? path.value || undefined : undefined,
    prefixRewrite: path.case === "prefixRewrite" ? path.value || undefined : undefined,
    regexRewrite: path.case === "regexRewrite" ? regexRewrite(path.value) : undefined,
    stripQuery: value.stripQuery,
    code,
  };
}

const DIRECT = understand(DirectResponseActionSchema, "status body");

function direct({ action }: Route, maxBodyBytes: number): RouteActionSpec {
  if (action.case !== "directResponse") throw new Unsupported("not a direct response");
  const { value } = action;
  expectUnderstood(DIRECT, value);
  if (value.status < 200 || value.status > 599) {
    throw new Unsupported(`a direct response cannot have the status ${value.status}`);
  }
  const body = inlineText(value.body);
  if (body.length > maxBodyBytes) {
    throw new Unsupported(`the body of a direct response is longer than ${maxBodyBytes} bytes`);
  }
  return { kind: "direct", status: value.status, body };
}

/** Text that stands in the resource itself: files and environments of a waypoint hold nothing of a user's. @throws Unsupported */
export function inlineText(source: DataSource | undefined): string {
  const { case: kind, value } = source?.specifier ?? { case: undefined, value: undefined };
  switch (kind) {
    case undefined:
      return "";
    case "inlineString":
      return value;
    case "inlineBytes":
      return new TextDecoder().decode(value);
    default:
      throw new Unsupported(`DataSource.${kind} is not supported`);
  }
}
