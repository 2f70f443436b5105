/**
 * The node agent's core: pods come from a source, are captured in their namespaces, told to ztunnel and kept in order. It knows
 * no API server, no file of a CNI configuration and no socket: `ambit cni` and `ambit local --cni` both run it.
 *
 *   createNodeAgent(options).start()   informers' first state → snapshot → queue; then ztunnels may be accepted
 *   enroll(event, signal)              a pod that is just being made: resolves when its traffic is captured
 */
import { podIps } from "./pods.ts";
import type { CniAddEvent } from "../plugin_event.ts";
import type { Redirection } from "../redirection/redirection.ts";
import type { Logger } from "../../telemetry/log.ts";
import type { Clock } from "./clock.ts";
import { sleep } from "./clock.ts";
import { Controller, type MeshRules } from "./controller.ts";
import { Enrolment, type RedirectionDefaults } from "./enrolment.ts";
import { EnrolmentError, messageOf } from "./errors.ts";
import { EventThrottle } from "./event_throttle.ts";
import { Semaphore } from "./gate.ts";
import { Healer } from "./healer.ts";
import type { Journal, Note } from "./journal.ts";
import { PodTable } from "./pod_table.ts";
import {
  isTerminal,
  isZtunnel,
  type MeshNamespace,
  type MeshPod,
  podKey,
  type PodSource,
  podUid,
  redirectionState,
} from "./pods.ts";
import type { AgentCounters, HostNetwork, Namespaces, Ztunnels } from "./ports.ts";
import { reportPods } from "./report.ts";
import type { PodReport } from "./status.ts";

export interface NodeAgentOptions {
  readonly source: PodSource;
  readonly rules: MeshRules;
  readonly redirection: Redirection;
  readonly defaults: RedirectionDefaults;
  readonly ztunnels: Ztunnels;
  /** Undefined: nobody probes pods from the node. */
  readonly host: HostNetwork | undefined;
  readonly namespaces: Namespaces;
  readonly journal: Journal;
  /** Bring the rules of captured pods up to date at the start, whether or not anything else asks for it. */
  readonly reconcileOnStartup: boolean;
  /** From one look at a captured pod to the next; 0: never. */
  readonly verifyIntervalMs: number;
  readonly hostVerifyIntervalMs: number;
  /** Rules that are changed at once. */
  readonly concurrency: number;
  readonly clock: Clock;
  readonly log: Logger;
  readonly counters: AgentCounters;
}

export interface NodeAgent {
  /** Resolves when captured pods are known again and events are handled. */
  start(): Promise<void>;
  /** Begins nothing more and resolves when what runs has ended. Rules, annotations and namespaces stay. */
  stop(): Promise<void>;
  /** A pod that is just being made. Rejects when its traffic is not captured, also when the signal says that nobody waits. */
  enroll(event: CniAddEvent, signal: AbortSignal): Promise<void>;
  /** A ztunnel has got its snapshot: what waits for one is tried now. */
  ztunnelReady(): void;
  /** Every pod of the node. */
  pods(): readonly PodReport[];
  readonly healer: Healer;
  /** Pods whose events wait. */
  readonly queueLength: number;
}

const SCOPE = "cni-agent";
/** The informer may be a little behind kubelet. */
const LOOKUP_TRIES = 10;
const LOOKUP_PAUSE_MS = 10;

