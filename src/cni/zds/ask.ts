/** What a ztunnel is asked, and how that ends. */
import type { ZdsRequest, ZdsWorkload } from "../../protocol/zds.ts";
import type { PodNetns } from "../netns/pod_netns.ts";

/** How an ask ended. "lost": the connection did, for a reason that says nothing of this message. */
export type AskOutcome =
  | { readonly is: "acked" }
  | { readonly is: "refused"; readonly error: string }
  | { readonly is: "failed"; readonly error: string }
  | { readonly is: "lost"; readonly reason: string };

/** A message for a ztunnel. */
export interface Ask {
  readonly request: Exclude<ZdsRequest, { kind: "snapshot_sent" }>;
  /** With an add, and only then. */
  readonly netns: PodNetns | undefined;
  /** Called once, in no case from within `ask`. */
  readonly settled: (outcome: AskOutcome) => void;
}

/** A pod of the snapshot; without a namespace, or without a workload, ztunnel is told to keep what it has of it. */
export interface SnapshotPod {
  readonly uid: string;
  readonly workload: ZdsWorkload | undefined;
  readonly netns: PodNetns | undefined;
}
