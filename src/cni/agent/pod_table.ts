/** What the agent knows of each pod it has touched: which state it is in, since when, and what was set up. In memory only. */
import type { PodNetns } from "../netns/pod_netns.ts";
import type { RedirectionSettings } from "../redirection/redirection.ts";
import type { Clock } from "./clock.ts";
import { type MeshPod, podUid } from "./pods.ts";

/** How far a pod has come. */
export type PodPhase =
  | { readonly kind: "adding" }
  /** Its rules are in, no ztunnel has it: its traffic does not flow. */
  | { readonly kind: "pending"; readonly reason: string }
  | { readonly kind: "enrolled" }
  /** `captured`: its rules are in all the same. */
  | { readonly kind: "failed"; readonly reason: string; readonly captured: boolean }
  | { readonly kind: "removing"; readonly reason: string };

export interface Verification {
  readonly wallMs: number;
  /** What was not as it should be; empty when all was. */
  readonly drift: readonly string[];
  /** What could not be put right. */
  readonly problem: string | undefined;
}

export interface PodRecord {
  readonly uid: string;
  /** As it was last seen. */
  pod: MeshPod;
  ips: readonly string[];
  phase: PodPhase;
  /** Of the phase, milliseconds since the epoch. */
  sinceMs: number;
  /** What its rules were made from; undefined: none are in. */
  rules: AppliedRules | undefined;
  /** Out of the cache and not yet free of rules: a removal that is tried again finds it here. */
  leaving: PodNetns | undefined;
  annotatedAtMs: number;
  verified: Verification | undefined;
  /** Verifications in a row that found the same pod drifted. */
  drifted: number;
}

export interface AppliedRules {
  readonly settings: RedirectionSettings;
  /** Device and inode of the namespace. */
  readonly netns: string;
  /** Which means of redirection. */
  readonly by: string;
  /** Milliseconds since the epoch; undefined: by an earlier agent. */
  readonly atMs: number | undefined;
}

export class PodTable {
  readonly #clock: Clock;
  readonly #records = new Map<string, PodRecord>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get(uid: string): PodRecord | undefined {
    return this.#records.get(uid);
  }

  records(): Iterable<PodRecord> {
    return this.#records.values();
  }

  get size(): number {
    return this.#records.size;
  }

  /** The record of a pod that is worked on from now on. */
  begin(pod: MeshPod, phase: PodPhase, ips: readonly string[]): PodRecord {
    const uid = podUid(pod);
    let record = this.#records.get(uid);
    if (record === undefined) {
      record = {
        uid,
        pod,
        ips,
        phase,
        sinceMs: this.#clock.wallMs(),
        rules: undefined,
        leaving: undefined,
        annotatedAtMs: -Infinity,
        verified: undefined,
        drifted: 0,
      };
      this.#records.set(uid, record);
      return record;
    }
    record.pod = pod;
    if (ips.length > 0) record.ips = ips;
    this.enter(record, phase);
    return record;
  }

  /** The time of a phase begins when its kind, or its reason, changes. */
  enter(record: PodRecord, phase: PodPhase): void {
    const before = record.phase;
    const same = before.kind === phase.kind && reasonOf(before) === reasonOf(phase);
    record.phase = phase;
    if (!same) record.sinceMs = this.#clock.wallMs();
  }

  delete(uid: string): void {
    this.#records.delete(uid);
  }
}

export function reasonOf(phase: PodPhase): string | undefined {
  return "reason" in phase ? phase.reason : undefined;
}
