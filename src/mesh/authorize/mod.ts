/**
 * L4 authorization, ztunnel's semantics: any matching DENY refuses; else, if there are ALLOW policies, one of them must
 * match. Dry-run policies are reported and never enforced. Differs where ztunnel fails open: a policy that is named but
 * not known, or cannot be read, refuses.
 */
import { type Authorization, keyOfPolicy, type PolicyKey, type Rule } from "../types.ts";
import { compileMatch, type Predicate, UnreadableMatch } from "./compile_match.ts";
import { type ConnectionFacts, type PreparedFacts, prepareFacts } from "./facts.ts";

export type { ConnectionFacts } from "./facts.ts";

/** A rule of a policy. `rule` counts from 0. */
export interface PolicyRule {
  readonly policy: PolicyKey;
  readonly rule: number;
}

/** A dry-run policy that matched: what it would have done. */
export interface DryRun extends PolicyRule {
  readonly would: "deny" | "allow";
}

export type Verdict =
  | {
    readonly allowed: true;
    /** Undefined: no ALLOW policy applies, so nothing has to allow. */
    readonly by: PolicyRule | undefined;
    readonly dryRun: readonly DryRun[];
  }
  | {
    readonly allowed: false;
    readonly kind: DenialKind;
    /** ztunnel's words. */
    readonly reason: string;
    /** For a person: which rule refused, or who would have had to allow. */
    readonly explanation: string;
    readonly policy: PolicyKey | undefined;
    /** Counts from 0. */
    readonly rule: number | undefined;
    readonly dryRun: readonly DryRun[];
  };

export type DenialKind = "deny_policy" | "no_allow_matched" | "missing_policy";

interface CompiledPolicy {
  readonly key: PolicyKey;
  /** The index of the first rule that matches, or -1. */
  readonly match: (facts: PreparedFacts) => number;
}

export interface CompiledPolicies {
  readonly deny: readonly CompiledPolicy[];
  readonly allow: readonly CompiledPolicy[];
  readonly dryRunDeny: readonly CompiledPolicy[];
  readonly dryRunAllow: readonly CompiledPolicy[];
  readonly missing: readonly PolicyKey[];
}

const NO_DRY_RUN: readonly DryRun[] = [];
const NOTHING_TO_ASK: Verdict = { allowed: true, by: undefined, dryRun: NO_DRY_RUN };

/** For the policies of one workload and the ones it names that are missing (`MeshStore.policiesFor`). Throws nothing. */
export function compilePolicies(
  policies: readonly Authorization[],
  missing: readonly PolicyKey[] = [],
): CompiledPolicies {
  const lists = {
    deny: [] as CompiledPolicy[],
    allow: [] as CompiledPolicy[],
    dryRunDeny: [] as CompiledPolicy[],
    dryRunAllow: [] as CompiledPolicy[],
  };
  for (const policy of policies) {
    const isDeny = policy.action === "Deny";
    const list = policy.dryRun ? (isDeny ? "dryRunDeny" : "dryRunAllow") : (isDeny ? "deny" : "allow");
    lists[list].push({ key: keyOfPolicy(policy), match: compilePolicy(policy) });
  }
  return { ...lists, missing };
}

export function authorize(compiled: CompiledPolicies, facts: ConnectionFacts): Verdict {
  const { deny, allow, dryRunDeny, dryRunAllow, missing } = compiled;
  const dryRuns = dryRunDeny.length + dryRunAllow.length;
  if (deny.length + allow.length + missing.length + dryRuns === 0) return NOTHING_TO_ASK;

  const prepared = prepareFacts(facts);
  const dryRun: DryRun[] | typeof NO_DRY_RUN = dryRuns === 0 ? NO_DRY_RUN : [
    ...matching(dryRunDeny, prepared).map((found): DryRun => ({ ...found, would: "deny" })),
    ...matching(dryRunAllow, prepared).map((found): DryRun => ({ ...found, would: "allow" })),
  ];

  const denied = firstMatch(deny, prepared);
  if (denied !== undefined) {
    return {
      allowed: false,
      kind: "deny_policy",
      reason: `explicitly denied by: ${denied.policy}`,
      explanation: `rule ${denied.rule + 1} of the DENY policy ${denied.policy} matches ${describe(facts)}`,
      policy: denied.policy,
      rule: denied.rule,
      dryRun,
    };
  }
  if (missing.length > 0) {
    return {
      allowed: false,
      kind: "missing_policy",
      reason: `policy not known: ${missing.join(", ")}`,
      explanation: `the workload names ${missing.join(", ")}, which may deny ${describe(facts)} and is not known; ` +
        "check that the policy exists and was accepted",
      policy: missing[0],
      rule: undefined,
      dryRun,
    };
  }
  if (allow.length === 0) return { allowed: true, by: undefined, dryRun };
  const allowed = firstMatch(allow, prepared);
  if (allowed !== undefined) return { allowed: true, by: allowed, dryRun };
  return {
    allowed: false,
    kind: "no_allow_matched",
    reason: "allow policies exist, but none allowed",
    explanation: `no rule of the ALLOW ${allow.length === 1 ? "policy" : "policies"} ` +
      `${allow.map((policy) => policy.key).join(", ")} matches ${describe(facts)}`,
    policy: undefined,
    rule: undefined,
    dryRun,
  };
}

/** Rules are alternatives, clauses of a rule must all match, and matches of a clause are alternatives. */
function compilePolicy(policy: Authorization): (facts: PreparedFacts) => number {
  let rules: Predicate[];
  try {
    rules = policy.rules.map(compileRule);
  } catch (error) {
    if (!(error instanceof UnreadableMatch)) throw error;
    // Nobody knows whom it means: to deny it means everybody, to allow it means nobody.
    return policy.action === "Deny" ? () => 0 : () => -1;
  }
  return (facts) => {
    for (let i = 0; i < rules.length; i++) {
      if (rules[i](facts)) return i;
    }
    return -1;
  };
}

function compileRule(rule: Rule): Predicate {
  const clauses = rule.filter((clause) => clause.length > 0)
    .map((clause) => clause.map(compileMatch).filter((match) => match !== undefined));
  return (facts) => clauses.every((matches) => matches.some((match) => match(facts)));
}

function firstMatch(policies: readonly CompiledPolicy[], facts: PreparedFacts): PolicyRule | undefined {
  for (let i = 0; i < policies.length; i++) {
    const rule = policies[i].match(facts);
    if (rule >= 0) return { policy: policies[i].key, rule };
  }
  return undefined;
}

function matching(policies: readonly CompiledPolicy[], facts: PreparedFacts): PolicyRule[] {
  const found: PolicyRule[] = [];
  for (const { key, match } of policies) {
    const rule = match(facts);
    if (rule >= 0) found.push({ policy: key, rule });
  }
  return found;
}

function describe(facts: ConnectionFacts): string {
  const source = facts.sourceIdentity ?? "a plaintext client";
  return `${source} (${facts.sourceIp}) to port ${facts.destinationPort}`;
}
