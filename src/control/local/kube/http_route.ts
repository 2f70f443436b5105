/** HTTPRoutes whose parents are Services. */
import { type FieldReader, type Fields, kindOf } from "../field_reader.ts";
import type { SourcePath } from "../yaml_source.ts";
import { ANY_PATH, readHttpMatch } from "./http_matches.ts";
import type { ObjectHead, RouteMatch, RouteObject, RouteRetry, RouteRule } from "./objects.ts";
import { readRoute } from "./route.ts";
import { readDuration } from "./values.ts";

const RULE_KEYS = ["timeouts", "retry"] as const;

export function readHttpRoute(reader: FieldReader, fields: Fields, path: SourcePath): RouteObject {
  return readRoute(reader, fields, path, {
    kind: "HTTPRoute",
    ruleKeys: RULE_KEYS,
    match: readHttpMatch,
    anything: (where): RouteMatch => ({ path: ANY_PATH, method: undefined, headers: [], queryParams: [], where }),
    finish: finishRule,
  });
}

function finishRule(reader: FieldReader, fields: Fields, rule: RouteRule, _head: ObjectHead): RouteRule {
  const { path, filters, backends, matches } = rule;
  if (filters.redirect !== undefined && backends.length > 0) {
    reader.fail([...path, "backendRefs"], "a rule that redirects has no backendRefs; leave one of the two out");
  }
  const prefix = [filters.redirect?.path, filters.rewrite?.path].some((path) => path?.type === "ReplacePrefixMatch");
  if (prefix && (matches.length !== 1 || matches[0]!.path.type !== "PathPrefix")) {
    reader.fail(
      [...path, "filters"],
      "ReplacePrefixMatch needs to know the prefix: the rule must have exactly one match, of the type PathPrefix",
    );
  }
  return { ...rule, ...readTimeouts(reader, fields, path), retry: readRetry(reader, fields, path) };
}

function readTimeouts(
  reader: FieldReader,
  rule: Fields,
  path: SourcePath,
): Pick<RouteRule, "requestTimeoutMs" | "backendRequestTimeoutMs"> {
  const at = [...path, "timeouts"];
  const timeouts = rule.timeouts === undefined ? {} : reader.object(rule.timeouts, at);
  reader.onlyKnown(timeouts, ["request", "backendRequest"], at);
  const requestTimeoutMs = readDuration(reader, timeouts, "request", at);
  const backendRequestTimeoutMs = readDuration(reader, timeouts, "backendRequest", at);
  if (requestTimeoutMs && backendRequestTimeoutMs && backendRequestTimeoutMs > requestTimeoutMs) {
    reader.fail(
      [...at, "backendRequest"],
      "backendRequest cannot be longer than request, which holds for all tries together",
    );
  }
  return { requestTimeoutMs, backendRequestTimeoutMs };
}

function readRetry(reader: FieldReader, rule: Fields, path: SourcePath): RouteRetry | undefined {
  if (rule.retry === undefined) return undefined;
  const at = [...path, "retry"];
  const retry = reader.object(rule.retry, at);
  reader.onlyKnown(retry, ["codes", "attempts", "backoff"], at);
  const backoffMs = readDuration(reader, retry, "backoff", at);
  if (backoffMs === 0) reader.fail([...at, "backoff"], "backoff must be longer than 0s");
  return {
    codes: readCodes(reader, retry, at),
    attempts: reader.integer(retry, "attempts", at, 0, 0x7fff_ffff),
    backoffMs,
  };
}

function readCodes(reader: FieldReader, retry: Fields, path: SourcePath): readonly number[] {
  const at = [...path, "codes"];
  const { codes = [] } = retry;
  if (!Array.isArray(codes)) {
    reader.fail(at, "codes must be a list of status codes");
    return [];
  }
  return codes.filter((code: unknown, index): code is number => {
    const isCode = typeof code === "number" && Number.isInteger(code) && code >= 400 && code <= 599;
    if (!isCode) {
      reader.fail([...at, index], `a status code to try again is a number from 400 to 599, not ${kindOf(code)}`);
    }
    return isCode;
  });
}
