/** The small pages of Envoy's admin port, as text. */
import type { WaypointState } from "../agent/state.ts";
import { TYPES } from "../config/mod.ts";
import { nodeJson } from "./node_json.ts";

const STATES = { live: "LIVE", draining: "DRAINING", initializing: "INITIALIZING" } as const;

export function stateName({ phase }: Pick<WaypointState, "phase">): string {
  return STATES[phase];
}

/** envoy.admin.v3.ServerInfo. */
export function serverInfo(state: WaypointState, version: string, logLevel: string, nowMs: number): string {
  const { node, config, workers, startedMs } = state;
  const uptime = `${Math.max(0, Math.floor((nowMs - startedMs) / 1000))}s`;
  return JSON.stringify({
    version,
    state: stateName(state),
    uptime_current_epoch: uptime,
    uptime_all_epochs: uptime,
    hot_restart_version: "disabled",
    command_line_options: {
      concurrency: workers,
      log_level: logLevel,
      service_cluster: node.cluster,
      service_node: node.id,
      drain_time: `${Math.round(config.drainMs / 1000)}s`,
      drain_strategy: "Immediate",
      disable_hot_restart: true,
      mode: "Serve",
    },
    node: nodeJson(node),
  });
}

/** Sockets that are listened on; a listener without one is a part of the way inside. */
function listenerAddresses({ config }: WaypointState): readonly (readonly [name: string, port: number])[] {
  return [
    ["connect_terminate", config.hbonePort],
    ["", config.readinessPort],
    ["", config.prometheusPort],
  ];
}

export function listenersText(state: WaypointState): string {
  return listenerAddresses(state)
    .map(([name, port]) => `${name || `0.0.0.0_${port}`}::0.0.0.0:${port}\n`)
    .concat(internalNames(state).map((name) => `${name}::envoy://${name}/\n`))
    .join("");
}

export function listenersJson(state: WaypointState): string {
  return JSON.stringify({
    listener_statuses: [
      ...listenerAddresses(state).map(([name, port]) => ({
        name: name || `0.0.0.0_${port}`,
        local_address: { socket_address: { address: "0.0.0.0", port_value: port } },
      })),
      ...internalNames(state).map((name) => ({
        name,
        local_address: { envoy_internal_address: { server_listener_name: name } },
      })),
    ],
  });
}

function internalNames({ resources }: WaypointState): readonly string[] {
  const names = resources.get(`type.googleapis.com/${TYPES.listeners}`)?.keys() ?? [];
  return [...names].filter((name) => name !== "connect_terminate");
}

/** envoy.admin.v3.Memory, as far as a garbage-collected process can say it. */
export function memoryJson(
  memory: { readonly rss: number; readonly heapTotal: number; readonly heapUsed: number },
): string {
  const { rss, heapTotal, heapUsed } = memory;
  return JSON.stringify({
    allocated: String(heapUsed),
    heap_size: String(heapTotal),
    pageheap_unmapped: "0",
    pageheap_free: "0",
    total_thread_cache: "0",
    total_physical_bytes: String(rss),
  });
}
