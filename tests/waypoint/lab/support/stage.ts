/** What the scenarios of one build share: a namespace, a waypoint in front of its services, and applications. */
import type { Build } from "../../../istiod/support/builds.ts";
import type { IstiodLab, PodWish } from "../../../istiod/support/lab.ts";
import type { LabNode } from "../../../istiod/support/node.ts";
import type { LabPod } from "../../../istiod/support/pod.ts";
import { AppProcess } from "./app_process.ts";
import { LabWaypoint } from "./waypoint.ts";

/** A pod in which an application runs (apps/app.ts). */
export interface AppPod {
  readonly pod: LabPod;
  readonly app: AppProcess;
}

export interface Stage {
  readonly namespace: string;
  readonly waypoint: LabWaypoint;
  /** Calls; on node a, as the waypoint is. */
  readonly client: AppPod;
  /** Calls; another service account, on node b. */
  readonly stranger: AppPod;
  /** Behind the ztunnel of node b. */
  readonly alpha: AppPod;
  /** Behind the ztunnel of node a. */
  readonly beta: AppPod;
  /** Without a tunnel, on node b. */
  readonly plain: AppPod;
}

export const STAGE_WAYPOINT = "waypoint";

export async function setStage(lab: IstiodLab, build: Build, a: LabNode, b: LabNode): Promise<Stage> {
  const namespace = `stage-${build}`;
  await lab.addNamespace(namespace);
  const [waypoint, [client, stranger, alpha, beta, plain]] = await Promise.all([
    LabWaypoint.deploy(lab, { name: STAGE_WAYPOINT, namespace, node: a, build }),
    startApps(
      lab,
      { name: "client", namespace, node: a },
      { name: "stranger", namespace, node: b },
      { name: "alpha", namespace, node: b, labels: { version: "v1" } },
      { name: "beta", namespace, node: a, labels: { version: "v2" } },
      { name: "plain", namespace, node: b, captured: false },
    ),
  ]) as [LabWaypoint, [AppPod, AppPod, AppPod, AppPod, AppPod]];
  return { namespace, waypoint, client, stranger, alpha, beta, plain };
}

/** Pods with an application in each. */
export async function startApps(lab: IstiodLab, ...wishes: readonly PodWish[]): Promise<AppPod[]> {
  const pods = await lab.addPods(...wishes);
  return await Promise.all(pods.map(async (pod) => ({ pod, app: await AppProcess.start(pod) })));
}
