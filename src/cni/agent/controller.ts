/**
 * What an informer's event means for a pod, reference cni.md 3.1, 3.3 and 3.6: pure of any mechanism. Whether a pod is captured
 * is what its annotation says, corrected by what this agent has done itself a moment ago.
 */
import { type Eligibility, type EnablementSelector, judgePod, namespaceMatchesAny } from "../eligibility.ts";
import type { Logger } from "../../telemetry/log.ts";
import type { Clock } from "./clock.ts";
import type { Enrolment } from "./enrolment.ts";
import { EnrolmentError, messageOf } from "./errors.ts";
import type { PodTable } from "./pod_table.ts";
import type { AgentCounters } from "./ports.ts";
import {
  isTerminal,
  isZtunnel,
  type MeshNamespace,
  type MeshPod,
  podIps,
  podKey,
  type PodSource,
  type PodSourceEvents,
  podUid,
  redirectionState,
  sameIps,
} from "./pods.ts";
import { WorkQueue } from "./work_queue.ts";

/** Which pods belong into the mesh. */
export interface MeshRules {
  readonly selectors: readonly EnablementSelector[];
  readonly excludedNamespaces: ReadonlySet<string>;
  readonly systemNamespace: string;
}

export interface ControllerOptions {
  readonly source: PodSource;
  readonly rules: MeshRules;
  readonly enrolment: Enrolment;
  readonly table: PodTable;
  readonly clock: Clock;
  readonly log: Logger;
  readonly counters: AgentCounters;
  /** A pod could not be taken into the mesh, or out of it. */
  readonly failed: (pod: MeshPod, error: unknown) => void;
}

export type QueueItem =
  | { readonly kind: "update"; readonly before: MeshPod; readonly after: MeshPod; readonly added: boolean }
  | { readonly kind: "delete"; readonly pod: MeshPod };

/** Pods whose events are handled at once. Most of that time is waiting: for ztunnel, for the API server. */
const CONCURRENCY = 8;
/** How old the pod in the cache may be after this agent has annotated it. */
const ANNOTATION_LAG_MS = 5_000;
const SCOPE = "cni-agent";

export class Controller implements PodSourceEvents {
  readonly #options: ControllerOptions;
  readonly queue: WorkQueue<QueueItem>;

