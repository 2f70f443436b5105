/**
 * AuthorizationPolicies that ztunnels enforce, in the vocabulary of the mesh file, as istiod translates them (reference ztunnel.md
 * 6.6). istiod leaves out what only a waypoint can see, which forbids more than was asked for; here it is refused.
 */
import type { FieldReader, Fields } from "../field_reader.ts";
import type { SourcePath } from "../yaml_source.ts";
import type { AuthorizationPolicy, PolicyCondition, PolicyRule } from "./objects.ts";

/** An entry for the mesh document's `policies`, and where it stands as an object. */
export interface ZtunnelPolicy {
  readonly fields: Fields;
  readonly path: SourcePath;
}

/** A policy here without selector is for the whole mesh; Istio's default. */
export const ROOT_NAMESPACE = "istio-system";

const ACTIONS = { ALLOW: "Allow", DENY: "Deny" } as const;
const HINT = "needs a waypoint, for a ztunnel sees connections and no requests; attach the policy with targetRefs";

/** Policies with a selector, or for a namespace or the mesh. */
export function ztunnelPolicies(
  reader: FieldReader,
  policies: readonly AuthorizationPolicy[],
): readonly ZtunnelPolicy[] {
  return policies.flatMap((policy) => {
    const scope = readScope(reader, policy);
    if (scope === undefined) return [];
    const { name, namespace, action, dryRun, path } = policy;
    if (action === "AUDIT") {
      reader.fail([...path, "spec", "action"], `the action AUDIT ${HINT}`);
      return [];
    }
    const rules = policy.rules.map((rule) => toRule(reader, rule, namespace));
    return [{ fields: { name, namespace, ...scope, action: ACTIONS[action], dryRun, rules }, path }];
  });
}

/** Undefined for a policy that is not a ztunnel's. */
function readScope(reader: FieldReader, { target, namespace, path }: AuthorizationPolicy): Fields | undefined {
  switch (target.kind) {
    case "refs":
      return undefined;
    case "namespace":
      return { scope: namespace === ROOT_NAMESPACE ? "Global" : "Namespace" };
    case "selector":
      if (namespace !== ROOT_NAMESPACE) return { selector: target.matchLabels };
      return reader.fail(
        [...path, "spec", "selector"],
        `a selector in ${ROOT_NAMESPACE} means pods of every namespace, which is not supported by ambit local; ` +
          "write the policy in the namespace of the pods",
      );
  }
}

type Translate = (values: readonly string[], namespace: string) => readonly unknown[];

/** A field of a match, and how its values are written there. */
interface Target {
  readonly field: string;
  readonly translate: Translate;
}

const PRINCIPALS: Target = { field: "principals", translate: (values) => values.map(toStringMatch) };
const NAMESPACES: Target = { field: "namespaces", translate: (values) => values.map(toStringMatch) };
const SOURCE_IPS: Target = { field: "sourceIps", translate: (values) => values };
const DESTINATION_IPS: Target = { field: "destinationIps", translate: (values) => values };
const PORTS: Target = { field: "destinationPorts", translate: (values) => values.map(Number) };
const SERVICE_ACCOUNTS: Target = { field: "serviceAccounts", translate: toServiceAccounts };

/** Of a source or an operation; each has its opposite, `notPrincipals` and so on. What is not here needs requests. */
const PART_KEYS: ReadonlyMap<string, Target> = new Map([
  ["principals", PRINCIPALS],
  ["namespaces", NAMESPACES],
  ["serviceAccounts", SERVICE_ACCOUNTS],
  ["ipBlocks", SOURCE_IPS],
  ["ports", PORTS],
]);
const CONDITION_KEYS: ReadonlyMap<string, Target> = new Map([
  ["source.principal", PRINCIPALS],
  ["source.namespace", NAMESPACES],
  ["source.serviceAccount", SERVICE_ACCOUNTS],
  ["source.ip", SOURCE_IPS],
  ["destination.ip", DESTINATION_IPS],
  ["destination.port", PORTS],
]);

/** Clauses that must all hold: what, who, and each condition. */
function toRule(reader: FieldReader, rule: PolicyRule, namespace: string): readonly (readonly Fields[])[] {
  const part = ({ path, ...lists }: { readonly path: SourcePath }) => toMatch(reader, lists, path, namespace);
  const when = rule.when.map((condition) => [toConditionMatch(reader, condition, namespace)]);
  return [rule.to.map(part), rule.from.map(part), ...when].filter((clause) => clause.length > 0);
}

/** A source or an operation: all of its lists must hold. */
function toMatch(reader: FieldReader, lists: object, path: SourcePath, namespace: string): Fields {
  const match: Record<string, unknown> = {};
  for (const [key, values] of Object.entries(lists) as [string, readonly string[]][]) {
    if (values.length === 0) continue;
    const isNot = /^not[A-Z]/.test(key);
    const target = PART_KEYS.get(isNot ? `${key[3]!.toLowerCase()}${key.slice(4)}` : key);
    if (target === undefined) reader.fail([...path, key], `${key} ${HINT}`);
    else match[fieldOf(target, isNot)] = target.translate(values, namespace);
  }
  return match;
}

function toConditionMatch(reader: FieldReader, condition: PolicyCondition, namespace: string): Fields {
  const { key, values, notValues, path } = condition;
  const target = CONDITION_KEYS.get(key);
  if (target === undefined) {
    if (key !== "") reader.fail([...path, "key"], `the condition ${key} ${HINT}`);
    return {};
  }
  return {
    ...(values.length > 0 ? { [target.field]: target.translate(values, namespace) } : {}),
    ...(notValues.length > 0 ? { [fieldOf(target, true)]: target.translate(notValues, namespace) } : {}),
  };
}

function fieldOf({ field }: Target, isNot: boolean): string {
  return isNot ? `not${field[0]!.toUpperCase()}${field.slice(1)}` : field;
}

function toStringMatch(value: string): Fields {
  if (value === "*") return { Presence: [] };
  if (value.startsWith("*")) return { Suffix: value.slice(1) };
  return value.endsWith("*") ? { Prefix: value.slice(0, -1) } : { Exact: value };
}

/** `NAMESPACE/NAME`, or `NAME` in the policy's own namespace. */
function toServiceAccounts(values: readonly string[], namespace: string): readonly Fields[] {
  return values.map((value) => {
    const slash = value.indexOf("/");
    return slash < 0
      ? { namespace, serviceAccount: value }
      : { namespace: value.slice(0, slash), serviceAccount: value.slice(slash + 1) };
  });
}
