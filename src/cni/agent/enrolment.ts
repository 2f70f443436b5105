/**
 * A pod into the mesh and out of it: the steps and their order, reference cni.md 3.4 and 3.5.
 *
 * Invariant: whenever this stops, by an error or because the process is killed, the pod's traffic either passes ztunnel or does
 * not flow, and trying again (or the next agent, from the annotation and the journal) leads to the end. One pod is worked on by
 * one caller at a time.
 */
import { podOverrides } from "../eligibility.ts";
import type { PodNetns } from "../netns/pod_netns.ts";
import type { Redirection, RedirectionSettings } from "../redirection/redirection.ts";
import type { Clock } from "./clock.ts";
import { EnrolmentError, messageOf, type Step } from "./errors.ts";
import { KeyedLock, Semaphore } from "./gate.ts";
import type { Journal } from "./journal.ts";
import type { PodRecord, PodTable } from "./pod_table.ts";
import { type MeshPod, PodGone, podIps, type PodSource, podUid, redirectionState } from "./pods.ts";
import type { AgentCounters, HostNetwork, Namespaces, Ztunnels } from "./ports.ts";
import type { Fields, Level, Logger } from "../../telemetry/log.ts";

/** What holds for all pods that do not say otherwise. */
export interface RedirectionDefaults {
  readonly ipv6: boolean;
  readonly dnsCapture: boolean;
}

export interface EnrolmentOptions {
  readonly source: Pick<PodSource, "annotate" | "pod">;
  readonly redirection: Redirection;
  readonly ztunnels: Ztunnels;
  readonly host: HostNetwork | undefined;
  readonly namespaces: Namespaces;
  readonly journal: Journal;
  readonly table: PodTable;
  readonly defaults: RedirectionDefaults;
  readonly clock: Clock;
  readonly log: Logger;
  readonly counters: AgentCounters;
  /** Rules that are changed at once: more than there are CPUs only makes each of them later. */
  readonly concurrency: number;
}

const SCOPE = "cni-agent";

export class Enrolment {
  readonly #options: EnrolmentOptions;
  readonly #lock = new KeyedLock();
  readonly #work: Semaphore;

  constructor(options: EnrolmentOptions) {
    this.#options = options;
    this.#work = new Semaphore(options.concurrency);
  }

  /** Whether somebody works on this pod now. */
  busy(uid: string): boolean {
    return this.#lock.busy(uid);
  }

  /** Runs `task` when nobody else works on this pod, and keeps others out meanwhile. */
  exclusively<T>(uid: string, task: () => Promise<T>): Promise<T> {
    return this.#lock.run(uid, undefined, task);
  }

  /**
   * Captures the pod. `netnsPath` is the container runtime's, for a pod that is just being made.
   * Rejects with an EnrolmentError, or with the signal's reason when the caller has given up.
   */
  add(pod: MeshPod, ips: readonly string[], netnsPath: string | undefined, signal?: AbortSignal): Promise<void> {
    return this.#lock.run(podUid(pod), signal, () => this.#add(pod, ips, netnsPath, signal));
  }

  /** Releases the pod. `isDelete`: its namespace goes away with it. Rejects when it must be tried again. */
  remove(pod: MeshPod, isDelete: boolean, reason: string): Promise<void> {
    return this.#lock.run(podUid(pod), undefined, () => this.#remove(pod, isDelete, reason));
  }

