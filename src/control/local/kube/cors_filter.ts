/** The filter CORS. */
import type { FieldReader, Fields } from "../field_reader.ts";
import type { SourcePath } from "../yaml_source.ts";
import type { RouteFilters } from "./objects.ts";
import { checkHeaderName, readFlag } from "./values.ts";

type Cors = NonNullable<RouteFilters["cors"]>;

/** The Gateway API's pattern for an origin: wildcards for the whole, for the host, or for its first labels. */
const ORIGIN = /^(\*|https?:\/\/((\*\.)?([a-zA-Z0-9-]+\.)*[a-zA-Z0-9-]+|\*)(:[0-9]{1,5})?)$/;
const MAX_ORIGIN = 253;
const METHODS: readonly string[] = [
  "GET",
  "HEAD",
  "POST",
  "PUT",
  "DELETE",
  "CONNECT",
  "OPTIONS",
  "TRACE",
  "PATCH",
  "*",
];
/** The Gateway API's default. */
const DEFAULT_MAX_AGE = 5;

export function readCors(reader: FieldReader, fields: Fields, path: SourcePath): Cors {
  reader.onlyKnown(fields, [
    "allowOrigins",
    "allowMethods",
    "allowHeaders",
    "exposeHeaders",
    "allowCredentials",
    "maxAge",
  ], path);
  const list = (key: string, check: (value: string, at: SourcePath) => void, isWild: boolean) => {
    const values = reader.textItems(fields, key, path).map(({ text, path }) => {
      check(text, path);
      return text;
    });
    if (isWild && values.length > 1 && values.includes("*")) {
      reader.fail([...path, key], `${key} cannot hold "*" and something else`);
    }
    return values;
  };
  const header = (name: string, at: SourcePath) => checkHeaderName(reader, name, at);
  return {
    allowOrigins: list("allowOrigins", (origin, at) => {
      if (origin.length > MAX_ORIGIN || !ORIGIN.test(origin)) {
        reader.fail(
          at,
          `${JSON.stringify(origin)} is no origin; write it like "https://example.com" or "https://*.example.com"`,
        );
      }
    }, true),
    allowMethods: list("allowMethods", (method, at) => {
      if (!METHODS.includes(method)) reader.fail(at, `${method} is no method; write one of ${METHODS.join(", ")}`);
    }, true),
    allowHeaders: list("allowHeaders", header, true),
    exposeHeaders: list("exposeHeaders", header, false),
    allowCredentials: readFlag(reader, fields, "allowCredentials", path),
    maxAgeSeconds: reader.integer(fields, "maxAge", path, 1, 0x7fff_ffff) ?? DEFAULT_MAX_AGE,
  };
}