export function createNodeAgent(options: NodeAgentOptions): NodeAgent {
  const { source, clock, log, counters, journal, namespaces, ztunnels, host, redirection } = options;
  const table = new PodTable(clock);
  const throttle = new EventThrottle(clock);
  const tell = (pod: MeshPod, reason: string, message: string) => {
    if (throttle.admit(podUid(pod), reason, message)) void source.event(pod, { type: "Warning", reason, message });
  };
  const enrolment = new Enrolment({ ...options, table });
  const failed = (pod: MeshPod, error: unknown) => {
    const removing = table.get(podUid(pod))?.phase.kind === "removing";
    tell(pod, removing ? "AmbientRemovalFailed" : "AmbientEnrollmentFailed", messageOf(error));
  };
  const controller = new Controller({ ...options, enrolment, table, failed });
  const healer = new Healer({
    ...options,
    controller,
    enrolment,
    table,
    intervalMs: options.verifyIntervalMs,
    hostIntervalMs: options.hostVerifyIntervalMs,
    persists: (pod, what) => tell(pod, "AmbientDrift", what),
  });
  let started = false;

  /** What an earlier agent has set up is known again, before a ztunnel asks. */
  async function restore(): Promise<void> {
    const notes = new Map(readNotes().map((note) => [note.uid, note]));
    adoptLeftovers(notes);
    const pods = controller.enrolledPods();
    const wanted = new Map(pods.map((pod) => [podUid(pod), podIps(pod)]));
    try {
      await host?.sync(pods.map((pod) => ({ uid: podUid(pod), ips: podIps(pod) })));
    } catch (error) {
      log.log("warn", SCOPE, "cannot restore the set of pods that kubelet probes; it is tried again", {
        error: messageOf(error),
      });
    }
    for (const pod of pods) {
      namespaces.ensure(pod);
      if (table.get(podUid(pod)) === undefined) table.begin(pod, { kind: "enrolled" }, podIps(pod));
    }
    try {
      await namespaces.find(wanted);
    } catch (error) {
      log.log("error", SCOPE, "cannot look for the network namespaces of captured pods", { error: messageOf(error) });
    }
    const work = new Semaphore(options.concurrency);
    await Promise.all(pods.map((pod) => work.run(() => restoreRules(pod, notes.get(podUid(pod))))));
  }

  function readNotes(): readonly Note[] {
    try {
      return journal.read();
    } catch (error) {
      log.log("error", SCOPE, "cannot read the notes of the agent before", { error: messageOf(error) });
      return [];
    }
  }

  /** Pods an earlier agent was in the middle of: their annotation does not say so, and their rules may be in. */
  function adoptLeftovers(notes: ReadonlyMap<string, Note>): void {
    for (const note of notes.values()) {
      const pod = source.pod(note.namespace, note.name);
      if (pod === undefined || podUid(pod) !== note.uid) {
        journal.forget(note.uid);
        continue;
      }
      if (redirectionState(pod) === "enabled") continue;
      const reason = "an earlier agent ended while it worked on this pod";
      if (table.get(note.uid) === undefined) table.begin(pod, { kind: "failed", reason, captured: true }, podIps(pod));
      controller.reconsider(pod);
    }
  }

  /** After a reboot, or in another sandbox, nothing is left of what the annotation promises. */
  async function restoreRules(pod: MeshPod, note: Note | undefined): Promise<void> {
    const uid = podUid(pod);
    const netns = namespaces.get(uid);
    const rebooted = note !== undefined && note.bootId !== journal.bootId;
    const moved = note !== undefined && netns !== undefined && !rebooted && note.netns !== netns.identity;
    if (netns === undefined) {
      log.log("info", SCOPE, "no network namespace found for a captured pod: ztunnel keeps what it has of it", {
        pod: podKey(pod),
        uid,
      });
      return;
    }
    if (rebooted || moved) {
      counters.drifted("namespace");
      log.log(
        "warn",
        SCOPE,
        `${rebooted ? "the node was rebooted" : "the pod's sandbox was replaced"}: capturing it again`,
        {
          pod: podKey(pod),
          uid,
        },
      );
    } else if (!options.reconcileOnStartup && (note !== undefined || options.verifyIntervalMs === 0)) return;
    // Without a note nobody knows whether the node was rebooted: the run directory may be memory.
    await enrolment.exclusively(uid, async () => {
      const record = table.get(uid);
      if (record?.phase.kind !== "enrolled" || namespaces.get(uid) !== netns) return;
      const settings = enrolment.settingsOf(pod);
      try {
        journal.write({
          uid,
          namespace: pod.metadata.namespace ?? "",
          name: pod.metadata.name ?? "",
          netns: netns.identity,
        });
        if ((await redirection.verify(netns.path, settings)).length > 0) {
          await enrolment.applyRules(record, netns, settings);
        } else record.rules = { settings, netns: netns.identity, by: redirection.describe(), atMs: undefined };
        if (rebooted || moved) counters.repaired("namespace", true);
      } catch (error) {
        if (rebooted || moved) counters.repaired("namespace", false);
        const advice =
          "failed to reconcile inpod rules for pod, try restarting the pod, or removing and re-adding it to the mesh";
        log.log("error", SCOPE, advice, { pod: podKey(pod), uid, error: messageOf(error) });
        tell(pod, "AmbientDrift", messageOf(error));
      }
    });
  }

  /** The pod the container runtime speaks of, which the informer may not know yet, or may take for the one before of that name. */
  async function lookUp(event: CniAddEvent, signal: AbortSignal): Promise<MeshPod> {
    for (let attempt = 0; started && attempt < LOOKUP_TRIES; attempt++) {
      const known = source.pod(event.podNamespace, event.podName);
      if (known !== undefined && isLikelyNew(known)) return known;
      if (known !== undefined) break;
      await sleep(clock, LOOKUP_PAUSE_MS, signal);
    }
    const asked = await source.fetchPod(event.podNamespace, event.podName, signal);
    if (asked === undefined) throw new Error(`there is no pod ${event.podNamespace}/${event.podName}`);
    return asked;
  }

  /** A pod that is ending, or captured already, may have a successor of the same name. */
  function isLikelyNew(pod: MeshPod): boolean {
    return pod.metadata.deletionTimestamp === undefined && !isTerminal(pod) &&
      table.get(podUid(pod))?.phase.kind !== "enrolled";
  }

  async function enroll(event: CniAddEvent, signal: AbortSignal): Promise<void> {
    const pod = await lookUp(event, signal);
    const namespace: MeshNamespace | undefined = source.namespace(event.podNamespace) ??
      await source.fetchNamespace(event.podNamespace, signal);
    if (namespace === undefined) throw new Error(`there is no namespace ${event.podNamespace}`);
    if (isZtunnel(pod, options.rules.systemNamespace)) {
      return log.log("warn", SCOPE, "a ztunnel cannot be captured by itself: it is left alone", { pod: podKey(pod) });
    }
    const { eligible, reason } = controller.judge(pod, namespace);
    if (!eligible) throw new Error(`pod ${podKey(pod)} is unexpectedly not eligible for the mesh: ${reason}`);
    const ips = event.ips.length > 0 ? event.ips : podIps(pod);
    try {
      await enrolment.add(pod, ips, event.netns, signal);
    } catch (error) {
      if (!signal.aborted || error instanceof EnrolmentError) failed(pod, error);
      throw error;
    }
  }

  return {
    async start() {
      await source.start(controller);
      await restore();
      started = true;
      controller.queue.start();
      healer.start();
    },
    async stop() {
      healer.stop();
      source.stop();
      await controller.queue.stop();
    },
    enroll,
    ztunnelReady() {
      for (const record of table.records()) {
        if (record.phase.kind !== "pending") continue;
        const { namespace = "", name = "" } = record.pod.metadata;
        const pod = source.pod(namespace, name);
        if (pod !== undefined && podUid(pod) === record.uid) controller.reconsider(pod);
      }
    },
    pods: () => reportPods({ source, controller, table, namespaces, ztunnels }),
    healer,
    get queueLength() {
      return controller.queue.size;
    },
  };
}
