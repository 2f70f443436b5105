/** Which of several matches comes first: the Gateway API's rules for HTTPRoute, in the order of istiod. Envoy then takes the first that fits. */
import type { PathMatch, RouteMatch, RouteObject } from "../kube/objects.ts";
import { prefixOf } from "./route_match.ts";

const RANK = { Exact: 0, PathPrefix: 1, RegularExpression: 2 } as const;
const ANY_METHOD = 3;

export interface RankedMatch {
  readonly route: Pick<RouteObject, "kind">;
  readonly match: RouteMatch;
}

/** Negative: `a` before `b`. 0: as they stand in the file. */
export function compareMatches(one: RankedMatch, other: RankedMatch): number {
  const { match: a } = one, { match: b } = other;
  return rankOf(one) - rankOf(other) ||
    lengthOf(b.path) - lengthOf(a.path) ||
    Number(b.method !== undefined) - Number(a.method !== undefined) ||
    b.headers.length - a.headers.length ||
    b.queryParams.length - a.queryParams.length;
}

/** A match of a GRPCRoute that says nothing of the method comes after all that do; of an HTTPRoute it is the prefix of every path. */
function rankOf({ route, match: { path } }: RankedMatch): number {
  const isAnything = path.type === "PathPrefix" && path.value === "/";
  return route.kind === "GRPCRoute" && isAnything ? ANY_METHOD : RANK[path.type];
}

/** `/a/` and `/a` are the same prefix: what else they ask for decides between them. */
function lengthOf({ type, value }: PathMatch): number {
  return type === "PathPrefix" ? prefixOf(value).length : value.length;
}
