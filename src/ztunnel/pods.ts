/**
 * The pods of this node on the main thread: their listeners, certificates and states, and what the workers were told of them.
 *
 * A pod's listeners are open as soon as it is announced, because its sandbox is not ready before, and its record in the mesh comes only
 * after. It is served once record and certificate are there and every worker has confirmed; until then workers hold back what connects.
 * What fails is undone and tried again; a pod that was never served harms no other.
 */
import { identityOf } from "../mesh/mod.ts";
import type { MeshStore, Workload } from "../mesh/mod.ts";
import { sameData } from "../mesh/equal.ts";
import type { TlsMaterial } from "../platform/tls_context.ts";
import type { ListenerKind, ToWorker } from "./messages.ts";
import { concernsPod, type PodsConcerned } from "./mesh_updates.ts";
import type { PodListeners } from "./pod_listeners.ts";
import { closeNamespace, sameNamespace } from "./pod_namespace.ts";
import {
  createPod,
  describePod,
  missingRecord,
  type Pod,
  type PodInfo,
  type PodPhase,
  startError,
  stateOf,
  WORKLOAD_WAIT_MS,
  workloadOf,
} from "./pod_record.ts";

export { type PodInfo, ProxyStartError } from "./pod_record.ts";

export interface PodsOptions {
  readonly store: MeshStore;
  readonly nodeName: string | undefined;
  readonly openListeners: (info: PodInfo) => Promise<PodListeners>;
  /** A certificate for a new user of the identity, and the end of that use. A later one comes by `certificateChanged`. */
  readonly acquireCertificate: (identity: string) => Promise<TlsMaterial>;
  readonly releaseCertificate: (identity: string) => void;
  readonly broadcast: (message: ToWorker) => void;
  /** Resolves when all workers have handled what was broadcast. */
  readonly settle: () => Promise<void>;
  readonly schedule: (task: () => void, delayMs: number) => () => void;
  readonly changed: () => void;
  /** A pod's listeners are open, or are not any more; for metrics. */
  readonly started: () => void;
  readonly stopped: () => void;
  readonly log: (level: "info" | "warn", message: string, info: PodInfo, error?: string) => void;
}

const RETRY_MS = 5_000;

export class Pods {
  readonly #options: PodsOptions;
  readonly #pods = new Map<string, Pod>();
  #stopped = false;

  constructor(options: PodsOptions) {
    this.#options = options;
  }

  /** Pods whose listeners are open. */
  get active(): number {
    return this.#listed().filter((pod) => pod.phase !== "pending").length;
  }

  get pending(): number {
    return this.#listed().filter((pod) => pod.phase === "pending").length;
  }

  /** Why pods are pending, one text each. */
  pendingReasons(): string[] {
    return this.#listed()
      .filter((pod) => pod.phase === "pending")
      .map(({ info, reason }) => `${info.namespace}/${info.name}: ${reason}`);
  }

  uids(): string[] {
    return this.#listed().map(({ info }) => info.uid);
  }

  views(): { readonly info: PodInfo; readonly up: boolean; readonly phase: PodPhase }[] {
    return this.#listed().map(({ info, phase }) => ({ info, phase, up: phase !== "pending" }));
  }

  /** The sockets of a pod, for the process that takes over. */
  listenersOf(uid: string): PodListeners | undefined {
    return this.#pods.get(uid)?.listeners;
  }

  /**
   * Opens a pod's listeners; it is served as soon as that can be. Rejects with ProxyStartError when they cannot be opened; it is then
   * tried again every few seconds. The same pod again is nothing new, the same pod in another namespace replaces the first.
   */
  async announce(info: PodInfo): Promise<void> {
    const known = this.#pods.get(info.uid);
    if (known !== undefined && sameNamespace(known.info.netns, info.netns)) {
      if (known.info !== info) closeNamespace(info.netns);
      if (known.phase === "pending") await this.#open(known);
      return;
    }
    if (known !== undefined) {
      await this.remove(info.uid);
      return this.announce(info);
    }
    const pod = createPod(info);
    this.#pods.set(info.uid, pod);
    await this.#open(pod);
  }

  /** `announce`, then waits until the pod is served. Rejects with what is missing; the pod is served nevertheless when it comes. */
  async add(info: PodInfo): Promise<void> {
    await this.announce(info);
    const pod = this.#pods.get(info.uid);
    if (pod === undefined || pod.phase === "up") return;
    if (pod.failure !== undefined) throw startError(pod.failure);
    await new Promise<void>((resolve, reject) => pod.served.push({ resolve, reject }));
  }

