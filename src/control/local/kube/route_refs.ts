/** What a route refers to: the Services it is for, and those it leads to. */
import type { FieldReader, Fields } from "../field_reader.ts";
import type { SourcePath } from "../yaml_source.ts";
import { readNamespaceName, readObjectName } from "./head.ts";
import type { ObjectHead, ServiceRef } from "./objects.ts";
import { readPort } from "./values.ts";

const PARENT_KEYS = ["group", "kind", "namespace", "name", "port"] as const;
const SERVICE_KEYS = ["group", "kind", "namespace", "name", "port"] as const;
const GATEWAY_GROUP = "gateway.networking.k8s.io";

/** `parentRefs`: Services of the route's own namespace (GAMMA's producer routes). */
export function readParents(reader: FieldReader, spec: Fields, path: SourcePath, head: ObjectHead): ServiceRef[] {
  const at = [...path, "parentRefs"];
  const parents = reader.list(spec, "parentRefs", path);
  if (parents.length === 0) {
    reader.fail(at, `a route needs a parent: parentRefs: [{group: "", kind: Service, name: ...}]`);
  }
  const seen = new Set<string>();
  return parents.map(({ fields, path }) => {
    const ref = readParent(reader, fields, path, head);
    const key = `${ref.name} ${ref.port}`;
    if (ref.name !== "" && seen.has(key)) reader.fail(path, `the parent Service ${ref.name} is there twice`);
    seen.add(key);
    return ref;
  });
}

function readParent(reader: FieldReader, fields: Fields, path: SourcePath, head: ObjectHead): ServiceRef {
  reader.onlyKnown(fields, PARENT_KEYS, path, {
    sectionName: "sectionName is not supported by ambit local; name a port of the Service by port",
  });
  // The API's defaults mean a Gateway, whose routes are for traffic that comes into a cluster.
  const kind = fields.kind ?? "Gateway";
  const group = fields.group ?? GATEWAY_GROUP;
  if (kind !== "Service" || (group !== "" && group !== "core")) {
    const what = kind === "Service" ? `the group ${JSON.stringify(group)}` : `the kind ${JSON.stringify(kind)}`;
    const place = kind === "Service" ? "group" : "kind";
    reader.fail(
      [...path, place],
      `a parent of ${what} is not supported by ambit local; name the Service: {group: "", kind: Service, name: ...}`,
    );
  }
  const namespace = readNamespaceName(reader, fields, path, head.namespace);
  if (namespace !== head.namespace && namespace !== "") {
    reader.fail(
      [...path, "namespace"],
      `a route in the namespace of its clients is not supported by a waypoint; put it in the namespace ${namespace} of the Service`,
    );
  }
  return {
    namespace,
    name: readObjectName(reader, fields, "name", path),
    port: readPort(reader, fields, "port", path),
    path,
  };
}

/** A Service as backend; `more` are keys that may be there too. `port` is required. */
export function readServiceRef(
  reader: FieldReader,
  fields: Fields,
  path: SourcePath,
  head: ObjectHead,
  more: readonly string[] = [],
): ServiceRef {
  reader.onlyKnown(fields, [...SERVICE_KEYS, ...more], path);
  const { group = "", kind = "Service" } = fields;
  if (kind !== "Service" || (group !== "" && group !== "core")) {
    reader.fail(
      [...path, kind === "Service" ? "group" : "kind"],
      `a backend must be a Service: {name: ..., port: ...} without group and kind`,
    );
  }
  const name = readObjectName(reader, fields, "name", path);
  if (name.includes(".")) reader.fail([...path, "name"], "name is the name of a Service, not its hostname");
  if (fields.port === undefined) reader.fail(path, "port is missing");
  return {
    namespace: readNamespaceName(reader, fields, path, head.namespace),
    name,
    port: readPort(reader, fields, "port", path),
    path,
  };
}
