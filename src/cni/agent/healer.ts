/**
 * Self-healing: every captured pod is looked at again and again, and what is not as it was set up is put right: its network
 * namespace (a sandbox that was made anew), its rules, ztunnel's word that it serves the pod, its annotation; and the node's own
 * rules and sets. One pod after the other, spread over the interval, and never for more than a twentieth of a CPU.
 */
import type { Logger } from "../../telemetry/log.ts";
import type { Clock } from "./clock.ts";
import type { Controller } from "./controller.ts";
import type { Enrolment } from "./enrolment.ts";
import { messageOf } from "./errors.ts";
import { Findings } from "./findings.ts";
import type { PodRecord, PodTable } from "./pod_table.ts";
import { isTerminal, type MeshPod, podKey, type PodSource, podUid, redirectionState } from "./pods.ts";
import type { PodNetns } from "../netns/pod_netns.ts";
import type { Redirection } from "../redirection/redirection.ts";
import type { AgentCounters, HostNetwork, Namespaces, Ztunnels } from "./ports.ts";

export interface HealerOptions {
  readonly source: PodSource;
  readonly controller: Controller;
  readonly enrolment: Enrolment;
  readonly table: PodTable;
  readonly redirection: Redirection;
  readonly namespaces: Namespaces;
  readonly ztunnels: Ztunnels;
  readonly host: HostNetwork | undefined;
  readonly clock: Clock;
  readonly log: Logger;
  readonly counters: AgentCounters;
  /** From one look at a pod to the next; 0: never. */
  readonly intervalMs: number;
  readonly hostIntervalMs: number;
  /** A pod stays, or falls again and again, out of order. */
  readonly persists: (pod: MeshPod, what: string) => void;
}

/** A look that took so long is followed by a pause of so many times that. */
const PAUSE_FACTOR = 19;
/** How old the pod in the cache may be after this agent has annotated it. */
const ANNOTATION_LAG_MS = 5_000;
const SCOPE = "cni-agent";

export class Healer {
  readonly #options: HealerOptions;
  /** Namespaces that one look found other than the cache's: a second look decides, for a sandbox may just be replaced. */
  readonly #suspected = new Map<string, string>();
  /** Of pods that are to be looked at in this round. */
  #round: string[] = [];
  #roundStartedMs = 0;
  #slotMs = 0;
  #cancelPods: (() => void) | undefined;
  #cancelHost: (() => void) | undefined;
  #stopped = false;
  /** What was wrong with the node's own rules at the last look. */
  hostState:
    | { readonly wallMs: number; readonly drift: readonly string[]; readonly problem: string | undefined }
    | undefined;

  constructor(options: HealerOptions) {
    this.#options = options;
  }

  start(): void {
    const { intervalMs, hostIntervalMs, host } = this.#options;
    if (intervalMs > 0) this.#schedulePods(intervalMs);
    if (hostIntervalMs > 0 && host !== undefined) this.#scheduleHost();
  }

  stop(): void {
    this.#stopped = true;
    this.#cancelPods?.();
    this.#cancelHost?.();
  }

