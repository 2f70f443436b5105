/** The pods of one node of a mesh file, as the node agent sees pods: with labels, a status, and an annotation that says whether they are captured. */
import { REDIRECTION_ANNOTATION } from "../cni/eligibility.ts";
import {
  type MeshNamespace,
  type MeshPod,
  type PodEvent,
  PodGone,
  podKey,
  type PodSource,
  type PodSourceEvents,
  podUid,
  type RedirectionState,
} from "../cni/agent/pods.ts";
import type { PlannedPod } from "./change_plan.ts";

const MODE_LABEL = "istio.io/dataplane-mode";

export class FilePods implements PodSource {
  readonly #pods = new Map<string, MeshPod>();
  readonly #namespaces = new Map<string, MeshNamespace>();
  readonly #tell: (pod: MeshPod, event: PodEvent) => void;
  readonly #changed: () => void;
  readonly #waiting = new Set<() => void>();
  #events: PodSourceEvents | undefined;

  /** `changed`: a pod's annotation is another one now. */
  constructor(tell: (pod: MeshPod, event: PodEvent) => void, changed: () => void) {
    this.#tell = tell;
    this.#changed = changed;
  }

  /** The pod as the file has it now. */
  put(planned: PlannedPod): void {
    if (!this.#namespaces.has(planned.namespace)) {
      const namespace = { metadata: { name: planned.namespace, labels: { [MODE_LABEL]: "ambient" } } };
      this.#namespaces.set(planned.namespace, namespace);
      this.#events?.namespaceAdded(namespace);
    }
    const before = this.#pods.get(planned.uid);
    const pod = toMeshPod(planned, before?.metadata.annotations ?? {});
    this.#pods.set(planned.uid, pod);
    if (before === undefined) this.#events?.podAdded(pod);
    else this.#events?.podUpdated(before, pod);
  }

  drop(uid: string): void {
    const pod = this.#pods.get(uid);
    if (pod === undefined) return;
    this.#pods.delete(uid);
    this.#events?.podDeleted(pod);
  }

  state(uid: string): RedirectionState {
    const value = this.#pods.get(uid)?.metadata.annotations?.[REDIRECTION_ANNOTATION];
    return value === "enabled" || value === "pending" ? value : null;
  }

  /** Resolves when the pod's annotation is `state`. Rejects when it does not come to that in time. */
  async reached(uid: string, state: RedirectionState, timeoutMs: number): Promise<void> {
    const deadlineMs = performance.now() + timeoutMs;
    while (this.#pods.has(uid) && this.state(uid) !== state) {
      const leftMs = deadlineMs - performance.now();
      if (leftMs <= 0) {
        throw new Error(`pod ${uid} is not ${state === null ? "let go" : "captured"} after ${timeoutMs} ms`);
      }
      await new Promise<void>((resolve) => {
        const end = () => {
          clearTimeout(timer);
          this.#waiting.delete(end);
          resolve();
        };
        const timer = setTimeout(end, leftMs);
        this.#waiting.add(end);
      });
    }
  }

  // ---- what the agent asks

  async start(events: PodSourceEvents): Promise<void> {
    this.#events = events;
    for (const namespace of this.#namespaces.values()) events.namespaceAdded(namespace);
    for (const pod of this.#pods.values()) events.podAdded(pod);
  }

  pod(namespace: string, name: string): MeshPod | undefined {
    const key = `${namespace}/${name}`;
    for (const pod of this.#pods.values()) if (podKey(pod) === key) return pod;
    return undefined;
  }

  pods(): readonly MeshPod[] {
    return [...this.#pods.values()];
  }

  namespace(name: string): MeshNamespace | undefined {
    return this.#namespaces.get(name);
  }

  async fetchPod(namespace: string, name: string): Promise<MeshPod | undefined> {
    return this.pod(namespace, name);
  }

  async fetchNamespace(name: string): Promise<MeshNamespace | undefined> {
    return this.namespace(name);
  }

  async annotate(pod: MeshPod, state: RedirectionState): Promise<void> {
    const before = this.#pods.get(podUid(pod));
    if (before === undefined) throw new PodGone(`there is no pod ${podKey(pod)}`);
    const { [REDIRECTION_ANNOTATION]: _, ...others } = before.metadata.annotations ?? {};
    const annotations = state === null ? others : { ...others, [REDIRECTION_ANNOTATION]: state };
    const after = { ...before, metadata: { ...before.metadata, annotations } };
    this.#pods.set(podUid(pod), after);
    this.#events?.podUpdated(before, after);
    for (const end of [...this.#waiting]) end();
    this.#changed();
  }

  async event(pod: MeshPod, event: PodEvent): Promise<void> {
    this.#tell(pod, event);
  }

  stop(): void {
    this.#events = undefined;
  }
}

function toMeshPod(pod: PlannedPod, annotations: Readonly<Record<string, string>>): MeshPod {
  const { uid, name, namespace, serviceAccount, node, addresses, captured, labels } = pod;
  // `captured: false` of the file says the same as the label.
  const mode: Record<string, string> = captured ? {} : { [MODE_LABEL]: "none" };
  return {
    metadata: { uid, name, namespace, labels: { ...labels, ...mode }, annotations },
    spec: { nodeName: node, serviceAccountName: serviceAccount },
    status: { phase: "Running", podIP: addresses[0] ?? "", podIPs: addresses.map((ip) => ({ ip })) },
  };
}
