/** Gateways of the class istio-waypoint, as `istioctl waypoint generate` writes them. */
import type { FieldReader, Fields } from "../field_reader.ts";
import type { SourcePath } from "../yaml_source.ts";
import { readHead, readSpec } from "./head.ts";
import type { WaypointGateway } from "./objects.ts";

const CLASS = "istio-waypoint";
/** Where a waypoint takes tunnels; no other listener makes sense for one. */
const PORT = 15008;
const MADE = "is not supported by ambit local: the waypoint's pod and Service are made from the Gateway's name alone";
const WAYPOINT_FOR = "istio.io/waypoint-for";
const WAYPOINT_FOR_VALUES = ["service", "workload", "all", "none"] as const;

export function readGateway(reader: FieldReader, fields: Fields, path: SourcePath): WaypointGateway {
  const head = readHead(reader, fields, path);
  // Its pod, service account and Service have its name, which is therefore a label of DNS.
  if (head.name.length > 63 || head.name.includes(".")) {
    reader.fail(
      [...path, "metadata", "name"],
      `the name of a waypoint is the name of its Service: at most 63 characters, no "."`,
    );
  }
  const at = [...path, "spec"];
  const spec = readSpec(reader, fields, path, ["gatewayClassName", "listeners"], {
    infrastructure: `infrastructure ${MADE}`,
    addresses: `addresses ${MADE}`,
  });
  const className = fields.spec === undefined ? CLASS : reader.requiredText(spec, "gatewayClassName", at);
  if (className !== CLASS && className !== "") {
    reader.fail(
      [...at, "gatewayClassName"],
      `a Gateway of the class "${className}" is not supported by ambit local; it makes waypoints, of the class ${CLASS}`,
    );
  }
  return {
    ...head,
    waypointFor: readWaypointFor(reader, head.labels, path),
    usableFrom: fields.spec === undefined ? "Same" : readListeners(reader, spec, at),
  };
}

function readWaypointFor(
  reader: FieldReader,
  labels: Readonly<Record<string, string>>,
  path: SourcePath,
): WaypointGateway["waypointFor"] {
  return reader.choice(labels, WAYPOINT_FOR, [...path, "metadata", "labels"], WAYPOINT_FOR_VALUES) ?? "service";
}

function readListeners(reader: FieldReader, spec: Fields, path: SourcePath): WaypointGateway["usableFrom"] {
  const at = [...path, "listeners"];
  const listeners = reader.list(spec, "listeners", path);
  const [listener] = listeners;
  if (listener === undefined || listeners.length > 1) {
    reader.fail(at, `a waypoint has one listener: listeners: [{name: mesh, port: ${PORT}, protocol: HBONE}]`);
    return "Same";
  }
  const { fields, path: where } = listener;
  reader.onlyKnown(fields, ["name", "port", "protocol", "allowedRoutes"], where);
  reader.requiredText(fields, "name", where);
  if (fields.port !== PORT) reader.fail([...where, "port"], `the port of a waypoint's listener is ${PORT}`);
  if (fields.protocol !== "HBONE") {
    reader.fail([...where, "protocol"], "the protocol of a waypoint's listener is HBONE");
  }
  return readAllowedRoutes(reader, fields, where);
}

function readAllowedRoutes(reader: FieldReader, listener: Fields, path: SourcePath): WaypointGateway["usableFrom"] {
  if (listener.allowedRoutes === undefined) return "Same";
  const at = [...path, "allowedRoutes"];
  const routes = reader.object(listener.allowedRoutes, at);
  reader.onlyKnown(routes, ["namespaces"], at);
  if (routes.namespaces === undefined) return "Same";
  const namespaces = reader.object(routes.namespaces, [...at, "namespaces"]);
  if (namespaces.from === "Selector") {
    reader.fail([...at, "namespaces", "from"], "from: Selector is not supported by ambit local; write Same or All");
    return "Same";
  }
  reader.onlyKnown(namespaces, ["from"], [...at, "namespaces"]);
  return reader.choice(namespaces, "from", [...at, "namespaces"], ["Same", "All"]) ?? "Same";
}
