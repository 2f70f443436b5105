/**
 * Envoy's RBAC to `spec/policy.ts`. Everything must be understood: a condition that is left out of an ALLOW rule widens it, one that is left out of
 * a DENY rule narrows it.
 */
import type { Any } from "@bufbuild/protobuf/wkt";
import {
  type Permission,
  PermissionSchema,
  type Policy,
  PolicySchema,
  type Principal,
  PrincipalSchema,
  type RBAC as Rules,
  RBAC_Action as Action,
  RBACSchema as RulesSchema,
} from "../../gen/envoy/config/rbac/v3/rbac_pb.ts";
import { RBACSchema as HttpRbacSchema } from "../../gen/envoy/extensions/filters/http/rbac/v3/rbac_pb.ts";
import {
  RBAC_EnforcementType as Enforcement,
  RBACSchema as NetworkRbacSchema,
} from "../../gen/envoy/extensions/filters/network/rbac/v3/rbac_pb.ts";
import { UriTemplateMatchConfigSchema } from "../../gen/envoy/extensions/path/match/uri_template/v3/uri_template_match_pb.ts";
import { FilterStateMatcherSchema } from "../../gen/envoy/type/matcher/v3/filter_state_pb.ts";
import type { PathMatcher } from "../../gen/envoy/type/matcher/v3/path_pb.ts";
import type { NetworkRbacSpec, RbacRulesSpec, RbacSpec, RuleSpec } from "../spec/mod.ts";
import { expectKnown, expectUnderstood, understand, unpack, Unsupported, within } from "./guard.ts";
import { cidr, headerMatch, metadataMatch, textMatch } from "./matchers.ts";

const HTTP = understand(
  HttpRbacSchema,
  "rules shadow_rules shadow_rules_stat_prefix",
  "rules_stat_prefix track_per_rule_stats",
);

/** @throws Unsupported */
export function httpRbac(any: Any): RbacSpec {
  const { rules, shadowRules, shadowRulesStatPrefix } = unpack(any, HTTP);
  return { rules: rbacRules(rules), shadow: rbacRules(shadowRules), shadowPrefix: shadowRulesStatPrefix };
}

const NETWORK = understand(
  NetworkRbacSchema,
  "rules shadow_rules shadow_rules_stat_prefix stat_prefix enforcement_type",
);

/** @throws Unsupported */
export function networkRbac(any: Any): NetworkRbacSpec {
  const rbac = unpack(any, NETWORK);
  if (rbac.enforcementType !== Enforcement.ONE_TIME_ON_FIRST_BYTE) {
    throw new Unsupported("RBAC.enforcement_type CONTINUOUS is not supported");
  }
  return {
    rules: rbacRules(rbac.rules),
    shadow: rbacRules(rbac.shadowRules),
    shadowPrefix: rbac.shadowRulesStatPrefix,
    statPrefix: rbac.statPrefix,
  };
}

const RULES = understand(RulesSchema, "action policies");
const ACTIONS: Readonly<Record<Action, RbacRulesSpec["action"]>> = {
  [Action.ALLOW]: "allow",
  [Action.DENY]: "deny",
  [Action.LOG]: "log",
};

function rbacRules(rules: Rules | undefined): RbacRulesSpec | undefined {
  if (rules === undefined) return undefined;
  expectUnderstood(RULES, rules);
  const action = ACTIONS[rules.action];
  if (action === undefined) throw new Unsupported(`the RBAC action ${rules.action} is not known`);
  const names = Object.keys(rules.policies).sort();
  return { action, policies: names.map((name) => within(`policy ${name}`, () => policy(name, rules.policies[name]))) };
}

const POLICY = understand(PolicySchema, "permissions principals");

function policy(name: string, message: Policy): RbacRulesSpec["policies"][number] {
  expectUnderstood(POLICY, message);
  return {
    name,
    principals: anyOf(message.principals.map(principal)),
    permissions: anyOf(message.permissions.map(permission)),
  };
}

function anyOf(of: readonly RuleSpec[]): RuleSpec {
  return of.length === 0 ? { kind: "never" } : of.length === 1 ? of[0] : { kind: "or", of };
}

function allOf(of: readonly RuleSpec[]): RuleSpec {
  // Envoy refuses an empty set.
  if (of.length === 0) throw new Unsupported("a set of conditions is empty");
  return of.length === 1 ? of[0] : { kind: "and", of };
}

