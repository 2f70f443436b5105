/** What HTTPRoutes and GRPCRoutes have in common: parents, and rules of matches, filters and weighted backends. */
import type { FieldReader, Fields } from "../field_reader.ts";
import type { SourcePath } from "../yaml_source.ts";
import { readHead, readObjectName, readSpec } from "./head.ts";
import type { Backend, ObjectHead, RouteMatch, RouteObject, RouteRule } from "./objects.ts";
import { readBackendFilters, readFilters } from "./route_filters.ts";
import { readParents, readServiceRef } from "./route_refs.ts";

export interface RouteKind {
  readonly kind: RouteObject["kind"];
  /** Of a rule, besides those that both kinds have. */
  readonly ruleKeys: readonly string[];
  match(reader: FieldReader, fields: Fields, path: SourcePath): RouteMatch;
  /** Stands for no matches at all. */
  anything(where: SourcePath): RouteMatch;
  /** Reads `ruleKeys` into the rule, and checks the rule as a whole. */
  finish(reader: FieldReader, fields: Fields, rule: RouteRule, head: ObjectHead): RouteRule;
}

const SPEC_KEYS = ["parentRefs", "rules"] as const;
const RULE_KEYS = ["name", "matches", "filters", "backendRefs"] as const;
const MAX_WEIGHT = 1_000_000;

export function readRoute(reader: FieldReader, fields: Fields, path: SourcePath, kind: RouteKind): RouteObject {
  const head = readHead(reader, fields, path);
  const at = [...path, "spec"];
  const spec = readSpec(reader, fields, path, SPEC_KEYS, {
    hostnames: "hostnames do not count for a route whose parent is a Service; leave them out",
  });
  if (fields.spec === undefined) return { ...head, kind: kind.kind, parents: [], rules: [] };
  const parents = readParents(reader, spec, at, head);
  const rules = reader.list(spec, "rules", at);
  if (rules.length === 0) reader.fail([...at, "rules"], "a route needs at least one rule");
  const names = new Set<string>();
  return {
    ...head,
    kind: kind.kind,
    parents,
    rules: rules.map(({ fields, path }) => {
      const rule = readRule(reader, fields, path, kind, head);
      if (rule.name !== undefined && names.has(rule.name)) {
        reader.fail([...path, "name"], `the rule ${rule.name} is there twice`);
      }
      if (rule.name !== undefined) names.add(rule.name);
      return rule;
    }),
  };
}

function readRule(reader: FieldReader, fields: Fields, path: SourcePath, kind: RouteKind, head: ObjectHead): RouteRule {
  reader.onlyKnown(fields, [...RULE_KEYS, ...kind.ruleKeys], path, {
    sessionPersistence: "sessionPersistence is not supported by a waypoint",
  });
  const matches = reader.list(fields, "matches", path)
    .map(({ fields, path }) => kind.match(reader, fields, path));
  const rule: RouteRule = {
    name: readRuleName(reader, fields, path),
    matches: matches.length === 0 ? [kind.anything(path)] : matches,
    filters: readFilters(reader, fields, path, kind.kind, head),
    backends: reader.list(fields, "backendRefs", path)
      .map(({ fields, path }) => readBackend(reader, fields, path, head)),
    requestTimeoutMs: undefined,
    backendRequestTimeoutMs: undefined,
    retry: undefined,
    path,
  };
  return kind.finish(reader, fields, rule, head);
}

function readRuleName(reader: FieldReader, fields: Fields, path: SourcePath): string | undefined {
  return fields.name === undefined ? undefined : readObjectName(reader, fields, "name", path);
}

function readBackend(reader: FieldReader, fields: Fields, path: SourcePath, head: ObjectHead): Backend {
  return {
    ref: readServiceRef(reader, fields, path, head, ["weight", "filters"]),
    weight: reader.integer(fields, "weight", path, 0, MAX_WEIGHT) ?? 1,
    ...readBackendFilters(reader, fields, path),
  };
}
