/** What a route matches, as Envoy has it (waypoint.md 4.1). */
import type { JsonObject } from "@bufbuild/protobuf";
import type { NamedMatch, PathMatch, RouteMatch } from "../kube/objects.ts";

export function routeMatch({ path, method, headers, queryParams }: RouteMatch): JsonObject {
  const named = [
    ...byName(headers).map(({ name, ...match }) => ({ name: name.toLowerCase(), string_match: stringMatch(match) })),
    ...(method === undefined ? [] : [{ name: ":method", string_match: { exact: method } }]),
  ];
  const parameters = byName(queryParams).map(({ name, ...match }) => ({ name, string_match: stringMatch(match) }));
  return {
    ...pathMatch(path),
    case_sensitive: true,
    ...(named.length === 0 ? {} : { headers: named }),
    ...(parameters.length === 0 ? {} : { query_parameters: parameters }),
  };
}

function pathMatch({ type, value }: PathMatch): JsonObject {
  switch (type) {
    case "Exact":
      return { path: value };
    case "RegularExpression":
      return { safe_regex: { regex: value } };
    case "PathPrefix":
      return value === "/" ? { prefix: "/" } : { path_separated_prefix: prefixOf(value) };
  }
}

/** Whole path elements: a slash at the end says nothing. */
export function prefixOf(value: string): string {
  return value.replace(/\/+$/, "");
}

/** As istiod has them; all must match. */
function byName(matches: readonly NamedMatch[]): readonly NamedMatch[] {
  return [...matches].sort((a, b) => a.name < b.name ? -1 : 1);
}

function stringMatch({ type, value }: Pick<NamedMatch, "type" | "value">): JsonObject {
  return type === "Exact" ? { exact: value } : { safe_regex: { regex: value } };
}
