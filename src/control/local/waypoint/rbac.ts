/** AuthorizationPolicies as RBAC filters, in the order in which Istio decides: AUDIT, DENY, ALLOW (waypoint.md 3.2). */
import type { JsonObject } from "@bufbuild/protobuf";
import type { AuthorizationPolicy } from "../kube/objects.ts";
import { NOBODY, rbacPolicy } from "./rbac_rule.ts";
import { extension } from "./xds_resource.ts";

const ACTIONS = [["AUDIT", "LOG"], ["DENY", "DENY"], ["ALLOW", "ALLOW"]] as const;

export function rbacFilters(policies: readonly AuthorizationPolicy[], protocol: "http" | "tcp"): readonly JsonObject[] {
  return ACTIONS.flatMap(([action, envoys]) => {
    const own = policies.filter((policy) => policy.action === action);
    const enforced = own.filter(({ dryRun }) => !dryRun);
    const tried = own.filter(({ dryRun }) => dryRun);
    if (own.length === 0) return [];
    const shadows = tried.length > 0 && action === "DENY" ? "deny" : "allow";
    const fields = {
      ...(enforced.length === 0 ? {} : { rules: { action: envoys, policies: named(enforced, protocol) } }),
      ...(tried.length === 0 ? {} : { shadow_rules: { action: envoys, policies: named(tried, protocol) } }),
      shadow_rules_stat_prefix: `istio_dry_run_${shadows}_`,
    };
    return [
      protocol === "http"
        ? extension("envoy.filters.http.rbac", "envoy.extensions.filters.http.rbac.v3.RBAC", fields)
        : extension("envoy.filters.network.rbac", "envoy.extensions.filters.network.rbac.v3.RBAC", {
          ...fields,
          stat_prefix: "tcp.",
        }),
    ];
  });
}

/** By the names that logs and metrics show. Where nothing can match, that is said: an empty list might be taken for no policy. */
function named(policies: readonly AuthorizationPolicy[], protocol: "http" | "tcp"): JsonObject {
  return Object.fromEntries(policies.flatMap((policy) => {
    const name = (rule: number) => `ns[${policy.namespace}]-policy[${policy.name}]-rule[${rule}]`;
    const rules = policy.rules.flatMap((rule, index): [string, JsonObject][] => {
      const made = rbacPolicy(rule, policy, protocol);
      return made === undefined ? [] : [[name(index), made]];
    });
    return rules.length > 0 ? rules : [[name(0), NOBODY] satisfies [string, JsonObject]];
  }));
}
