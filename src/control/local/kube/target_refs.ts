/** `targetRefs` of policies: what they are attached to at a waypoint. */
import type { FieldReader, Fields } from "../field_reader.ts";
import type { SourcePath } from "../yaml_source.ts";
import { readObjectName } from "./head.ts";
import type { TargetRef } from "./objects.ts";

const GROUPS: Readonly<Record<TargetRef["kind"], readonly string[]>> = {
  Gateway: ["gateway.networking.k8s.io"],
  Service: ["", "core"],
};

/** Of `targetRefs`, or of the one `targetRef` of older files; undefined if there is neither. */
export function readTargetRefs(reader: FieldReader, spec: Fields, path: SourcePath): readonly TargetRef[] | undefined {
  const { targetRef, targetRefs } = spec;
  if (targetRef !== undefined && targetRefs !== undefined) {
    reader.fail([...path, "targetRef"], "there is targetRefs too; put it there");
  }
  if (targetRefs !== undefined) {
    const at = [...path, "targetRefs"];
    const refs = reader.list(spec, "targetRefs", path);
    // An empty list would mean all workloads of the namespace.
    if (refs.length === 0) reader.fail(at, "targetRefs is empty; leave it out or name a Gateway or a Service");
    return refs.map(({ fields, path }) => readTargetRef(reader, fields, path));
  }
  if (targetRef === undefined) return undefined;
  const at = [...path, "targetRef"];
  return [readTargetRef(reader, reader.object(targetRef, at), at)];
}

function readTargetRef(reader: FieldReader, fields: Fields, path: SourcePath): TargetRef {
  reader.onlyKnown(fields, ["group", "kind", "name"], path, {
    namespace: "what a policy is attached to is in the policy's namespace; leave namespace out",
  });
  const name = readObjectName(reader, fields, "name", path);
  const kind = fields.kind === "Gateway" || fields.kind === "Service" ? fields.kind : undefined;
  if (kind === undefined) {
    const place = fields.kind === undefined ? path : [...path, "kind"];
    reader.fail(place, "kind must be Gateway or Service; ambit local knows no other targets of policies");
    return { kind: "Service", name, path };
  }
  const [group] = GROUPS[kind];
  const { group: given = "" } = fields;
  if (!GROUPS[kind].includes(given as string)) {
    reader.fail(
      fields.group === undefined ? path : [...path, "group"],
      `the group of a ${kind} is ${JSON.stringify(group)}`,
    );
  }
  return { kind, name, path };
}
