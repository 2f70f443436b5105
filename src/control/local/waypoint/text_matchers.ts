/** Istio's patterns (`exact`, `prefix*`, `*suffix`, `*` for anything that is there) as Envoy's matchers. */
import type { JsonObject } from "@bufbuild/protobuf";

/** Something, whatever it is. */
export const ANYTHING: JsonObject = { safe_regex: { regex: ".+" } };

export function patternMatch(pattern: string): JsonObject {
  if (pattern === "*") return ANYTHING;
  if (pattern.startsWith("*")) return { suffix: pattern.slice(1) };
  if (pattern.endsWith("*")) return { prefix: pattern.slice(0, -1) };
  return { exact: pattern };
}

export function headerMatch(name: string, pattern: string, ignoreCase = false): JsonObject {
  if (pattern === "*") return { header: { name, present_match: true } };
  const match = patternMatch(pattern);
  return { header: { name, string_match: ignoreCase ? { ...match, ignore_case: true } : match } };
}

export function cidr(block: string): JsonObject {
  const [address = "", length] = block.split("/");
  return {
    address_prefix: address,
    prefix_len: length === undefined ? address.includes(":") ? 128 : 32 : Number(length),
  };
}

/** For RE2. */
export function quoted(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}
