/**
 * One rule of an AuthorizationPolicy as a policy of Envoy's RBAC (waypoint.md 3.2). For bytes without requests it is what istiod makes of it: a rule that
 * allows by something of a request allows nothing, one that denies by it denies by the rest alone.
 */
import type { JsonObject } from "@bufbuild/protobuf";
import type { AuthorizationPolicy, PolicyOperation, PolicyRule, PolicySource } from "../kube/objects.ts";
import { type ConditionSpec, conditionSpec } from "./rbac_conditions.ts";
import {
  directIp,
  peerNamespace,
  peerPrincipal,
  peerServiceAccount,
  remoteIp,
  requestPrincipal,
} from "./rbac_principals.ts";
import { headerMatch, patternMatch } from "./text_matchers.ts";
import { packed } from "./xds_resource.ts";

/** A list of values, its opposite, and how one of them is matched. */
type Attribute = readonly [
  values: readonly string[],
  notValues: readonly string[],
  match: (value: string) => JsonObject,
  isHttp?: boolean,
];

/** Undefined: it matches nothing, because nothing of it can be asked of bytes. */
export function rbacPolicy(
  rule: PolicyRule,
  { action, namespace }: AuthorizationPolicy,
  protocol: "http" | "tcp",
): JsonObject | undefined {
  const conditions = rule.when.map((condition) => ({ condition, spec: conditionSpec(condition, namespace) }));
  const ofSide = (side: ConditionSpec["side"]): Attribute[] =>
    conditions.filter(({ spec }) => spec.side === side)
      .map(({ condition, spec }) => [condition.values, condition.notValues, spec.match, spec.isHttp]);
  const when = { permission: ofSide("permission"), principal: ofSide("principal") };
  const operations = rule.to.length === 0 ? [[]] : rule.to.map(operationAttributes);
  const sources = rule.from.length === 0 ? [[]] : rule.from.map((source) => sourceAttributes(source, namespace));
  if (protocol === "tcp" && action === "ALLOW") {
    const isForBytes = (attributes: readonly Attribute[]) => !attributes.some(isAskedOfRequest);
    if (!isForBytes(when.principal)) return undefined;
    const possible = { operations: operations.filter(isForBytes), sources: sources.filter(isForBytes) };
    if (possible.operations.length < operations.length || possible.sources.length < sources.length) return undefined;
  }
  const keep = (attributes: readonly Attribute[]) =>
    protocol === "http" ? attributes : attributes.filter((attribute) => !isAskedOfRequest(attribute));
  return {
    permissions: operations.map((attributes) => allOf("rule", keep([...attributes, ...when.permission]))),
    principals: sources.map((attributes) => allOf("id", keep([...attributes, ...when.principal]))),
  };
}

/** What a policy without rules allows. */
export const NOBODY: JsonObject = {
  permissions: [{ not_rule: { any: true } }],
  principals: [{ not_id: { any: true } }],
};

function isAskedOfRequest([values, notValues, , isHttp]: Attribute): boolean {
  return isHttp === true && values.length + notValues.length > 0;
}

function sourceAttributes(source: PolicySource, namespace: string): Attribute[] {
  const account = (value: string) => peerServiceAccount(value, namespace);
  return [
    [source.principals, source.notPrincipals, peerPrincipal],
    [source.requestPrincipals, source.notRequestPrincipals, requestPrincipal, true],
    [source.namespaces, source.notNamespaces, peerNamespace],
    [source.serviceAccounts, source.notServiceAccounts, account],
    [source.ipBlocks, source.notIpBlocks, directIp],
    [source.remoteIpBlocks, source.notRemoteIpBlocks, remoteIp],
  ];
}

function operationAttributes(operation: PolicyOperation): Attribute[] {
  return [
    [operation.hosts, operation.notHosts, (value) => headerMatch(":authority", value, true), true],
    [operation.methods, operation.notMethods, (value) => headerMatch(":method", value), true],
    [operation.paths, operation.notPaths, pathMatch, true],
    [operation.ports, operation.notPorts, (value) => ({ destination_port: Number(value) })],
  ];
}

function pathMatch(path: string): JsonObject {
  if (!path.includes("{*}") && !path.includes("{**}")) return { url_path: { path: patternMatch(path) } };
  const template = path.replaceAll("{**}", "**").replaceAll("{*}", "*");
  const type = "envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig";
  return { uri_template: { name: "uri-template", typed_config: packed(type, { path_template: template }) } };
}

function allOf(kind: "rule" | "id", attributes: readonly Attribute[]): JsonObject {
  const plural = `${kind}s`;
  const parts = attributes.flatMap(([values, notValues, match]): JsonObject[] => [
    ...(values.length === 0 ? [] : [{ [`or_${plural}`]: { [plural]: values.map(match) } }]),
    ...(notValues.length === 0 ? [] : [{ [`not_${kind}`]: { [`or_${plural}`]: { [plural]: notValues.map(match) } } }]),
  ]);
  return { [`and_${plural}`]: { [plural]: parts.length === 0 ? [{ any: true }] : parts } };
}
