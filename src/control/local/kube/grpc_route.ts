/**
 * GRPCRoutes whose parents are Services. A method is matched as the path it is called by (`/SERVICE/METHOD`), in the form that
 * istiod gives it.
 */
import type { FieldReader, Fields } from "../field_reader.ts";
import type { SourcePath } from "../yaml_source.ts";
import { ANY_PATH, MAX_PATH, readHeaders } from "./http_matches.ts";
import type { PathMatch, RouteMatch, RouteObject } from "./objects.ts";
import { readRoute } from "./route.ts";
import { checkRegex } from "./values.ts";

const SERVICE = /^\.?[a-z_][a-z_0-9]*(\.[a-z_][a-z_0-9]*)*$/i;
const METHOD = /^[a-z_][a-z_0-9]*$/i;

export function readGrpcRoute(reader: FieldReader, fields: Fields, path: SourcePath): RouteObject {
  return readRoute(reader, fields, path, {
    kind: "GRPCRoute",
    ruleKeys: [],
    match: readMatch,
    anything: (where): RouteMatch => ({ path: ANY_PATH, method: undefined, headers: [], queryParams: [], where }),
    finish: (_reader, _fields, rule) => rule,
  });
}

function readMatch(reader: FieldReader, fields: Fields, path: SourcePath): RouteMatch {
  reader.onlyKnown(fields, ["method", "headers"], path);
  return {
    path: readMethod(reader, fields, path),
    method: undefined,
    headers: readHeaders(reader, fields, path),
    queryParams: [],
    where: path,
  };
}

function readMethod(reader: FieldReader, match: Fields, path: SourcePath): PathMatch {
  if (match.method === undefined) return ANY_PATH;
  const at = [...path, "method"];
  const fields = reader.object(match.method, at);
  reader.onlyKnown(fields, ["type", "service", "method"], at);
  const isRegex = reader.choice(fields, "type", at, ["Exact", "RegularExpression"]) === "RegularExpression";
  const service = readName(reader, fields, "service", at, isRegex, SERVICE);
  const method = readName(reader, fields, "method", at, isRegex, METHOD);
  if (fields.service === undefined && fields.method === undefined) {
    reader.fail(at, "a method match needs service or method or both");
  }
  if (service === undefined && method === undefined) return ANY_PATH;
  if (isRegex) {
    const expression = `/${service === undefined ? "[^/]+" : grouped(service)}/${
      method === undefined ? ".+" : grouped(method)
    }`;
    checkRegex(reader, expression, at);
    return { type: "RegularExpression", value: expression };
  }
  if (service === undefined) return { type: "RegularExpression", value: `/[^/]+/${method}` };
  return method === undefined
    ? { type: "PathPrefix", value: `/${service}/` }
    : { type: "Exact", value: `/${service}/${method}` };
}

function readName(
  reader: FieldReader,
  fields: Fields,
  key: string,
  path: SourcePath,
  isRegex: boolean,
  form: RegExp,
): string | undefined {
  const name = reader.text(fields, key, path);
  if (name === undefined) return undefined;
  const at = [...path, key];
  if (name.length > MAX_PATH) return reader.fail(at, `${key} is longer than ${MAX_PATH} characters`);
  if (isRegex) return checkRegex(reader, name, at) ? name : undefined;
  return form.test(name) ? name : reader.fail(at, `${JSON.stringify(name)} is no name of a gRPC ${key}`);
}

/** Alternatives would otherwise reach over the slash. */
function grouped(expression: string): string {
  return expression.includes("|") ? `(?:${expression})` : expression;
}