  /** Looks at all pods now, without pauses. */
  async verifyAll(): Promise<void> {
    await this.#beginRound();
    for (const uid of this.#round.splice(0)) await this.verify(uid);
  }

  /** Looks at one captured pod and puts it right. */
  async verify(uid: string): Promise<void> {
    const { enrolment, table, clock, counters, log } = this.#options;
    // Whoever works on it now leaves it in order.
    if (enrolment.busy(uid)) return;
    const startedMs = clock.nowMs();
    await enrolment.exclusively(uid, async () => {
      const record = table.get(uid);
      if (record?.phase.kind !== "enrolled") return;
      const found = new Findings(this.#options, record);
      try {
        await this.#verifyEnrolled(record, found);
      } catch (error) {
        found.problem(`cannot be verified: ${messageOf(error)}`);
        log.log("warn", SCOPE, "cannot verify a captured pod", {
          pod: podKey(record.pod),
          uid,
          error: messageOf(error),
        });
      }
      found.close(clock.wallMs());
    });
    counters.verified(clock.nowMs() - startedMs);
  }

  /** The node's own rules and sets. */
  async verifyHost(): Promise<void> {
    const { host, log, counters, clock } = this.#options;
    if (host === undefined) return;
    let drift: readonly string[] = [];
    let problem: string | undefined;
    try {
      drift = await host.verify();
      // A pod that was being added while it looked is no drift.
      if (drift.length > 0) {
        const still = new Set(await host.verify());
        drift = drift.filter((line) => still.has(line));
      }
      if (drift.length > 0) {
        counters.drifted("host");
        log.log("warn", SCOPE, "the node's rules for kubelet's probes are not as they were set up: repairing", {
          component: "host",
          drift: drift.join("; "),
        });
        await host.repair();
        counters.repaired("host", true);
      }
    } catch (error) {
      problem = messageOf(error);
      if (drift.length > 0) counters.repaired("host", false);
      log.log("error", SCOPE, "cannot verify or repair the node's rules for kubelet's probes", {
        component: "host",
        error: problem,
      });
    }
    this.hostState = { wallMs: clock.wallMs(), drift, problem };
  }

  #schedulePods(delayMs: number): void {
    if (this.#stopped) return;
    this.#cancelPods = this.#options.clock.schedule(() => void this.#turn(), delayMs);
  }

  #scheduleHost(): void {
    if (this.#stopped) return;
    const { clock, hostIntervalMs } = this.#options;
    this.#cancelHost = clock.schedule(async () => {
      const startedMs = clock.nowMs();
      await this.verifyHost();
      // A machine that is that slow has other worries.
      const tookMs = clock.nowMs() - startedMs;
      this.#cancelHost = clock.schedule(
        () => this.#scheduleHost(),
        Math.max(0, tookMs * PAUSE_FACTOR - hostIntervalMs),
      );
    }, hostIntervalMs);
  }

  /** One pod of the round, or the beginning of the next round. */
  async #turn(): Promise<void> {
    const { clock, intervalMs, log } = this.#options;
    const startedMs = clock.nowMs();
    try {
      const uid = this.#round.shift();
      if (uid !== undefined) await this.verify(uid);
      else await this.#beginRound();
    } catch (error) {
      log.log("error", SCOPE, "a round of verification failed", { error: messageOf(error) });
    }
    const pauseMs = (clock.nowMs() - startedMs) * PAUSE_FACTOR;
    const restMs = this.#round.length > 0 ? this.#slotMs : this.#roundStartedMs + intervalMs - clock.nowMs();
    this.#schedulePods(Math.max(pauseMs, restMs, 1));
  }

  async #beginRound(): Promise<void> {
    const { table, source, controller, clock, intervalMs, namespaces } = this.#options;
    this.#roundStartedMs = clock.nowMs();
    const enrolled = [...table.records()].filter(({ phase }) => phase.kind === "enrolled");
    this.#round = enrolled.map(({ uid }) => uid);
    this.#slotMs = intervalMs / Math.max(1, enrolled.length + 1);
    // What has failed for good may work now; what was missed is found.
    for (const pod of source.pods()) {
      if (isTerminal(pod)) continue;
      const record = table.get(podUid(pod));
      if (record === undefined ? redirectionState(pod) === null : record.phase.kind === "failed") {
        controller.reconsider(pod);
      }
    }
    if (enrolled.length === 0) return;
    const now = await namespaces.look(new Map(enrolled.map(({ uid, ips }) => [uid, ips])));
    for (const { uid } of enrolled) {
      const identity = now.get(uid);
      const cached = namespaces.get(uid)?.identity;
      if (identity === undefined || cached === undefined || identity === cached) this.#suspected.delete(uid);
      else if (this.#suspected.get(uid) === identity) await this.#adopt(uid, cached, identity);
      else this.#suspected.set(uid, identity);
    }
  }

  /** The pod lives in another namespace than the one that was set up: it is captured there from the beginning. */
  async #adopt(uid: string, before: string, after: string): Promise<void> {
    const { table, log, counters, namespaces, enrolment } = this.#options;
    this.#suspected.delete(uid);
    const record = table.get(uid);
    if (record === undefined || enrolment.busy(uid)) return;
    counters.drifted("namespace");
    log.log("warn", SCOPE, "the pod has another network namespace than the one that was set up: capturing it there", {
      pod: podKey(record.pod),
      uid,
      before,
      after,
    });
    const { pod, ips } = record;
    try {
      await enrolment.exclusively(uid, async () => {
        await namespaces.find(new Map([[uid, ips]]), { replace: true });
      });
      await enrolment.add(pod, ips, undefined);
      counters.repaired("namespace", true);
    } catch (error) {
      counters.repaired("namespace", false);
      this.#options.persists(pod, `cannot capture its new network namespace: ${messageOf(error)}`);
    }
  }

  async #verifyEnrolled(record: PodRecord, found: Findings): Promise<void> {
    const { namespaces, redirection, enrolment, source } = this.#options;
    const { uid } = record;
    const netns = namespaces.get(uid) ?? (await namespaces.find(new Map([[uid, record.ips]]))).get(uid);
    if (netns === undefined) {
      return found.problem("no process runs in a network namespace of this pod: its rules cannot be looked at");
    }
    const settings = record.rules?.settings ?? enrolment.settingsOf(record.pod);
    const drift = await redirection.verify(netns.path, settings);
    if (drift.length > 0) {
      await found.repair("rules", drift, () => enrolment.applyRules(record, netns, settings));
    } else {
      record.rules ??= { settings, netns: netns.identity, by: redirection.describe(), atMs: undefined };
    }
    await this.#verifyZtunnel(record, netns, found);
    const { namespace = "", name = "" } = record.pod.metadata;
    const current = source.pod(namespace, name);
    const settled = this.#options.clock.nowMs() - record.annotatedAtMs > ANNOTATION_LAG_MS;
    if (settled && current !== undefined && podUid(current) === uid && redirectionState(current) !== "enabled") {
      await found.repair("annotation", ["its annotation does not say that it is captured"], async () => {
        await source.annotate(current, "enabled");
        record.annotatedAtMs = this.#options.clock.nowMs();
      });
    }
  }

  async #verifyZtunnel(record: PodRecord, netns: PodNetns, found: Findings): Promise<void> {
    const { ztunnels } = this.#options;
    const newest = ztunnels.connections().at(-1);
    if (newest === undefined) return found.problem("no ztunnel connection");
    // One that is getting its snapshot will be told.
    if (!newest.snapshotSent || newest.acked(record.uid)) return;
    await found.repair(
      "ztunnel",
      ["the newest ztunnel has not acknowledged it"],
      () => ztunnels.add(record.pod, netns, undefined),
    );
  }
}
