/** L4 policies by key and by the workloads they apply to. */
import type { Authorization, PolicyKey, Workload } from "./types.ts";
import { keyOfPolicy } from "./types.ts";
import { MultiIndex } from "./multi_index.ts";

export interface WorkloadPolicies {
  /** By key, each once. */
  readonly policies: readonly Authorization[];
  /** Named by the workload, but not known. Nobody knows what they would refuse, so connections must not be let through. */
  readonly missing: readonly PolicyKey[];
}

/** Scope keys; a namespace is filed under its own name, which is never empty. */
const GLOBAL = "";

export class PolicyIndex {
  readonly #byKey = new Map<PolicyKey, Authorization>();
  readonly #byScope = new MultiIndex<PolicyKey, Authorization>();

  get(key: PolicyKey): Authorization | undefined {
    return this.#byKey.get(key);
  }

  values(): Iterable<Authorization> {
    return this.#byKey.values();
  }

  keys(): Iterable<PolicyKey> {
    return this.#byKey.keys();
  }

  set(policy: Authorization): void {
    const key = keyOfPolicy(policy);
    this.delete(key);
    this.#byKey.set(key, policy);
    const scope = scopeKey(policy);
    if (scope !== undefined) this.#byScope.set(scope, key, policy);
  }

  delete(key: PolicyKey): void {
    const old = this.#byKey.get(key);
    if (old === undefined) return;
    this.#byKey.delete(key);
    const scope = scopeKey(old);
    if (scope !== undefined) this.#byScope.delete(scope, key);
  }

  /** Global ones, those of the workload's namespace, and those it names. */
  policiesFor(workload: Workload): WorkloadPolicies {
    const found = new Map<PolicyKey, Authorization>(this.#byScope.get(GLOBAL));
    for (const [key, policy] of this.#byScope.get(workload.namespace) ?? []) found.set(key, policy);
    const missing: PolicyKey[] = [];
    for (const key of workload.authorizationPolicies) {
      const policy = this.#byKey.get(key);
      if (policy === undefined) missing.push(key);
      else found.set(key, policy);
    }
    const keys = [...found.keys()].sort();
    return { policies: keys.map((key) => found.get(key)!), missing };
  }
}

function scopeKey(policy: Authorization): string | undefined {
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