  /** Cuts everything of a pod. Unknown pods are no error. */
  async remove(uid: string): Promise<void> {
    const pod = this.#pods.get(uid);
    if (pod === undefined) return;
    const { info } = pod;
    const opened = pod.phase !== "pending";
    this.#pods.delete(uid);
    pod.removed = true;
    pod.cancelRetry?.();
    pod.cancelWait?.();
    this.#options.broadcast({ type: "pod_down", uid });
    await this.#options.settle();
    // An attempt under way makes sockets in the namespace.
    await pod.opening?.catch(() => {});
    this.#release(pod);
    closeNamespace(info.netns);
    this.#settleServed(pod, undefined);
    if (opened && info.self === undefined) this.#options.stopped();
    this.#options.log("info", "pod removed", info);
    this.#options.changed();
  }

  /** Forgets the pods that could not be opened, or one of them: who announces pods begins anew. */
  forgetPending(uid?: string): void {
    for (const pod of this.#listed()) {
      if (pod.phase !== "pending" || (uid !== undefined && pod.info.uid !== uid)) continue;
      void this.remove(pod.info.uid);
    }
  }

  /** The mesh changed: what it decides about each pod, or about those concerned, may have. Broadcasts; the caller settles. */
  meshChanged(concerned?: PodsConcerned): void {
    for (const pod of [...this.#pods.values()]) {
      if (concerned !== undefined && !concernsPod(concerned, pod.info, pod.state?.workload)) continue;
      if (pod.phase === "waiting") {
        this.#serve(pod);
        continue;
      }
      if (pod.phase !== "up" || pod.state === undefined) continue;
      const workload = this.#workload(pod.info);
      // A record that is gone does not take the pod's last known policies with it.
      const state = workload === undefined ? undefined : stateOf(this.#options.store, workload);
      if (state === undefined || sameData(state, pod.state)) continue;
      if (state.identity !== pod.state.identity) {
        this.#options.log("warn", "the pod's identity changed: it is served anew", pod.info);
        this.#openAnew(pod);
        continue;
      }
      pod.state = state;
      this.#options.broadcast({ type: "pod_state", uid: pod.info.uid, state });
    }
  }

  certificateChanged(identity: string, tls: TlsMaterial): void {
    for (const pod of this.#pods.values()) {
      if (pod.identity === identity) pod.tls = tls;
    }
    this.#options.broadcast({ type: "certificate", identity, tls });
    for (const pod of [...this.#pods.values()]) {
      if (pod.identity === identity && pod.phase === "waiting") this.#serve(pod);
    }
  }

  /** What a new worker must be told. */
  replay(): ToWorker[] {
    return [...this.#pods.values()]
      .filter((pod) => pod.phase === "up" || pod.told)
      .map(describePod)
      .filter((message) => message !== undefined);
  }

  /** Ends the listening, when workers have stopped watching; what still came to the queues is given to `rescue`. */
  stopListening(rescue: (uid: string, listener: ListenerKind, fd: number) => void, inherited = nobody): void {
    this.#stopped = true;
    for (const pod of this.#pods.values()) {
      const { uid } = pod.info;
      pod.cancelRetry?.();
      pod.listeners?.stopListening(inherited(uid) ? undefined : (kind, fd) => rescue(uid, kind, fd));
    }
  }

  /** Lets go of every pod, when there is no worker any more. */
  closeListeners(): void {
    for (const pod of this.#pods.values()) {
      pod.cancelRetry?.();
      pod.cancelWait?.();
      pod.listeners?.close();
      pod.listeners = undefined;
    }
  }

  #listed(): Pod[] {
    return [...this.#pods.values()].filter(({ info }) => info.self !== true);
  }

  #open(pod: Pod): Promise<void> {
    pod.opening ??= this.#tryOpen(pod).finally(() => this.#opened(pod));
    return pod.opening;
  }

  #opened(pod: Pod): void {
    pod.opening = undefined;
    this.#options.changed();
  }

  async #tryOpen(pod: Pod): Promise<void> {
    pod.cancelRetry?.();
    pod.cancelRetry = undefined;
    let listeners: PodListeners;
    try {
      if (this.#stopped) throw new Error("this ztunnel is draining");
      listeners = await this.#options.openListeners(pod.info);
    } catch (cause) {
      const error = cause instanceof Error ? cause.message : String(cause);
      pod.reason = error;
      if (!pod.removed && !this.#stopped) {
        this.#options.log("warn", "pod cannot be served yet", pod.info, error);
        pod.cancelRetry = this.#options.schedule(() => this.#open(pod).catch(() => {}), RETRY_MS);
      }
      throw startError(error);
    }
    if (pod.removed || this.#stopped) return listeners.close();
    pod.listeners = listeners;
    pod.phase = "waiting";
    if (pod.info.self === undefined) this.#options.started();
    this.#serve(pod);
    if ((pod.phase as PodPhase) === "up") return;
    pod.cancelWait = this.#options.schedule(() => this.#waitedLong(pod), WORKLOAD_WAIT_MS);
    // What connects to sockets that another process serves as well is served there meanwhile.
    if (!listeners.shared) this.#tellWaiting(pod);
  }

  /** Goes on as far as what is known allows: record, certificate, workers. Called again when something changed. */
  #serve(pod: Pod): void {
    if (pod.removed) return;
    const workload = this.#workload(pod.info);
    if (workload === undefined) return this.#waitFor(pod, missingRecord(pod.info));
    const identity = identityOf(workload);
    if (pod.identity !== identity) {
      if (pod.identity !== undefined) this.#options.releaseCertificate(pod.identity);
      pod.identity = identity;
      pod.tls = undefined;
      pod.failure = undefined;
      this.#waitFor(pod, `waiting for the certificate of ${identity}`);
      this.#options.acquireCertificate(identity).then(
        (tls) => {
          if (pod.identity !== identity || pod.phase !== "waiting") return;
          pod.tls ??= tls;
          this.#serve(pod);
        },
        (error: Error) => {
          if (pod.identity !== identity || pod.phase !== "waiting") return;
          pod.failure = error.message;
          this.#waitFor(pod, error.message);
          this.#options.log("warn", "pod cannot be served yet", pod.info, error.message);
          this.#settleServed(pod, error.message);
        },
      );
      return;
    }
    if (pod.tls === undefined) return;
    pod.state = stateOf(this.#options.store, workload);
    pod.phase = "up";
    pod.failure = undefined;
    pod.cancelWait?.();
    const message = describePod(pod);
    if (message !== undefined) this.#options.broadcast(message);
    this.#options.settle().then(() => {
      if (pod.phase !== "up") return;
      this.#options.log("info", "pod served", pod.info);
      this.#settleServed(pod, undefined);
    });
    this.#options.changed();
  }

