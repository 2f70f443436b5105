/** What `ambit local` tells this ztunnel, applied to its control plane. */
import type { LocalControlOptions } from "../control/local/node_client.ts";
import type { Log } from "../telemetry/log.ts";
import type { ControlPlane } from "./control_plane.ts";

export interface LocalControlTarget {
  readonly controlPlane: ControlPlane;
  /** Told when the first mesh, and the first whole list of pods, is in force. */
  readonly readiness: { done(task: "state manager" | "workload proxy manager"): void };
  readonly log: Log;
  /** False: somebody else says which pods there are. */
  readonly announcesPods: boolean;
}

type Handlers = Pick<LocalControlOptions, "onMesh" | "onPodAdd" | "onPodDel" | "onPodsDone" | "onDisconnect">;

export function followLocalControl({ controlPlane, readiness, log, announcesPods }: LocalControlTarget): Handlers {
  /** Pods told of since the last connect: what is not among them at the end of the snapshot is gone. */
  let announced = new Set<string>();
  return {
    async onMesh(resources) {
      await controlPlane.applyMesh(resources);
      readiness.done("state manager");
    },
    async onPodAdd({ netns, ...pod }) {
      if (!announcesPods) return;
      announced.add(pod.uid);
      await controlPlane.pods.add({ ...pod, netns: { kind: "path", path: netns } });
    },
    async onPodDel(uid) {
      if (!announcesPods) return;
      announced.delete(uid);
      await controlPlane.pods.remove(uid);
    },
    async onPodsDone() {
      if (!announcesPods) return;
      for (const uid of controlPlane.pods.uids()) {
        if (!announced.has(uid)) await controlPlane.pods.remove(uid);
      }
      readiness.done("workload proxy manager");
    },
    onDisconnect(reason) {
      announced = new Set();
      log.log("warn", "local", "the local control plane is gone; what it said stays in force", { reason });
    },
  };
}
