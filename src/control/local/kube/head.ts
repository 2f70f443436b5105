/**
 * What every Kubernetes object begins with: apiVersion, kind, metadata. What an API server adds when it prints an object is
 * accepted and means nothing here.
 */
import type { FieldReader, Fields } from "../field_reader.ts";
import { kindOf } from "../field_reader.ts";
import type { SourcePath } from "../yaml_source.ts";
import type { ObjectHead } from "./objects.ts";

const METADATA_KEYS = ["name", "namespace", "labels", "annotations"] as const;
/** As `kubectl get -o yaml` prints them. */
const PRINTED_METADATA_KEYS: readonly string[] = [
  "creationTimestamp",
  "finalizers",
  "generation",
  "managedFields",
  "ownerReferences",
  "resourceVersion",
  "selfLink",
  "uid",
];

/** Kubernetes' rule for the names of objects of these kinds: a DNS subdomain. */
const OBJECT_NAME = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const MAX_OBJECT_NAME = 253;
/** Kubernetes' rule for the keys of labels and annotations, without its limits of length. */
const LABEL_KEY = /^([-.a-z0-9]+\/)?[A-Za-z0-9]([-_.A-Za-z0-9]*[A-Za-z0-9])?$/;

/** `fields` of an object of which `spec`, `status` and the keys of `more` may be there. */
export function readHead(
  reader: FieldReader,
  fields: Fields,
  path: SourcePath,
  more: readonly string[] = [],
): ObjectHead {
  reader.onlyKnown(fields, ["apiVersion", "kind", "metadata", "spec", "status", ...more], path);
  const at = [...path, "metadata"];
  if (fields.metadata === undefined) reader.fail(path, "metadata is missing; add metadata: {name: ...}");
  const metadata = fields.metadata === undefined ? {} : reader.object(fields.metadata, at);
  const own = Object.fromEntries(Object.entries(metadata).filter(([key]) => !PRINTED_METADATA_KEYS.includes(key)));
  reader.onlyKnown(own, METADATA_KEYS, at);
  return {
    name: fields.metadata === undefined ? "" : readObjectName(reader, metadata, "name", at),
    namespace: readNamespaceName(reader, metadata, at, "default"),
    labels: readTexts(reader, metadata, "labels", at),
    annotations: readTexts(reader, metadata, "annotations", at),
    path,
  };
}

/** The `spec` of an object, of which only the keys of `known` may be there; for those of `refused` it is told why not. */
export function readSpec(
  reader: FieldReader,
  fields: Fields,
  path: SourcePath,
  known: readonly string[],
  refused: Readonly<Record<string, string>> = {},
): Fields {
  if (fields.spec === undefined) {
    reader.fail(path, "spec is missing");
    return {};
  }
  const spec = reader.object(fields.spec, [...path, "spec"]);
  reader.onlyKnown(spec, known, [...path, "spec"], refused);
  return spec;
}

/** The name of an object, or of one that is referred to. */
export function readObjectName(reader: FieldReader, fields: Fields, key: string, path: SourcePath): string {
  const name = reader.requiredText(fields, key, path);
  if (name === "" || (name.length <= MAX_OBJECT_NAME && OBJECT_NAME.test(name))) return name;
  reader.fail(
    [...path, key],
    `${key} must be lower-case letters, digits, "-" and ".", at most ${MAX_OBJECT_NAME}, is ${JSON.stringify(name)}`,
  );
  return "";
}

/** `namespace`, of an object or of one that is referred to. */
export function readNamespaceName(reader: FieldReader, fields: Fields, path: SourcePath, fallback: string): string {
  if (fields.namespace === null) reader.fail([...path, "namespace"], "namespace has no value; leave it out");
  return reader.name(fields, "namespace", path, fallback);
}

/** Labels or annotations. A bare number or `true` is refused as by an API server: what text it stands for is a matter of opinion. */
export function readTexts(
  reader: FieldReader,
  fields: Fields,
  key: string,
  path: SourcePath,
): Readonly<Record<string, string>> {
  if (fields[key] === undefined || fields[key] === null) return {};
  const entries = Object.entries(reader.object(fields[key], [...path, key])).filter(([name, value]) => {
    const at = [...path, key, name];
    if (!LABEL_KEY.test(name)) reader.fail(at, `${JSON.stringify(name)} cannot be a key of ${key}`);
    else if (typeof value !== "string") {
      reader.fail(at, `${name} must be a text, is ${kindOf(value)}; write it in quotes`);
    } else return true;
    return false;
  });
  return Object.fromEntries(entries) as Record<string, string>;
}
