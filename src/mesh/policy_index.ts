/** L4 policies by key and by the workloads they apply to. */
import type { Authorization, PolicyKey, Workload } from "./types.ts";
import { keyOfPolicy } from "./types.ts";
import { MultiIndex } from "./multi_index.ts";

export interface WorkloadPolicies {
  /** By key, each once. */
  readonly policies: readonly Authorization[];
  /**
   * Named by the workload or meant for it by their scope, but not known or never readable. Nobody knows what they would refuse, so
   * connections must not be let through.
   */
  readonly missing: readonly PolicyKey[];
}

/** Where a policy applies: all that is known of one of which no version could be read. */
export interface PolicyPlace {
  readonly key: PolicyKey;
  /** Of the policy, which is that of its key if it does not say. */
  readonly namespace: string;
  readonly scope: Authorization["scope"];
}

/** Scope keys; a namespace is filed under its own name, which is never empty. */
const GLOBAL = "";

export class PolicyIndex {
  readonly #byKey = new Map<PolicyKey, Authorization>();
  readonly #byScope = new MultiIndex(keyOfPolicy);
  readonly #unreadable = new Map<PolicyKey, PolicyPlace>();
  readonly #unreadableByScope = new MultiIndex((policy: PolicyPlace) => policy.key);

  get(key: PolicyKey): Authorization | undefined {
    return this.#byKey.get(key);
  }

  values(): Iterable<Authorization> {
    return this.#byKey.values();
  }

  /** Of all that exist, readable or not. */
  keys(): PolicyKey[] {
    return [...this.#byKey.keys(), ...this.#unreadable.keys()];
  }

  unreadable(key: PolicyKey): PolicyPlace | undefined {
    return this.#unreadable.get(key);
  }

  set(policy: Authorization): void {
    const key = keyOfPolicy(policy);
    this.delete(key);
    this.#byKey.set(key, policy);
    const scope = scopeKey(policy);
    if (scope !== undefined) this.#byScope.set(scope, policy);
  }

  setUnreadable(policy: PolicyPlace): void {
    this.delete(policy.key);
    this.#unreadable.set(policy.key, policy);
    const scope = scopeKey(policy);
    if (scope !== undefined) this.#unreadableByScope.set(scope, policy);
  }

  delete(key: PolicyKey): void {
    const old = this.#byKey.get(key);
    if (old !== undefined) {
      this.#byKey.delete(key);
      const scope = scopeKey(old);
      if (scope !== undefined) this.#byScope.delete(scope, key);
    }
    const unreadable = this.#unreadable.get(key);
    if (unreadable !== undefined) {
      this.#unreadable.delete(key);
      const scope = scopeKey(unreadable);
      if (scope !== undefined) this.#unreadableByScope.delete(scope, key);
    }
  }

  /** Global ones, those of the workload's namespace, and those it names. */
  policiesFor(workload: Workload): WorkloadPolicies {
    const found = new Map<PolicyKey, Authorization>();
    const missing = new Set<PolicyKey>();
    for (const scope of [GLOBAL, workload.namespace]) {
      for (const policy of this.#byScope.values(scope)) found.set(keyOfPolicy(policy), policy);
      for (const { key } of this.#unreadableByScope.values(scope)) missing.add(key);
    }
    for (const key of workload.authorizationPolicies) {
      const policy = this.#byKey.get(key);
      if (policy === undefined) missing.add(key);
      else found.set(key, policy);
    }
    const keys = [...found.keys()].sort();
    return { policies: keys.map((key) => found.get(key)!), missing: [...missing] };
  }
}

function scopeKey(policy: Pick<Authorization, "scope" | "namespace">): string | undefined {
  switch (policy.scope) {
    case "Global":
      return GLOBAL;
    case "Namespace":
      // A policy of no namespace would otherwise be filed as global.
      return policy.namespace === "" ? undefined : policy.namespace;
    case "WorkloadSelector":
      return undefined;
  }
}
