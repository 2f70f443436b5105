/**
 * What to leave behind at the end: reference cni.md 5.4. When another agent follows (an upgrade, a restart, a reboot of the node),
 * everything stays: without the plugin pods would start outside of the mesh. When none does, everything goes: with it no pod could start.
 */
import type { KubeClient } from "../../control/kube/client.ts";
import { KubeError } from "../../control/kube/client.ts";
import type { DaemonSet, KubeNode } from "../../control/kube/types.ts";
import { type InstallClock, sleep, SYSTEM_CLOCK } from "./clock.ts";
import { schedulingProblem } from "./node_affinity.ts";

export interface ShutdownOptions {
  readonly ambientEnabled: boolean;
  /** AMBIENT_DISABLE_SAFE_UPGRADE. */
  readonly disableSafeUpgrade: boolean;
  readonly ownedConfig: boolean;
  readonly podNamespace: string;
  readonly nodeName: string;
  /** For tests. */
  readonly clock?: InstallClock;
}

export interface ShutdownDecision {
  readonly action: "keep" | "clean up";
  /** For the log. */
  readonly reason: string;
}

/** Istio's name; the plugin and istiod know it as well. */
const DAEMON_SET = "istio-cni-node";
const RETRY_MS = 1_000;
const OWNED_RETRIES = 2;
/** Of one question: the kubelet waits for 30 s in all before it kills. */
const TIMEOUT_MS = 3_000;

/** Never rejects. `client` undefined: there is no API server to ask. */
export async function decideShutdown(
  client: KubeClient | undefined,
  options: ShutdownOptions,
): Promise<ShutdownDecision> {
  const { ambientEnabled, disableSafeUpgrade, ownedConfig } = options;
  if (!ambientEnabled) return cleanUp("ambient mode is off");
  if (disableSafeUpgrade) return cleanUp("AMBIENT_DISABLE_SAFE_UPGRADE is set");
  if (client === undefined) return withoutAnswer("there is no API server to ask", ownedConfig);
  const retries = ownedConfig ? OWNED_RETRIES : 0;
  const never = new AbortController().signal;
  for (let attempt = 0;; attempt++) {
    try {
      return await ask(client, options);
    } catch (error) {
      if (error instanceof KubeError && error.status === 404) {
        return cleanUp(`${subject(options)} is gone: ${error.message}`);
      }
      // The service account of an agent that is uninstalled goes first.
      if (error instanceof KubeError && error.status === 401) return cleanUp(error.message);
      if (attempt >= retries) return withoutAnswer((error as Error).message, ownedConfig);
    }
    await sleep(options.clock ?? SYSTEM_CLOCK, RETRY_MS, never);
  }
}

async function ask(client: KubeClient, options: ShutdownOptions): Promise<ShutdownDecision> {
  const { podNamespace, nodeName } = options;
  const limits = { timeoutMs: TIMEOUT_MS };
  const set = await client.read<DaemonSet>(
    `/apis/apps/v1/namespaces/${encodeURIComponent(podNamespace)}/daemonsets/${DAEMON_SET}`,
    limits,
  );
  if (set.metadata?.deletionTimestamp !== undefined) return cleanUp(`${subject(options)} is being deleted`);
  if (nodeName === "") return keep(`${subject(options)} exists`);
  const node = await client.read<KubeNode>(`/api/v1/nodes/${encodeURIComponent(nodeName)}`, limits);
  const problem = schedulingProblem(set, node, nodeName);
  return problem === undefined
    ? keep(`${subject(options)} exists: another agent will follow on this node`)
    : cleanUp(`${subject(options)} no longer covers node ${nodeName}: ${problem}`);
}

function subject({ podNamespace }: ShutdownOptions): string {
  return `DaemonSet ${podNamespace}/${DAEMON_SET}`;
}

/** A configuration of our own is there so that pods wait rather than bypass the mesh: in doubt it stays. */
function withoutAnswer(why: string, ownedConfig: boolean): ShutdownDecision {
  return ownedConfig ? keep(`no answer (${why}), and the CNI configuration is our own`) : cleanUp(`no answer: ${why}`);
}

function keep(reason: string): ShutdownDecision {
  return { action: "keep", reason };
}

function cleanUp(reason: string): ShutdownDecision {
  return { action: "clean up", reason };
}
