/**
 * The pods of this node on the main thread: their listeners, certificates and states, and what the workers were told of them.
 *
 * A pod is served once its workload is known, its certificate is there, its listeners are open and every worker has confirmed. What
 * fails is undone and tried again; a pod that was never served harms no other.
 */
import type { Authorization, MeshStore, PolicyKey, Workload } from "../mesh/mod.ts";
import { identityOf } from "../mesh/mod.ts";
import { sameData } from "../mesh/equal.ts";
import type { TlsMaterial } from "../platform/tls_context.ts";
import type { ListenerKind, PodDescription, PodState, ToWorker } from "./messages.ts";
import type { PodListeners } from "./pod_listeners.ts";

/** A pod as the node agent announces it. */
export interface PodInfo {
  readonly uid: string;
  /** Path of its network namespace; undefined: this process's own. */
  readonly netns: string | undefined;
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
}

export interface PodsOptions {
  readonly store: MeshStore;
  readonly nodeName: string | undefined;
  readonly openListeners: (info: PodInfo) => PodListeners;
  /** A certificate for a new user of the identity, and the end of that use. */
  readonly acquireCertificate: (identity: string) => Promise<TlsMaterial>;
  readonly releaseCertificate: (identity: string) => void;
  readonly broadcast: (message: ToWorker) => void;
  /** Resolves when all workers have handled what was broadcast. */
  readonly settle: () => Promise<void>;
  readonly schedule: (task: () => void, delayMs: number) => () => void;
  readonly changed: () => void;
  /** A pod is served, or is not any more; for metrics. */
  readonly started: () => void;
  readonly stopped: () => void;
  readonly log: (level: "info" | "warn", message: string, info: PodInfo, error?: string) => void;
}

/** ztunnel's wait for the record of a pod that was announced before it. */
const WORKLOAD_WAIT_MS = 5_000;
const RETRY_MS = 5_000;

interface Pod {
  readonly info: PodInfo;
  phase: "pending" | "up";
  removed: boolean;
  state: PodState | undefined;
  listeners: PodListeners | undefined;
  tls: TlsMaterial | undefined;
  cancelRetry: (() => void) | undefined;
  /** Who announces a pod again meanwhile waits for the same attempt: a second one would close the first one's listeners. */
  attempt: Promise<void> | undefined;
}

export class Pods {
  readonly #options: PodsOptions;
  readonly #pods = new Map<string, Pod>();
  #workloadWaiters = new Set<() => void>();

  constructor(options: PodsOptions) {
    this.#options = options;
  }

