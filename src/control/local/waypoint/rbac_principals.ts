/** Who asks, as principals of Envoy's RBAC (waypoint.md 3.2). */
import type { JsonObject } from "@bufbuild/protobuf";
import { PEER_PRINCIPAL } from "./names.ts";
import { ANYTHING, cidr, patternMatch, quoted } from "./text_matchers.ts";

const SPIFFE = "spiffe://";

/** `TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT`, or a pattern of that. */
export function peerPrincipal(pattern: string): JsonObject {
  if (pattern === "*") return peer(ANYTHING);
  if (pattern.startsWith("*")) return peerRegex(`${SPIFFE}.*${quoted(pattern.slice(1))}`);
  if (pattern.endsWith("*")) return peer({ prefix: SPIFFE + pattern.slice(0, -1) });
  return peer({ exact: SPIFFE + pattern });
}

export function peerNamespace(pattern: string): JsonObject {
  return peerRegex(`.*/ns/${pattern.split("*").map(quoted).join(".*")}/.*`);
}

/** `NAME` in the policy's namespace, or `NAMESPACE/NAME`. */
export function peerServiceAccount(account: string, policyNamespace: string): JsonObject {
  const [namespace, name] = account.includes("/") ? account.split("/") as [string, string] : [policyNamespace, account];
  return peerRegex(`${SPIFFE}.+/ns/${quoted(namespace)}/(.+/|)sa/${quoted(name)}(/.+)?`);
}

export function directIp(block: string): JsonObject {
  return { direct_remote_ip: cidr(block) };
}

export function remoteIp(block: string): JsonObject {
  return { remote_ip: cidr(block) };
}

/** `ISSUER/SUBJECT` of a token, or a pattern of that; an issuer may hold slashes. Without a slash only a pattern is of any subject, as in Istio. */
export function requestPrincipal(pattern: string): JsonObject {
  const slash = pattern.lastIndexOf("/");
  const [issuer, subject] = slash >= 0
    ? [pattern.slice(0, slash), pattern.slice(slash + 1)]
    : pattern.startsWith("*")
    ? ["*", pattern]
    : [pattern, pattern.endsWith("*") ? "*" : ""];
  return { and_ids: { ids: [claim(["iss"], patternMatch(issuer)), claim(["sub"], patternMatch(subject))] } };
}

/** A claim that is this text, or a list that holds it. */
export function claimValue(path: readonly string[], pattern: string): JsonObject {
  const match = { string_match: patternMatch(pattern) };
  return metadata(path, { or_match: { value_matchers: [{ list_match: { one_of: match } }, match] } });
}

function claim(path: readonly string[], match: JsonObject): JsonObject {
  return metadata(path, { string_match: match });
}

function metadata(path: readonly string[], value: JsonObject): JsonObject {
  const keys = ["payload", ...path].map((key) => ({ key }));
  return { metadata: { filter: "envoy.filters.http.jwt_authn", path: keys, value } };
}

function peerRegex(regex: string): JsonObject {
  return peer({ safe_regex: { regex } });
}

function peer(match: JsonObject): JsonObject {
  return { filter_state: { key: PEER_PRINCIPAL, string_match: match } };
}
