/** Who this proxy is, as envoy.config.core.v3.Node in JSON. */
import { buildInfo } from "../../telemetry/build_info.ts";
import type { WaypointNode } from "../agent/node.ts";

export function nodeJson({ id, cluster, metadata, locality }: WaypointNode): Readonly<Record<string, unknown>> {
  const [major = 0, minor = 0, patch = 0] = buildInfo().version.split(".").map((part) =>
    Number.parseInt(part, 10) || 0
  );
  return {
    id,
    cluster,
    metadata,
    ...(locality === undefined
      ? {}
      : { locality: { region: locality.region, zone: locality.zone, sub_zone: locality.subZone } }),
    user_agent_name: "ambit",
    user_agent_build_version: { version: { major_number: major, minor_number: minor, patch } },
  };
}