  #waitFor(pod: Pod, reason: string): void {
    if (pod.reason === reason) return;
    pod.reason = reason;
    if (pod.told) this.#tellWaiting(pod);
  }

  #tellWaiting(pod: Pod): void {
    pod.told = true;
    const message = describePod(pod);
    if (message !== undefined) this.#options.broadcast(message);
  }

  /** Whoever serves these sockets as well may have gone: from now on what connects is at least told. */
  #waitedLong(pod: Pod): void {
    if (pod.phase !== "waiting") return;
    if (this.#workload(pod.info) === undefined) {
      this.#options.log("warn", "pod cannot be served yet", pod.info, pod.reason);
    }
    if (!pod.told) this.#tellWaiting(pod);
    this.#settleServed(pod, pod.reason);
  }

  #settleServed(pod: Pod, error: string | undefined): void {
    for (const { resolve, reject } of pod.served.splice(0)) {
      if (error === undefined) resolve();
      else reject(startError(error));
    }
  }

  /** Cuts everything of a pod that stays, and begins again. */
  #openAnew(pod: Pod): void {
    pod.phase = "pending";
    this.#options.broadcast({ type: "pod_down", uid: pod.info.uid });
    pod.opening ??= this.#options.settle().then(() => {
      this.#release(pod);
      return this.#tryOpen(pod);
    }).finally(() => this.#opened(pod));
    pod.opening.catch(() => {});
  }

  #workload(info: PodInfo): Workload | undefined {
    return workloadOf(this.#options.store, this.#options.nodeName, info);
  }

  #release(pod: Pod): void {
    pod.listeners?.close();
    pod.listeners = undefined;
    if (pod.identity !== undefined) this.#options.releaseCertificate(pod.identity);
    pod.identity = undefined;
    pod.state = undefined;
    pod.tls = undefined;
    pod.told = false;
    pod.phase = "pending";
  }
}

const nobody = (_uid: string) => false;
