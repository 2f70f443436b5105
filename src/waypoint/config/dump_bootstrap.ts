/** The bootstrap that a config dump shows: Envoy's, had there been one. */
import type { JsonValue } from "@bufbuild/protobuf";
import { nodeJson } from "../admin/node_json.ts";
import type { WaypointState } from "../agent/state.ts";

/** The part of Envoy's bootstrap that people look for: who the node is, and which ports are its own. */
export function bootstrap({ config, node }: Pick<WaypointState, "config" | "node">): JsonValue {
  const listener = (port: number) => ({
    address: { socket_address: { address: "0.0.0.0", port_value: port } },
  });
  return {
    node: jsonValue(nodeJson(node)),
    static_resources: { listeners: [listener(config.prometheusPort), listener(config.readinessPort)] },
    dynamic_resources: {
      lds_config: { ads: {}, initial_fetch_timeout: "0s", resource_api_version: "V3" },
      cds_config: { ads: {}, initial_fetch_timeout: "0s", resource_api_version: "V3" },
      ads_config: {
        api_type: "DELTA_GRPC",
        transport_api_version: "V3",
        grpc_services: [{ envoy_grpc: { cluster_name: "xds-grpc" } }],
      },
    },
    admin: { address: { socket_address: { address: "127.0.0.1", port_value: config.adminPort } } },
  };
}

/** What JSON does not know is left out. */
function jsonValue(value: unknown): JsonValue {
  return JSON.parse(JSON.stringify(value ?? null));
}
