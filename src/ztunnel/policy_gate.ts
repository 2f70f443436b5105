/**
 * One inbound connection before the pod's policies: asked when it opens and whenever they change (reference ztunnel 6.6, 6.7). A policy
 * that the pod names and nobody knows yet is waited for a while, then counts as a refusal.
 */
import type { ConnectionFacts } from "../mesh/mod.ts";
import { Timer, type TimerTarget } from "../net/reactor.ts";
import { checkPolicies, MISSING_POLICY_WAIT_MS, noteDenial, recheckPolicies } from "./inbound_access.ts";
import type { PodProxy } from "./pod_proxy.ts";

/** Exactly one is called, once, perhaps from within `ask`. */
export interface PolicyGateOwner {
  policyAllows(): void;
  /** `text` is for the access log. */
  policyDenies(text: string): void;
}

export class PolicyGate implements TimerTarget {
  readonly #pod: PodProxy;
  readonly #facts: ConnectionFacts;
  readonly #owner: PolicyGateOwner;
  /** Of a wait for a policy. */
  #timer: Timer | undefined;
  #phase: "asking" | "waiting" | "passed" | "over" = "asking";

  constructor(pod: PodProxy, facts: ConnectionFacts, owner: PolicyGateOwner) {
    this.#pod = pod;
    this.#facts = facts;
    this.#owner = owner;
  }

  ask(): void {
    if (this.#pod.policies.missing.length === 0) return this.#decide();
    this.#phase = "waiting";
    this.#timer = new Timer(this);
    this.#pod.env.io.reactor.setTimer(this.#timer, MISSING_POLICY_WAIT_MS);
  }

  /** The policies changed. Gives the text for the access log when a connection that was let through is not allowed any more. */
  recheck(): string | undefined {
    if (this.#phase === "waiting") {
      this.#decide();
      return undefined;
    }
    if (this.#phase !== "passed") return undefined;
    const verdict = recheckPolicies(this.#pod, this.#facts);
    return verdict.allowed ? undefined : noteDenial(this.#pod, this.#facts, verdict, "change");
  }

  /** The connection is over. */
  close(): void {
    this.#phase = "over";
    this.#stopWaiting();
  }

  expired(): void {
    this.#phase = "asking";
    this.#decide();
  }

  #stopWaiting(): void {
    if (this.#timer !== undefined) this.#pod.env.io.reactor.cancelTimer(this.#timer);
  }

  #decide(): void {
    const verdict = checkPolicies(this.#pod, this.#facts);
    if (!verdict.allowed && verdict.kind === "missing_policy" && this.#phase === "waiting") return;
    this.#stopWaiting();
    if (verdict.allowed) {
      this.#phase = "passed";
      this.#owner.policyAllows();
    } else {
      this.#phase = "over";
      this.#owner.policyDenies(noteDenial(this.#pod, this.#facts, verdict, "open"));
    }
  }
}