  /** Kubelet's probes reach these addresses again, whatever happened to the set. */
  reassertProbes(pod: MeshPod, ips: readonly string[]): Promise<void> {
    const uid = podUid(pod);
    return this.#lock.run(uid, undefined, async () => {
      const record = this.#options.table.get(uid);
      if (record !== undefined) record.ips = ips;
      await this.#options.host?.addPod(uid, ips);
    });
  }

  /** What the pod's rules are made from, now. */
  settingsOf(pod: MeshPod): RedirectionSettings {
    const { ingress = false, dnsCapture, virtualInterfaces, warnings } = podOverrides(pod);
    for (const warning of warnings) this.#log("warn", warning, pod);
    const { defaults } = this.#options;
    return { ipv6: defaults.ipv6, dnsCapture: dnsCapture ?? defaults.dnsCapture, ingress, virtualInterfaces };
  }

  /** Puts the pod's rules in, or in order. Only while `exclusively` holds. */
  async applyRules(record: PodRecord, netns: PodNetns, settings: RedirectionSettings): Promise<void> {
    const { redirection, clock } = this.#options;
    await this.#work.run(() => redirection.apply(netns.path, settings));
    record.rules = { settings, netns: netns.identity, by: redirection.describe(), atMs: clock.wallMs() };
  }

  async #add(
    pod: MeshPod,
    ips: readonly string[],
    netnsPath: string | undefined,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const { table, namespaces, journal, ztunnels, host, source, clock, counters } = this.#options;
    const uid = podUid(pod);
    const startedMs = clock.nowMs();
    const before = table.get(uid);
    const wasCaptured = before?.rules !== undefined;
    // One more try leaves it what it was, since when it was so.
    const again = before?.phase.kind === "pending" || before?.phase.kind === "failed";
    const record = table.begin(pod, again ? before.phase : { kind: "adding" }, ips);
    this.#log(again ? "debug" : "info", "adding pod to the mesh", pod);

    namespaces.ensure(pod);
    let netns: PodNetns;
    try {
      netns = await this.#findNamespace(pod, ips, netnsPath);
      // Noted before the first rule: an agent that is killed now knows at its next start where it was.
      journal.write({
        uid,
        namespace: pod.metadata.namespace ?? "",
        name: pod.metadata.name ?? "",
        netns: netns.identity,
      });
    } catch (error) {
      this.#drop(record, wasCaptured);
      throw this.#fail(
        record,
        "namespace",
        false,
        `cannot find the pod's network namespace: ${messageOf(error)}`,
        error,
      );
    }
    if (signal?.aborted) {
      this.#drop(record, wasCaptured);
      throw this.#fail(record, "state", true, `given up: ${messageOf(signal.reason)}`, signal.reason);
    }
    try {
      await this.applyRules(record, netns, this.settingsOf(pod));
    } catch (error) {
      this.#drop(record, wasCaptured);
      throw this.#fail(record, "rules", false, `cannot set up redirection in the pod: ${messageOf(error)}`, error);
    }
    const redirectedMs = clock.nowMs() - startedMs;
    this.#log("debug", "the pod's traffic is redirected", pod, { netns: netns.identity, ms: Math.round(redirectedMs) });

    try {
      signal?.throwIfAborted();
      await ztunnels.add(pod, netns, signal);
    } catch (error) {
      // Once for each reason: without a ztunnel every pod of the node is tried again and again.
      const isNews = record.phase.kind !== "pending" || record.phase.reason !== messageOf(error);
      const text = "failed to add pod to ztunnel: pod partially added, annotating with pending status";
      this.#log(isNews ? "warn" : "debug", text, pod, { error: messageOf(error) });
      table.enter(record, { kind: "pending", reason: messageOf(error) });
      counters.enrolmentFailed("ztunnel");
      await this.#annotatePending(record);
      throw new EnrolmentError("ztunnel", true, messageOf(error), error);
    }
    const servedMs = clock.nowMs() - startedMs;
    try {
      await host?.addPod(uid, ips);
    } catch (error) {
      throw this.#fail(
        record,
        "host",
        true,
        `cannot let kubelet's probes through to the pod: ${messageOf(error)}`,
        error,
      );
    }
    try {
      await source.annotate(pod, "enabled");
    } catch (error) {
      throw this.#fail(record, "annotation", true, `cannot annotate the pod: ${messageOf(error)}`, error);
    }
    record.annotatedAtMs = clock.nowMs();
    table.enter(record, { kind: "enrolled" });
    const tookMs = clock.nowMs() - startedMs;
    counters.enrolled(redirectedMs, tookMs);
    this.#log("info", "pod added to the mesh", pod, {
      "redirected.ms": Math.round(redirectedMs),
      "served.ms": Math.round(servedMs),
      ms: Math.round(tookMs),
    });
  }

  async #findNamespace(pod: MeshPod, ips: readonly string[], path: string | undefined): Promise<PodNetns> {
    const { namespaces } = this.#options;
    const uid = podUid(pod);
    if (path !== undefined) return await namespaces.open(pod, path);
    const known = namespaces.get(uid);
    if (known !== undefined) return known;
    const found = (await namespaces.find(new Map([[uid, ips]]))).get(uid);
    if (found === undefined) throw new Error("no process of the node runs in a namespace of this pod with its address");
    return found;
  }

  /** A pod that could not be set up is not ztunnel's; one that was captured before stays so. */
  #drop(record: PodRecord, wasCaptured: boolean): void {
    if (!wasCaptured) this.#options.namespaces.take(record.uid)?.release();
  }

  #fail(record: PodRecord, step: Step, retryable: boolean, message: string, cause: unknown): EnrolmentError {
    this.#options.table.enter(record, { kind: "failed", reason: message, captured: record.rules !== undefined });
    this.#options.counters.enrolmentFailed(step);
    return new EnrolmentError(step, retryable, message, cause);
  }

  async #annotatePending(record: PodRecord): Promise<void> {
    const { source } = this.#options;
    const { namespace = "", name = "" } = record.pod.metadata;
    const current = source.pod(namespace, name) ?? record.pod;
    if (podUid(current) === record.uid && redirectionState(current) === "pending") return;
    try {
      await source.annotate(record.pod, "pending");
    } catch (error) {
      if (!(error instanceof PodGone)) {
        this.#log("warn", "cannot annotate the pod as pending", record.pod, { error: messageOf(error) });
      }
    }
  }

  async #remove(pod: MeshPod, isDelete: boolean, reason: string): Promise<void> {
    const { table, namespaces, ztunnels, host, journal } = this.#options;
    const uid = podUid(pod);
    const ips = [...new Set([...podIps(pod), ...(table.get(uid)?.ips ?? [])])];
    const record = table.begin(pod, { kind: "removing", reason }, ips);
    this.#log("info", "removing pod from the mesh", pod);
    const problems: string[] = [];

    try {
      await host?.removePod(uid, ips);
    } catch (error) {
      problems.push(`cannot take the pod out of the node's probe set: ${messageOf(error)}`);
    }
    if (!isDelete && record.leaving === undefined && namespaces.get(uid) === undefined) {
      // An earlier agent may have set it up.
      await namespaces.find(new Map([[uid, ips]])).catch((error) => {
        this.#log("warn", "cannot look for the pod's network namespace", pod, { error: messageOf(error) });
      });
    }
    // Kept until its rules are out: a second try needs it.
    record.leaving ??= namespaces.take(uid);
    if (record.leaving !== undefined) {
      try {
        const { path } = record.leaving;
        if (!isDelete) await this.#work.run(() => this.#options.redirection.remove(path));
        record.leaving.release();
        record.leaving = undefined;
        record.rules = undefined;
      } catch (error) {
        problems.push(`cannot remove the pod's rules: ${messageOf(error)}`);
      }
    }
    try {
      await ztunnels.del(uid);
    } catch (error) {
      problems.push(`ztunnel did not let go of the pod: ${messageOf(error)}`);
    }
    if (problems.length > 0) {
      const message = problems.join("; ");
      table.enter(record, { kind: "removing", reason: `${reason}; not through: ${message}` });
      throw new EnrolmentError("state", true, message);
    }
    await this.#removeAnnotation(pod, isDelete);
    journal.forget(uid);
    table.delete(uid);
    this.#log("info", "pod removed from the mesh", pod, { reason });
  }

  async #removeAnnotation(pod: MeshPod, isDelete: boolean): Promise<void> {
    const { source } = this.#options;
    const { namespace = "", name = "" } = pod.metadata;
    const current = source.pod(namespace, name);
    // One that is gone, or whose name is another's now, has nothing to be changed.
    if (isDelete && (current === undefined || podUid(current) !== podUid(pod))) return;
    try {
      await source.annotate(pod, null);
    } catch (error) {
      if (error instanceof PodGone) return;
      if (!isDelete) {
        throw new EnrolmentError("annotation", true, `cannot remove the annotation: ${messageOf(error)}`, error);
      }
      this.#log("warn", "cannot remove the annotation of a pod that has ended", pod, { error: messageOf(error) });
    }
  }

  #log(level: Level, message: string, pod: MeshPod, fields: Fields = {}): void {
    const { namespace: ns, name } = pod.metadata;
    this.#options.log.log(level, SCOPE, message, { ns, name, uid: podUid(pod), ...fields });
  }
}
