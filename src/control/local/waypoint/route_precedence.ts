/** Which of several matches comes first: the Gateway API's rules for HTTPRoute, in the order of istiod. Envoy then takes the first that fits. */
import type { RouteMatch } from "../kube/objects.ts";

const RANK = { Exact: 0, PathPrefix: 1, RegularExpression: 2 } as const;

/** Negative: `a` before `b`. 0: as they stand in the file. */
export function compareMatches(a: RouteMatch, b: RouteMatch): number {
  return RANK[a.path.type] - RANK[b.path.type] ||
    b.path.value.length - a.path.value.length ||
    Number(b.method !== undefined) - Number(a.method !== undefined) ||
    b.headers.length - a.headers.length ||
    b.queryParams.length - a.queryParams.length;
}
