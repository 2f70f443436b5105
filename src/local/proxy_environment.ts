/** The environment of a node's ztunnel and of a waypoint: their place in the mesh and nothing of a cluster. */
import type { LocalConfig } from "../cli/config.ts";
import { LEVEL_RANK, parseLogDirectives } from "../telemetry/log_filter.ts";
import type { PlannedNode, PlannedPod } from "./change_plan.ts";

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

export function waypointEnvironment(pod: PlannedPod, socket: string): Record<string, string> {
  return {
    LOCAL_CONTROL: socket,
    POD_NAME: pod.name,
    POD_NAMESPACE: pod.namespace,
    SERVICE_ACCOUNT: pod.serviceAccount,
    INSTANCE_IP: pod.addresses[0] ?? "",
    ISTIO_META_NODE_NAME: pod.node,
    ISTIO_META_WORKLOAD_NAME: pod.name,
    // It is told to end when nobody is led to it any more: it waits for what is under way and no longer.
    EXIT_ON_ZERO_ACTIVE_CONNECTIONS: "true",
    MINIMUM_DRAIN_DURATION: "0s",
  };
}

/** A waypoint's flags are pilot-agent's. */
export function waypointFlags({ workers, log }: LocalConfig): readonly string[] {
  return [
    `--concurrency=${workers}`,
    `--log_output_level=${istioLevels(log.filter)}`,
    ...(log.format === "json" ? ["--log_as_json"] : []),
  ];
}

/** Directives in `RUST_LOG`'s form as levels of Istio's Go components, which know nothing above debug. */
function istioLevels(filter: string): string {
  return parseLogDirectives(filter, { bareTargets: true }).map(({ target, level }) => {
    const word = level === "off" ? "none" : LEVEL_RANK[level] > LEVEL_RANK.debug ? "debug" : level;
    return target === "" ? word : `${target}:${word}`;
  }).join(",");
}
