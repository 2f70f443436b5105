/** `matches` of an HTTPRoute, and what those of a GRPCRoute have in common with them. */
import type { FieldReader, Fields } from "../field_reader.ts";
import type { SourcePath } from "../yaml_source.ts";
import type { NamedMatch, PathMatch, RouteMatch } from "./objects.ts";
import { checkRegex, readHeaderName } from "./values.ts";

const METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"] as const;
/** What the Gateway API takes for a path that is compared as text. */
const PATH_CHARACTERS = /^(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})+$/;
/** A path with one of these is normalized on its way, and would never match. */
const NOT_NORMAL = /\/\/|\/\.\.?(?:\/|$)|%2f/i;
/** The Gateway API's limit for paths and query parameters, and for headers. */
export const MAX_PATH = 1024;
const MAX_HEADER = 4096;

export const ANY_PATH: PathMatch = { type: "PathPrefix", value: "/" };

export function readHttpMatch(reader: FieldReader, fields: Fields, path: SourcePath): RouteMatch {
  reader.onlyKnown(fields, ["path", "headers", "queryParams", "method"], path);
  return {
    path: readPath(reader, fields, path),
    method: reader.choice(fields, "method", path, METHODS),
    headers: readHeaders(reader, fields, path),
    queryParams: readNamed(reader, fields, "queryParams", path, MAX_PATH, (name) => name),
    where: path,
  };
}

/** Names are compared without regard to case. */
export function readHeaders(reader: FieldReader, fields: Fields, path: SourcePath): readonly NamedMatch[] {
  return readNamed(reader, fields, "headers", path, MAX_HEADER, (name) => name.toLowerCase());
}

function readPath(reader: FieldReader, fields: Fields, path: SourcePath): PathMatch {
  if (fields.path === undefined) return ANY_PATH;
  const at = [...path, "path"];
  const match = reader.object(fields.path, at);
  reader.onlyKnown(match, ["type", "value"], at);
  const type = reader.choice(match, "type", at, ["Exact", "PathPrefix", "RegularExpression"]) ?? "PathPrefix";
  const value = reader.text(match, "value", at) ?? "/";
  const where = [...at, "value"];
  if (value.length > MAX_PATH) reader.fail(where, `value is longer than ${MAX_PATH} characters`);
  else if (type === "RegularExpression") checkRegex(reader, value, where);
  else if (!value.startsWith("/")) reader.fail(where, `value must begin with "/", is ${JSON.stringify(value)}`);
  else if (!PATH_CHARACTERS.test(value)) {
    reader.fail(where, `value holds characters that cannot be in a path: ${JSON.stringify(value)}`);
  } else if (NOT_NORMAL.test(value)) {
    reader.fail(where, `value holds "//", "/.", "/.." or "%2F", which no path has when it is matched`);
  }
  return { type, value };
}

/** `keyOf` gives what makes two names the same: the API lets the first of them count, which is not what the second says. */
function readNamed(
  reader: FieldReader,
  fields: Fields,
  key: string,
  path: SourcePath,
  maxLength: number,
  keyOf: (name: string) => string,
): readonly NamedMatch[] {
  const seen = new Set<string>();
  return reader.list(fields, key, path).map(({ fields, path }) => {
    reader.onlyKnown(fields, ["type", "name", "value"], path);
    const type = reader.choice(fields, "type", path, ["Exact", "RegularExpression"]) ?? "Exact";
    const name = readHeaderName(reader, fields, "name", path);
    const value = reader.requiredText(fields, "value", path);
    if (value.length > maxLength) reader.fail([...path, "value"], `value is longer than ${maxLength} characters`);
    else if (type === "RegularExpression") checkRegex(reader, value, [...path, "value"]);
    if (name !== "" && seen.has(keyOf(name))) reader.fail([...path, "name"], `${name} is there twice in one match`);
    seen.add(keyOf(name));
    return { type, name, value };
  });
}
