/** The environment of a node's ztunnel: its place in the mesh and nothing of a cluster. */
import type { LocalConfig } from "../cli/config.ts";
import type { PlannedNode } from "./change_plan.ts";

/** `agentSocket`: of the node agent that says which pods are captured; without one the control channel says so. */
export function ztunnelEnvironment(
  node: PlannedNode,
  socket: string,
  agentSocket: string | undefined,
  config: LocalConfig,
): Record<string, string> {
  return {
    LOCAL_CONTROL: socket,
    ...(agentSocket === undefined ? {} : { INPOD_UDS: agentSocket }),
    NODE_NAME: node.name,
    INSTANCE_IP: node.addresses[0] ?? "",
    ZTUNNEL_WORKER_THREADS: String(config.workers),
    RUST_LOG: config.log.filter,
    LOG_FORMAT: config.log.format,
  };
}