  constructor(options: ControllerOptions) {
    this.#options = options;
    this.queue = new WorkQueue<QueueItem>({
      clock: options.clock,
      concurrency: CONCURRENCY,
      handle: (item) => this.#handle(item),
      merge: mergeItems,
      retrying: (item, error, attempt, delayMs) => {
        const { pod } = item.kind === "delete" ? item : { pod: item.after };
        options.failed(pod, error);
        const level = attempt <= 3 || attempt % 20 === 0 ? "warn" : "debug";
        this.#log(level, `failed to process ${item.kind} of pod, will try again`, pod, {
          error: messageOf(error),
          attempt,
          "retry.ms": Math.round(delayMs),
        });
      },
    });
  }

  /** Whether a pod belongs into the mesh, and why. */
  judge(pod: MeshPod, namespace: MeshNamespace): Eligibility {
    const { selectors, excludedNamespaces, systemNamespace } = this.#options.rules;
    if (isZtunnel(pod, systemNamespace)) return { eligible: false, reason: "it is a ztunnel" };
    return judgePod(pod, namespace.metadata.labels ?? {}, selectors, excludedNamespaces);
  }

  podAdded(pod: MeshPod): void {
    this.#enqueue(pod, pod, true);
  }

  podUpdated(before: MeshPod, after: MeshPod): void {
    // The same name may be another pod's by now, when the watch has missed the time between.
    if (podUid(before) !== podUid(after)) {
      this.podDeleted(before);
      return this.podAdded(after);
    }
    this.#enqueue(before, after, false);
  }

  podDeleted(last: MeshPod): void {
    this.queue.add(podUid(last), { kind: "delete", pod: last });
  }

  namespaceAdded(namespace: MeshNamespace): void {
    const name = namespace.metadata.name ?? "";
    const { rules } = this.#options;
    if (rules.excludedNamespaces.has(name) && namespaceMatchesAny(namespace.metadata.labels ?? {}, rules.selectors)) {
      this.#options.log.log(
        "warn",
        SCOPE,
        "the namespace is labelled for the mesh and excluded: its pods are left alone",
        {
          ns: name,
        },
      );
    }
    for (const pod of this.#podsOf(name)) this.#enqueue(pod, pod, false);
  }

  /** Not only when the namespace's own labels begin or cease to match: a selector may look at both at once. */
  namespaceUpdated(before: MeshNamespace, after: MeshNamespace): void {
    if (sameLabels(before.metadata.labels, after.metadata.labels)) return;
    this.namespaceAdded(after);
  }

  /** Pods the annotation says are captured, for the start (3.6). Those of other namespaces' rules are sorted out by their events. */
  enrolledPods(): readonly MeshPod[] {
    return this.#options.source.pods().filter((pod) =>
      redirectionState(pod) === "enabled" && !isTerminal(pod) && !isZtunnel(pod, this.#options.rules.systemNamespace)
    );
  }

  /** The pod is looked at anew, as if something had changed. */
  reconsider(pod: MeshPod): void {
    this.#enqueue(pod, pod, false);
  }

  #podsOf(namespace: string): readonly MeshPod[] {
    return this.#options.source.pods().filter((pod) =>
      pod.metadata.namespace === namespace && !isZtunnel(pod, this.#options.rules.systemNamespace)
    );
  }

  #enqueue(before: MeshPod, after: MeshPod, added: boolean): void {
    this.queue.add(podUid(after), { kind: "update", before, after, added });
  }

  async #handle(item: QueueItem): Promise<void> {
    if (item.kind === "delete") {
      this.#options.counters.reconciled("delete");
      return await this.#delete(item.pod);
    }
    this.#options.counters.reconciled(item.added ? "add" : "update");
    await this.#update(item.before, podUid(item.after));
  }

  async #update(before: MeshPod, uid: string): Promise<void> {
    const { source, enrolment, log } = this.#options;
    const { namespace: namespaceName = "", name = "" } = before.metadata;
    const pod = source.pod(namespaceName, name);
    if (pod === undefined || podUid(pod) !== uid) {
      return log.log("debug", SCOPE, "the pod is gone: its update is skipped", { ns: namespaceName, name, uid });
    }
    const terminal = isTerminal(pod);
    const { enrolled, partial } = this.#stateOf(pod);
    if ((enrolled || partial) && terminal) {
      // Its addresses may be gone from the status already.
      return await enrolment.remove(before, true, "the pod has ended");
    }
    const namespace = source.namespace(namespaceName);
    if (namespace === undefined) {
      if (pod.metadata.deletionTimestamp !== undefined) return;
      throw new EnrolmentError("state", true, `failed to find namespace ${namespaceName}`);
    }
    const { eligible, reason } = this.judge(pod, namespace);
    const ips = podIps(pod);
    if (enrolled && eligible && !terminal && ips.length > 0 && !sameIps(ips, podIps(before))) {
      await enrolment.reassertProbes(pod, ips);
    }
    if (enrolled === eligible && !partial) return;
    if (terminal) return;
    if (!eligible) return await enrolment.remove(pod, false, reason);
    if (ips.length === 0) return;
    try {
      await enrolment.add(pod, ips, undefined);
    } catch (error) {
      if (!(error instanceof EnrolmentError) || error.retryable) throw error;
      this.#options.failed(pod, error);
      this.#log("error", "failed to add pod to the mesh, will not try again before something changes", pod, {
        error: error.message,
      });
    }
  }

  async #delete(pod: MeshPod): Promise<void> {
    const { source, enrolment, table } = this.#options;
    const uid = podUid(pod);
    const namespace = source.namespace(pod.metadata.namespace ?? "");
    // One that only matches may be half set up; and whatever this agent holds of it must go, also when its namespace is gone.
    const touched = redirectionState(pod) !== null || table.get(uid) !== undefined;
    const eligible = namespace === undefined || this.judge(pod, namespace).eligible;
    if (touched || eligible) await enrolment.remove(pod, true, "the pod is deleted");
  }

  /** The annotation, or what it will be when the cache has caught up with this agent. */
  #stateOf(pod: MeshPod): { readonly enrolled: boolean; readonly partial: boolean } {
    const state = redirectionState(pod);
    const record = this.#options.table.get(podUid(pod));
    const fresh = record !== undefined && this.#options.clock.nowMs() - record.annotatedAtMs < ANNOTATION_LAG_MS;
    if (record?.phase.kind === "enrolled" && fresh) return { enrolled: true, partial: false };
    // Half set up by this agent, whether or not it could be annotated.
    const half = record?.phase.kind === "pending" || (record?.phase.kind === "failed" && record.phase.captured);
    return { enrolled: state === "enabled", partial: state === "pending" || half };
  }

  #log(
    level: "debug" | "warn" | "error",
    message: string,
    pod: MeshPod,
    fields: Record<string, string | number>,
  ): void {
    this.#options.log.log(level, SCOPE, message, { pod: podKey(pod), uid: podUid(pod), ...fields });
  }
}

/** A deletion ends all; of updates the whole step counts. */
export function mergeItems(waiting: QueueItem, incoming: QueueItem): QueueItem {
  if (incoming.kind === "delete") return incoming;
  if (waiting.kind === "delete") return waiting;
  return { kind: "update", before: waiting.before, after: incoming.after, added: waiting.added };
}

function sameLabels(
  a: Readonly<Record<string, string>> | undefined,
  b: Readonly<Record<string, string>> | undefined,
): boolean {
  const x = Object.entries(a ?? {});
  return x.length === Object.keys(b ?? {}).length && x.every(([name, value]) => b?.[name] === value);
}