  get active(): number {
    return [...this.#pods.values()].filter((pod) => pod.phase === "up").length;
  }

  get pending(): number {
    return this.#pods.size - this.active;
  }

  uids(): string[] {
    return [...this.#pods.keys()];
  }

  views(): { readonly info: PodInfo; readonly up: boolean }[] {
    return [...this.#pods.values()].map(({ info, phase }) => ({ info, up: phase === "up" }));
  }

  /** Serves a pod, or rejects with the reason; it is then tried again every few seconds. The same pod again is nothing new. */
  async add(info: PodInfo): Promise<void> {
    const known = this.#pods.get(info.uid);
    if (known !== undefined) {
      if (known.info.netns === info.netns) {
        if (known.phase === "pending") await this.#bringUp(known);
        return;
      }
      await this.remove(info.uid);
      return this.add(info);
    }
    const pod: Pod = {
      info,
      phase: "pending",
      removed: false,
      state: undefined,
      listeners: undefined,
      tls: undefined,
      cancelRetry: undefined,
      attempt: undefined,
    };
    this.#pods.set(info.uid, pod);
    await this.#bringUp(pod);
  }

  /** Cuts everything of a pod. Unknown pods are no error. */
  async remove(uid: string): Promise<void> {
    const pod = this.#pods.get(uid);
    if (pod === undefined) return;
    this.#pods.delete(uid);
    pod.removed = true;
    pod.cancelRetry?.();
    this.#options.broadcast({ type: "pod_down", uid });
    await this.#options.settle();
    this.#release(pod);
    this.#options.stopped();
    this.#options.log("info", "pod removed", pod.info);
    this.#options.changed();
  }

  /** The mesh changed: what it decides about each pod may have. Broadcasts; the caller settles. */
  meshChanged(): void {
    for (const waiter of this.#workloadWaiters) waiter();
    for (const pod of this.#pods.values()) {
      if (pod.phase !== "up" || pod.state === undefined) continue;
      const workload = this.#workloadOf(pod.info);
      // A record that is gone does not take the pod's last known policies with it.
      const state = workload === undefined ? undefined : this.#stateOf(workload);
      if (state === undefined || sameData(state, pod.state)) continue;
      if (state.identity !== pod.state.identity) {
        this.#options.log("warn", "the pod's identity changed: it is served anew", pod.info);
        void this.#replace(pod);
        continue;
      }
      pod.state = state;
      this.#options.broadcast({ type: "pod_state", uid: pod.info.uid, state });
    }
  }

  certificateChanged(identity: string, tls: TlsMaterial): void {
    for (const pod of this.#pods.values()) {
      if (pod.state?.identity === identity) pod.tls = tls;
    }
    this.#options.broadcast({ type: "certificate", identity, tls });
  }

  /** What a new worker must be told. */
  replay(): ToWorker[] {
    const messages: ToWorker[] = [];
    for (const pod of this.#pods.values()) {
      const message = pod.phase === "up" ? podUp(pod) : undefined;
      if (message !== undefined) messages.push(message);
    }
    return messages;
  }

  /** Ends the listening, when workers have stopped watching; what still came to the queues is given to `rescue`. */
  stopListening(rescue: (uid: string, listener: ListenerKind, fd: number) => void): void {
    for (const pod of this.#pods.values()) {
      pod.cancelRetry?.();
      pod.listeners?.acceptLast((kind, fd) => rescue(pod.info.uid, kind, fd));
    }
  }

  /** Lets go of every pod, when there is no worker any more. */
  closeListeners(): void {
    for (const pod of this.#pods.values()) {
      pod.cancelRetry?.();
      pod.listeners?.close();
      pod.listeners = undefined;
    }
  }

  #bringUp(pod: Pod): Promise<void> {
    pod.attempt ??= this.#attempt(pod).finally(() => {
      pod.attempt = undefined;
    });
    return pod.attempt;
  }

  async #attempt(pod: Pod): Promise<void> {
    pod.cancelRetry?.();
    pod.cancelRetry = undefined;
    try {
      await this.#tryBringUp(pod);
    } catch (cause) {
      const error = cause instanceof Error ? cause.message : String(cause);
      this.#release(pod);
      if (pod.removed) return;
      this.#options.log("warn", "pod cannot be served yet", pod.info, error);
      pod.cancelRetry = this.#options.schedule(() => {
        this.#bringUp(pod).catch(() => {});
      }, RETRY_MS);
      throw new Error(`failure to start proxy : ${error}`);
    } finally {
      this.#options.changed();
    }
  }

  async #tryBringUp(pod: Pod): Promise<void> {
    const { options } = { options: this.#options };
    const workload = await this.#waitForWorkload(pod.info);
    const identity = identityOf(workload);
    pod.state = this.#stateOf(workload);
    pod.tls = await options.acquireCertificate(identity);
    if (pod.removed) return this.#release(pod);
    // The mesh may have moved on while the certificate was fetched.
    const state = this.#stateOf(this.#workloadOf(pod.info) ?? workload);
    if (state.identity !== identity) throw new Error(`its identity changed from ${identity} to ${state.identity}`);
    pod.listeners = options.openListeners(pod.info);
    pod.state = state;
    pod.phase = "up";
    const message = podUp(pod);
    if (message !== undefined) options.broadcast(message);
    await options.settle();
    options.started();
    options.log("info", "pod served", pod.info);
  }

  async #replace(pod: Pod): Promise<void> {
    await this.remove(pod.info.uid);
    await this.add(pod.info).catch(() => {});
  }

  #release(pod: Pod): void {
    pod.listeners?.close();
    pod.listeners = undefined;
    if (pod.state !== undefined) this.#options.releaseCertificate(pod.state.identity);
    pod.state = undefined;
    pod.tls = undefined;
    pod.phase = "pending";
  }

  #workloadOf(info: PodInfo): Workload | undefined {
    const { name, namespace, serviceAccount } = info;
    const node = this.#options.nodeName;
    return this.#options.store.localWorkload({
      name,
      namespace,
      serviceAccount,
      ...(node === undefined ? {} : { node }),
    });
  }

  #stateOf(workload: Workload): PodState {
    const { policies, missing }: { policies: readonly Authorization[]; missing: readonly PolicyKey[] } = this.#options
      .store.policiesFor(workload);
    return { workload, identity: identityOf(workload), policies, missingPolicies: missing };
  }

  async #waitForWorkload(info: PodInfo): Promise<Workload> {
    const known = this.#workloadOf(info);
    if (known !== undefined) return known;
    return await new Promise<Workload>((resolve, reject) => {
      const check = () => {
        const workload = this.#workloadOf(info);
        if (workload === undefined) return;
        cancel();
        this.#workloadWaiters.delete(check);
        resolve(workload);
      };
      const cancel = this.#options.schedule(() => {
        this.#workloadWaiters.delete(check);
        reject(
          new Error(
            `timed out waiting for workload: no record of ${info.namespace}/${info.name} with service account ` +
              `${info.serviceAccount} on this node came within ${WORKLOAD_WAIT_MS / 1000} s`,
          ),
        );
      }, WORKLOAD_WAIT_MS);
      this.#workloadWaiters.add(check);
    });
  }
}

function podUp(pod: Pod): ToWorker | undefined {
  const { info, listeners, state, tls } = pod;
  if (listeners === undefined || state === undefined || tls === undefined) return undefined;
  const description: PodDescription = {
    uid: info.uid,
    name: info.name,
    namespace: info.namespace,
    serviceAccount: info.serviceAccount,
    namespaceFd: listeners.namespaceFd,
    listeners: listeners.fds,
    originalSource: listeners.originalSource,
  };
  return { type: "pod_up", pod: description, state, tls };
}
