/** `filters` of rules and of backends. What a filter is comes from its type; the filters of a rule apply together. */
import type { FieldReader, Fields } from "../field_reader.ts";
import type { SourcePath } from "../yaml_source.ts";
import { readCors } from "./cors_filter.ts";
import { readHeaderModifier } from "./header_modifier.ts";
import type { HeaderModifier, ObjectHead, RouteFilters, RouteObject } from "./objects.ts";
import { readRedirect, readRewrite } from "./path_filters.ts";
import { readServiceRef } from "./route_refs.ts";

/** Where the content of a filter of each type stands. */
const FILTER_KEYS: Readonly<Record<string, string>> = {
  RequestHeaderModifier: "requestHeaderModifier",
  ResponseHeaderModifier: "responseHeaderModifier",
  RequestRedirect: "requestRedirect",
  URLRewrite: "urlRewrite",
  RequestMirror: "requestMirror",
  CORS: "cors",
};
const GRPC_TYPES = ["RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror"] as const;
const BACKEND_TYPES = ["RequestHeaderModifier", "ResponseHeaderModifier"] as const;
const TYPES_BY_KIND: Readonly<Record<RouteObject["kind"], readonly string[]>> = {
  HTTPRoute: Object.keys(FILTER_KEYS),
  GRPCRoute: GRPC_TYPES,
};

interface Filter {
  readonly type: string;
  readonly content: Fields;
  /** Of the content. */
  readonly path: SourcePath;
}

type Mirror = RouteFilters["mirrors"][number];

export function readFilters(
  reader: FieldReader,
  rule: Fields,
  path: SourcePath,
  kind: RouteObject["kind"],
  head: ObjectHead,
): RouteFilters {
  const filters = readList(reader, rule, path, TYPES_BY_KIND[kind], `${kind} filters`);
  const only = <T>(type: string, read: (reader: FieldReader, fields: Fields, path: SourcePath) => T): T | undefined => {
    const [first, second] = filters.filter((filter) => filter.type === type);
    if (second !== undefined) reader.fail(second.path, `a rule has at most one filter of the type ${type}`);
    return first === undefined ? undefined : read(reader, first.content, first.path);
  };
  const redirect = only("RequestRedirect", readRedirect);
  const rewrite = only("URLRewrite", readRewrite);
  if (redirect !== undefined && rewrite !== undefined) {
    reader.fail([...path, "filters"], "a rule has either RequestRedirect or URLRewrite, not both");
  }
  return {
    requestHeaders: only("RequestHeaderModifier", readHeaderModifier),
    responseHeaders: only("ResponseHeaderModifier", readHeaderModifier),
    redirect,
    rewrite,
    mirrors: filters.filter(({ type }) => type === "RequestMirror").map((filter) => readMirror(reader, filter, head)),
    cors: only("CORS", readCors),
  };
}

/** A waypoint can change headers for each backend, and nothing else. */
export function readBackendFilters(
  reader: FieldReader,
  backend: Fields,
  path: SourcePath,
): { readonly requestHeaders: HeaderModifier | undefined; readonly responseHeaders: HeaderModifier | undefined } {
  const filters = readList(reader, backend, path, BACKEND_TYPES, "backendRef filters");
  const only = (type: string) => {
    const [first, second] = filters.filter((filter) => filter.type === type);
    if (second !== undefined) reader.fail(second.path, `a backend has at most one filter of the type ${type}`);
    return first === undefined ? undefined : readHeaderModifier(reader, first.content, first.path);
  };
  return { requestHeaders: only("RequestHeaderModifier"), responseHeaders: only("ResponseHeaderModifier") };
}

function readList(
  reader: FieldReader,
  fields: Fields,
  path: SourcePath,
  types: readonly string[],
  what: string,
): readonly Filter[] {
  return reader.list(fields, "filters", path).flatMap(({ fields, path }) => {
    const type = reader.requiredText(fields, "type", path);
    const key = types.includes(type) ? FILTER_KEYS[type] : undefined;
    if (key === undefined) {
      if (type !== "") {
        reader.fail(
          [...path, "type"],
          `${what} of the type ${type} are not supported by ambit local; supported are ${types.join(", ")}`,
        );
      }
      return [];
    }
    reader.onlyKnown(fields, ["type", key], path);
    if (fields[key] === undefined) reader.fail(path, `${key} is missing`);
    const content = fields[key] === undefined ? {} : reader.object(fields[key], [...path, key]);
    return fields[key] === undefined ? [] : [{ type, content, path: [...path, key] }];
  });
}

function readMirror(reader: FieldReader, { content, path }: Filter, head: ObjectHead): Mirror {
  reader.onlyKnown(content, ["backendRef", "percent", "fraction"], path);
  const at = [...path, "backendRef"];
  if (content.backendRef === undefined) reader.fail(path, "backendRef is missing");
  const ref = content.backendRef === undefined ? undefined : reader.object(content.backendRef, at);
  if (content.percent !== undefined && content.fraction !== undefined) {
    reader.fail([...path, "fraction"], "a mirror has either percent or fraction, not both");
  }
  const backend = ref === undefined
    ? { namespace: head.namespace, name: "", port: undefined, path: at }
    : readServiceRef(reader, ref, at, head);
  return { backend, percent: readPercent(reader, content, path) };
}

function readPercent(reader: FieldReader, content: Fields, path: SourcePath): number {
  if (content.fraction === undefined) return reader.integer(content, "percent", path, 0, 100) ?? 100;
  const at = [...path, "fraction"];
  const fraction = reader.object(content.fraction, at);
  reader.onlyKnown(fraction, ["numerator", "denominator"], at);
  const denominator = reader.integer(fraction, "denominator", at, 1, 0x7fff_ffff) ?? 100;
  if (fraction.numerator === undefined) reader.fail(at, "numerator is missing");
  const numerator = reader.integer(fraction, "numerator", at, 0, denominator) ?? 0;
  return (100 * numerator) / denominator;
}