const PRINCIPAL = understand(
  PrincipalSchema,
  "and_ids or_ids any authenticated source_ip direct_remote_ip remote_ip header url_path metadata filter_state not_id",
);
const FILTER_STATE = understand(FilterStateMatcherSchema, "key string_match");
/** Where Envoy's waypoint keeps the client's identity. */
const PEER_PRINCIPAL = "io.istio.peer_principal";

function principal(message: Principal): RuleSpec {
  expectUnderstood(PRINCIPAL, message);
  const { identifier } = message;
  switch (identifier.case) {
    case "any":
      return isTrue(identifier.value, "Principal.any");
    case "andIds":
      return allOf(identifier.value.ids.map(principal));
    case "orIds":
      return anyOf(identifier.value.ids.map(principal));
    case "notId":
      return { kind: "not", of: principal(identifier.value) };
    case "authenticated":
      expectKnown(identifier.value);
      return identifier.value.principalName === undefined
        ? { kind: "authenticated" }
        : { kind: "principal", match: textMatch(identifier.value.principalName) };
    case "filterState": {
      expectUnderstood(FILTER_STATE, identifier.value);
      const { key, matcher } = identifier.value;
      if (key !== PEER_PRINCIPAL || matcher.case !== "stringMatch") {
        throw new Unsupported(`the filter state ${key} is not supported`);
      }
      return { kind: "principal", match: textMatch(matcher.value) };
    }
    case "sourceIp":
    case "directRemoteIp":
      return { kind: "source ip", cidr: cidr(identifier.value) };
    case "remoteIp":
      return { kind: "remote ip", cidr: cidr(identifier.value) };
    case "header":
      return { kind: "header", match: headerMatch(identifier.value) };
    case "urlPath":
      return urlPath(identifier.value);
    case "metadata":
      return { kind: "metadata", match: metadataMatch(identifier.value) };
    default:
      throw new Unsupported("a principal has no condition");
  }
}

const PERMISSION = understand(
  PermissionSchema,
  "and_rules or_rules any header url_path destination_ip destination_port destination_port_range metadata not_rule requested_server_name uri_template",
);
const TEMPLATE = understand(UriTemplateMatchConfigSchema, "path_template");
/** A range that istiod never sends stays short of listing every port. */
const MAX_PORT_RANGE = 256;

function permission(message: Permission): RuleSpec {
  expectUnderstood(PERMISSION, message);
  const { rule } = message;
  switch (rule.case) {
    case "any":
      return isTrue(rule.value, "Permission.any");
    case "andRules":
      return allOf(rule.value.rules.map(permission));
    case "orRules":
      return anyOf(rule.value.rules.map(permission));
    case "notRule":
      return { kind: "not", of: permission(rule.value) };
    case "header":
      return { kind: "header", match: headerMatch(rule.value) };
    case "urlPath":
      return urlPath(rule.value);
    case "uriTemplate":
      return {
        kind: "path",
        match: { kind: "template", template: unpack(rule.value.typedConfig, TEMPLATE).pathTemplate },
      };
    case "destinationIp":
      return { kind: "destination ip", cidr: cidr(rule.value) };
    case "destinationPort":
      return { kind: "destination port", port: rule.value };
    case "destinationPortRange":
      return portRange(rule.value.start, rule.value.end);
    case "metadata":
      return { kind: "metadata", match: metadataMatch(rule.value) };
    case "requestedServerName":
      return { kind: "sni", match: textMatch(rule.value) };
    default:
      throw new Unsupported("a permission has no condition");
  }
}

/** From `start` to below `end`. */
function portRange(start: number, end: number): RuleSpec {
  if (end - start > MAX_PORT_RANGE) {
    throw new Unsupported(`a range of more than ${MAX_PORT_RANGE} ports is not supported`);
  }
  return anyOf(
    Array.from({ length: Math.max(0, end - start) }, (_, i) => ({ kind: "destination port", port: start + i })),
  );
}

function urlPath(matcher: PathMatcher): RuleSpec {
  expectKnown(matcher);
  if (matcher.rule.case !== "path") throw new Unsupported("a path matcher has no condition");
  return { kind: "path", match: { kind: "text", match: textMatch(matcher.rule.value) } };
}

function isTrue(value: boolean, what: string): RuleSpec {
  if (!value) throw new Unsupported(`${what} is false`);
  return { kind: "any" };
}
