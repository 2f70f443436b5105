/** The filters RequestHeaderModifier and ResponseHeaderModifier, of rules and of backends. */
import type { FieldReader, Fields } from "../field_reader.ts";
import type { SourcePath } from "../yaml_source.ts";
import type { HeaderModifier } from "./objects.ts";
import { checkHeaderName, readHeaderName, readHeaderValue } from "./values.ts";

/** The API permits one action for a header. */
export function readHeaderModifier(reader: FieldReader, fields: Fields, path: SourcePath): HeaderModifier {
  reader.onlyKnown(fields, ["set", "add", "remove"], path);
  const seen = new Set<string>();
  const once = (name: string, at: SourcePath) => {
    const key = name.toLowerCase();
    if (key !== "" && seen.has(key)) reader.fail(at, `there is more than one action for the header ${name}`);
    seen.add(key);
  };
  const pairs = (key: "set" | "add") =>
    reader.list(fields, key, path).map(({ fields, path }) => {
      reader.onlyKnown(fields, ["name", "value"], path);
      const name = readHeaderName(reader, fields, "name", path);
      once(name, [...path, "name"]);
      return { name, value: readHeaderValue(reader, fields, "value", path) };
    });
  const set = pairs("set");
  const add = pairs("add");
  const remove = reader.textItems(fields, "remove", path).map(({ text, path }) => {
    checkHeaderName(reader, text, path);
    once(text, path);
    return text;
  });
  return { set, add, remove };
}
