/** RequestAuthentications of Istio: which tokens a waypoint understands. */
import type { FieldReader, Fields } from "../field_reader.ts";
import type { SourcePath } from "../yaml_source.ts";
import { readHead, readSpec } from "./head.ts";
import { readJwtRule } from "./jwt_rule.ts";
import type { RequestAuthentication, TargetRef } from "./objects.ts";
import { readTargetRefs } from "./target_refs.ts";

const SPEC_KEYS = ["targetRef", "targetRefs", "jwtRules"] as const;
const ATTACH =
  `requests are read at a waypoint only; attach it with targetRefs: [{group: "", kind: Service, name: ...}]`;

export function readRequestAuthentication(
  reader: FieldReader,
  fields: Fields,
  path: SourcePath,
): RequestAuthentication {
  const head = readHead(reader, fields, path);
  const at = [...path, "spec"];
  const spec = readSpec(reader, fields, path, SPEC_KEYS, { selector: ATTACH });
  return {
    ...head,
    refs: fields.spec === undefined ? [] : readRefs(reader, spec, at),
    jwtRules: reader.list(spec, "jwtRules", at)
      .map(({ fields, path }) => readJwtRule(reader, fields, path)),
  };
}

function readRefs(reader: FieldReader, spec: Fields, path: SourcePath): readonly TargetRef[] {
  const refs = readTargetRefs(reader, spec, path);
  if (refs === undefined && spec.selector === undefined) reader.fail(path, ATTACH);
  return refs ?? [];
}
