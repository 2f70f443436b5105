/** Namespaces, for their labels. */
import type { FieldReader, Fields } from "../field_reader.ts";
import type { SourcePath } from "../yaml_source.ts";
import { readHead } from "./head.ts";
import type { ObjectHead } from "./objects.ts";

/** The head's own namespace says nothing. */
export function readNamespace(reader: FieldReader, fields: Fields, path: SourcePath): ObjectHead {
  const head = readHead(reader, fields, path);
  const metadata = fields.metadata as Fields | undefined;
  if (metadata?.namespace !== undefined) {
    reader.fail([...path, "metadata", "namespace"], "a Namespace is in no namespace; leave it out");
  }
  if (head.name.length > 63 || head.name.includes(".")) {
    reader.fail([...path, "metadata", "name"], `the name of a Namespace has at most 63 characters and no "."`);
  }
  if (fields.spec === undefined) return head;
  // An API server adds them.
  reader.onlyKnown(reader.object(fields.spec, [...path, "spec"]), ["finalizers"], [...path, "spec"]);
  return head;
}
