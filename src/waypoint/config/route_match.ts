/** Which requests a route is for. */
import { type RouteMatch, RouteMatchSchema } from "../../gen/envoy/config/route/v3/route_components_pb.ts";
import { UriTemplateMatchConfigSchema } from "../../gen/envoy/extensions/path/match/uri_template/v3/uri_template_match_pb.ts";
import type { PathMatch, RouteSpec } from "../spec/mod.ts";
import { expectUnderstood, understand, unpack, Unsupported } from "./guard.ts";
import { headerMatch, metadataMatch, perMillion, queryMatch, regex } from "./matchers.ts";

const MATCH = understand(
  RouteMatchSchema,
  "prefix path safe_regex path_separated_prefix path_match_policy case_sensitive runtime_fraction headers query_parameters grpc dynamic_metadata",
);
const TEMPLATE = understand(UriTemplateMatchConfigSchema, "path_template");

export type RequestMatchSpec = Pick<RouteSpec, "path" | "headers" | "query" | "metadata" | "grpcOnly" | "fraction">;

/** @throws Unsupported */
export function routeMatch(match: RouteMatch | undefined): RequestMatchSpec {
  if (match === undefined) throw new Unsupported("a route has no match");
  expectUnderstood(MATCH, match);
  return {
    path: pathMatch(match),
    headers: match.headers.map(headerMatch),
    query: match.queryParameters.map(queryMatch),
    metadata: match.dynamicMetadata.map(metadataMatch),
    grpcOnly: match.grpc !== undefined,
    fraction: perMillion(match.runtimeFraction?.defaultValue, 1_000_000),
  };
}

/** @throws Unsupported */
export function pathMatch({ pathSpecifier: specifier, caseSensitive }: RouteMatch): PathMatch {
  const ignoreCase = caseSensitive === false;
  switch (specifier.case) {
    case "prefix":
      return { kind: "prefix", path: specifier.value, ignoreCase };
    case "path":
      return { kind: "exact", path: specifier.value, ignoreCase };
    case "pathSeparatedPrefix":
      return { kind: "separated", path: specifier.value, ignoreCase };
    case "safeRegex":
      return { kind: "regex", pattern: regex(specifier.value) };
    case "pathMatchPolicy":
      return { kind: "template", template: unpack(specifier.value.typedConfig, TEMPLATE).pathTemplate };
    default:
      throw new Unsupported(`a route matches by ${specifier.case ?? "nothing"}, which is not supported`);
  }
}
