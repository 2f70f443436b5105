/**
 * The pods that ztunnel is to serve, with their network namespaces as far as they are known, reference cni.md sections 3.4 and 3.6.
 *
 * A pod is entered by its uid before anything is done for it, so that a ztunnel that connects meanwhile keeps what it has. The cache
 * holds one reference to each namespace.
 */
import type { ZdsWorkload } from "../../protocol/zds.ts";
import { holdNetns, type PodNetns } from "./pod_netns.ts";

export type { PodNetns } from "./pod_netns.ts";

/** One pod as a snapshot names it. */
export interface CachedPod {
  readonly uid: string;
  readonly workload: ZdsWorkload | undefined;
  readonly netns: PodNetns | undefined;
}

export interface NetnsCache {
  /** Enters the pod; what is known of one that is there stays, a workload given replaces the former one. */
  ensure(uid: string, workload?: ZdsWorkload): void;
  /**
   * The pod's namespace is the opened one, whose descriptor the cache takes over. One with the same identity as before is closed, and
   * the former descriptor kept. @throws when the descriptor is not open
   */
  upsert(uid: string, openedFd: number, workload?: ZdsWorkload): PodNetns;
  get(uid: string): PodNetns | undefined;
  has(uid: string): boolean;
  /** Forgets the pod. Its namespace, if it was known, is the caller's now, who releases it. */
  take(uid: string): PodNetns | undefined;
  uids(): string[];
  /** In the order in which they were entered. */
  entries(): CachedPod[];
  /** Forgets all. */
  clear(): void;
}

export function createNetnsCache(close?: (fd: number) => void): NetnsCache {
  const pods = new Map<string, { workload: ZdsWorkload | undefined; netns: PodNetns | undefined }>();
  const enter = (uid: string, workload: ZdsWorkload | undefined) => {
    let pod = pods.get(uid);
    if (pod === undefined) pods.set(uid, pod = { workload, netns: undefined });
    else if (workload !== undefined) pod.workload = workload;
    return pod;
  };
  const take = (uid: string) => {
    const netns = pods.get(uid)?.netns;
    pods.delete(uid);
    return netns;
  };
  return {
    ensure(uid, workload) {
      enter(uid, workload);
    },
    upsert(uid, openedFd, workload) {
      const opened = holdNetns(openedFd, close);
      if (opened === undefined) throw new Error(`the network namespace of pod ${uid} is not open`);
      const pod = enter(uid, workload);
      if (pod.netns?.identity === opened.identity) {
        opened.release();
        return pod.netns;
      }
      pod.netns?.release();
      pod.netns = opened;
      return opened;
    },
    get: (uid) => pods.get(uid)?.netns,
    has: (uid) => pods.has(uid),
    take,
    uids: () => [...pods.keys()],
    entries: () => [...pods].map(([uid, { workload, netns }]) => ({ uid, workload, netns })),
    clear() {
      for (const uid of [...pods.keys()]) take(uid)?.release();
    },
  };
}
