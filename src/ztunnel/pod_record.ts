/** One pod of this node as the main thread keeps it, and what of it workers are told. */
import { identityOf, type MeshStore, type Workload } from "../mesh/mod.ts";
import type { TlsMaterial } from "../platform/tls_context.ts";
import type { PodDescription, PodState, ToWorker } from "./messages.ts";
import type { PodListeners } from "./pod_listeners.ts";
import type { PodNamespace } from "./pod_namespace.ts";

/** A pod as the node agent announces it. */
export interface PodInfo {
  readonly uid: string;
  /** Undefined: this process's own. Pods take over its descriptor. */
  readonly netns: PodNamespace | undefined;
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  /** ztunnel's own pod: no agent announces or removes it, and it is in no list and no count. */
  readonly self?: true;
}

/** ztunnel's wait for the record of a pod that was announced before it. */
export const WORKLOAD_WAIT_MS = 5_000;

/** pending: not listening; waiting: listening, but record or certificate is missing; up: served. */
export type PodPhase = "pending" | "waiting" | "up";

export interface Pod {
  readonly info: PodInfo;
  phase: PodPhase;
  removed: boolean;
  /** Workers hold back what connects to it. */
  told: boolean;
  /** What it waits for, or what went wrong last. */
  reason: string;
  /** Why it got no certificate, as long as it has none. */
  failure: string | undefined;
  listeners: PodListeners | undefined;
  state: PodState | undefined;
  /** Of which this pod is counted as a user. */
  identity: string | undefined;
  tls: TlsMaterial | undefined;
  cancelRetry: (() => void) | undefined;
  cancelWait: (() => void) | undefined;
  /** Who announces a pod again meanwhile waits for the same attempt: a second one would close the first one's listeners. */
  opening: Promise<void> | undefined;
  served: { readonly resolve: () => void; readonly reject: (error: Error) => void }[];
}

export function createPod(info: PodInfo): Pod {
  return {
    info,
    phase: "pending",
    removed: false,
    told: false,
    reason: "its listeners are being opened",
    failure: undefined,
    listeners: undefined,
    state: undefined,
    identity: undefined,
    tls: undefined,
    cancelRetry: undefined,
    cancelWait: undefined,
    opening: undefined,
    served: [],
  };
}

/** The words with which ztunnel refuses such a pod's connections, then what they mean. */
export function missingRecord({ name, namespace, serviceAccount }: PodInfo): string {
  return `failed to fetch information about local workload: ${serviceAccount}.${namespace} (${name}): ` +
    `timed out waiting for workload: no record of ${namespace}/${name} with service account ${serviceAccount} ` +
    `on this node came within ${WORKLOAD_WAIT_MS / 1000} s`;
}

/** What workers must know of a pod; undefined when it is pending. */
export function describePod(pod: Pod): ToWorker | undefined {
  const { info, listeners, state, tls } = pod;
  if (listeners === undefined || pod.phase === "pending") return undefined;
  const description: PodDescription = {
    uid: info.uid,
    name: info.name,
    namespace: info.namespace,
    serviceAccount: info.serviceAccount,
    namespaceFd: listeners.namespaceFd,
    listeners: { ...listeners.fds },
    mark: listeners.mark,
    originalSource: listeners.originalSource,
  };
  if (pod.phase === "waiting") return { type: "pod_wait", pod: description, reason: pod.reason };
  return state === undefined || tls === undefined ? undefined : { type: "pod_up", pod: description, state, tls };
}

/** What the mesh knows of a pod of this node. */
export function workloadOf(store: MeshStore, node: string | undefined, info: PodInfo): Workload | undefined {
  const { name, namespace, serviceAccount } = info;
  return store.localWorkload({ name, namespace, serviceAccount, ...(node === undefined ? {} : { node }) });
}

/** What the mesh decides about it. */
export function stateOf(store: MeshStore, workload: Workload): PodState {
  const { policies, missing } = store.policiesFor(workload);
  return { workload, identity: identityOf(workload), policies, missingPolicies: missing };
}

/** A pod's listeners cannot be opened; it is tried again. */
export class ProxyStartError extends Error {
  override readonly name = "ProxyStartError";
}

/** In ztunnel's words, which the node agent passes on. */
export function startError(reason: string): ProxyStartError {
  return new ProxyStartError(`failure to start proxy : ${reason}`);
}
