/** The filters RequestRedirect and URLRewrite. */
import type { FieldReader, Fields } from "../field_reader.ts";
import type { SourcePath } from "../yaml_source.ts";
import { MAX_PATH } from "./http_matches.ts";
import type { PathModifier, RouteFilters } from "./objects.ts";
import { readHostname, readPort } from "./values.ts";

type Redirect = NonNullable<RouteFilters["redirect"]>;
type Rewrite = NonNullable<RouteFilters["rewrite"]>;

const STATUS_CODES: readonly unknown[] = [301, 302, 303, 307, 308];
/** The Gateway API's default. */
const FOUND = 302;
/** What would end the line of a request or of a Location header. */
// deno-lint-ignore no-control-regex
const NO_PATH = /[\x00-\x20\x7f]/;

export function readRedirect(reader: FieldReader, fields: Fields, path: SourcePath): Redirect {
  reader.onlyKnown(fields, ["scheme", "hostname", "path", "port", "statusCode"], path);
  const { statusCode = FOUND } = fields;
  if (!STATUS_CODES.includes(statusCode)) {
    reader.fail([...path, "statusCode"], `statusCode must be one of ${STATUS_CODES.join(", ")}`);
  }
  return {
    scheme: reader.choice(fields, "scheme", path, ["http", "https"]),
    hostname: readHostname(reader, fields, "hostname", path),
    port: readPort(reader, fields, "port", path),
    statusCode: statusCode as number,
    path: readPathModifier(reader, fields, path),
  };
}

export function readRewrite(reader: FieldReader, fields: Fields, path: SourcePath): Rewrite {
  reader.onlyKnown(fields, ["hostname", "path"], path);
  return {
    hostname: readHostname(reader, fields, "hostname", path),
    path: readPathModifier(reader, fields, path),
  };
}

function readPathModifier(reader: FieldReader, fields: Fields, path: SourcePath): PathModifier | undefined {
  if (fields.path === undefined) return undefined;
  const at = [...path, "path"];
  const modifier = reader.object(fields.path, at);
  if (modifier.type === undefined) reader.fail(at, "type is missing");
  const type = reader.choice(modifier, "type", at, ["ReplaceFullPath", "ReplacePrefixMatch"]);
  if (type === undefined) return undefined;
  const key = type === "ReplaceFullPath" ? "replaceFullPath" : "replacePrefixMatch";
  reader.onlyKnown(modifier, ["type", key], at);
  if (modifier[key] === undefined) return reader.fail(at, `${key} is missing`);
  // An empty prefix is one that is taken away.
  const value = modifier[key] === "" ? "" : reader.text(modifier, key, at) ?? "";
  if (value.length > MAX_PATH) reader.fail([...at, key], `${key} is longer than ${MAX_PATH} characters`);
  else if (NO_PATH.test(value)) reader.fail([...at, key], `${key} holds a character that cannot be in a path`);
  else if (value === "" ? type === "ReplaceFullPath" : !value.startsWith("/")) {
    reader.fail([...at, key], `${key} must begin with "/", is ${JSON.stringify(value)}`);
  }
  return { type, value };
}
