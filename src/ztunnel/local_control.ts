/** What `ambit local` tells this ztunnel, applied to its control plane. */
import type { LocalControlOptions } from "../control/local/channel_client.ts";
import { parseMesh } from "../mesh/mod.ts";
import type { Log } from "../telemetry/log.ts";
import type { ControlPlane } from "./control_plane.ts";

export interface LocalControlTarget {
  readonly controlPlane: ControlPlane;
  /** Told when the first mesh, and the first whole list of pods, is in force. */
  readonly readiness: { done(task: "state manager" | "workload proxy manager"): void };
  readonly log: Log;
}

type Handlers = Pick<LocalControlOptions, "onMesh" | "onPodAdd" | "onPodDel" | "onPodsDone" | "onDisconnect">;

/** Errors shown of a refused push; the rest is counted. */
const SHOWN_ERRORS = 5;

export function followLocalControl({ controlPlane, readiness, log }: LocalControlTarget): Handlers {
  /** Pods told of since the last connect: what is not among them at the end of the snapshot is gone. */
  let announced = new Set<string>();
  return {
    async onMesh(snapshot) {
      const parsed = parseMesh(snapshot);
      if (!parsed.ok) {
        const shown = parsed.errors.slice(0, SHOWN_ERRORS).map(({ path, message }) => `${path.join(".")}: ${message}`);
        const more = parsed.errors.length - shown.length;
        throw new Error(shown.join("; ") + (more > 0 ? `; and ${more} more` : ""));
      }
      await controlPlane.applyMesh(parsed.resources);
      readiness.done("state manager");
    },
    async onPodAdd(pod) {
      announced.add(pod.uid);
      await controlPlane.pods.add(pod);
    },
    async onPodDel(uid) {
      announced.delete(uid);
      await controlPlane.pods.remove(uid);
    },
    async onPodsDone() {
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
