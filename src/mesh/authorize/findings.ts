/**
 * How each policy judges a connection, clause by clause, for a person who asks why. Uses the predicates that enforcement uses,
 * one condition at a time, so it cannot say otherwise than `authorize` does.
 */
import { type Authorization, keyOfPolicy, type Match, type PolicyKey } from "../types.ts";
import { compileMatch, UnreadableMatch } from "./compile_match.ts";
import { type ConnectionFacts, type PreparedFacts, prepareFacts } from "./facts.ts";

export interface PolicyFinding {
  readonly policy: PolicyKey;
  readonly action: Authorization["action"];
  readonly scope: Authorization["scope"];
  readonly dryRun: boolean;
  readonly matches: boolean;
  /** The first that matches, counted from 1. */
  readonly rule: number | undefined;
  /** Why nobody knows whom it means: it then denies everybody, or allows nobody. */
  readonly unreadable: string | undefined;
  /** Without those beyond the limit. */
  readonly rules: readonly RuleFinding[];
  readonly rulesLeftOut: number;
}

export interface RuleFinding {
  /** Counted from 1. */
  readonly rule: number;
  readonly matches: boolean;
  /** All of them must match. */
  readonly clauses: readonly ClauseFinding[];
}

export interface ClauseFinding {
  /** Counted from 1. */
  readonly clause: number;
  readonly matches: boolean;
  /** One of them must match. */
  readonly alternatives: readonly AlternativeFinding[];
}

export interface AlternativeFinding {
  readonly matches: boolean;
  /** Which conditions do not hold, and what the connection has instead. */
  readonly failed: readonly string[];
}

/** A policy of ten thousand rules is shown by its first ones and the one that matches. */
const MAX_RULES_SHOWN = 50;
const MAX_ENTRIES_SHOWN = 5;

export function examinePolicy(policy: Authorization, facts: ConnectionFacts): PolicyFinding {
  const { action, scope, dryRun } = policy;
  const common = { policy: keyOfPolicy(policy), action, scope, dryRun };
  const prepared = prepareFacts(facts);
  const rules: RuleFinding[] = [];
  let first: number | undefined;
  try {
    policy.rules.forEach((clauses, i) => {
      const finding = examineRule(clauses, i + 1, prepared, facts);
      const isFirst = finding.matches && first === undefined;
      if (isFirst) first = i + 1;
      if (isFirst || rules.length < MAX_RULES_SHOWN) rules.push(finding);
    });
  } catch (error) {
    if (!(error instanceof UnreadableMatch)) throw error;
    const deny = action === "Deny";
    return {
      ...common,
      matches: deny,
      rule: deny ? 1 : undefined,
      unreadable: error.message,
      rules: [],
      rulesLeftOut: 0,
    };
  }
  return {
    ...common,
    matches: first !== undefined,
    rule: first,
    unreadable: undefined,
    rules,
    rulesLeftOut: policy.rules.length - rules.length,
  };
}

function examineRule(
  clauses: Authorization["rules"][number],
  rule: number,
  prepared: PreparedFacts,
  facts: ConnectionFacts,
): RuleFinding {
  const findings: ClauseFinding[] = [];
  clauses.forEach((matches, i) => {
    if (matches.length === 0) return;
    const alternatives = matches.map((match) => examineMatch(match, prepared, facts));
    findings.push({ clause: i + 1, matches: alternatives.some((one) => one.matches), alternatives });
  });
  return { rule, matches: findings.every((finding) => finding.matches), clauses: findings };
}

function examineMatch(match: Match, prepared: PreparedFacts, facts: ConnectionFacts): AlternativeFinding {
  if (compileMatch(match) === undefined) {
    return { matches: false, failed: ["it has no condition, which matches nothing"] };
  }
  const failed: string[] = [];
  for (const [field, entries] of Object.entries(match) as [keyof Match, readonly unknown[] | undefined][]) {
    if (entries === undefined || entries.length === 0) continue;
    if (compileMatch({ [field]: entries })?.(prepared) !== false) continue;
    failed.push(`${field} ${describeEntries(entries)}: the connection has ${describeFact(field, prepared, facts)}`);
  }
  return { matches: failed.length === 0, failed };
}

function describeEntries(entries: readonly unknown[]): string {
  const shown = entries.slice(0, MAX_ENTRIES_SHOWN).map(describeEntry).join(", ");
  return entries.length > MAX_ENTRIES_SHOWN ? `${shown} and ${entries.length - MAX_ENTRIES_SHOWN} more` : shown;
}

function describeEntry(entry: unknown): string {
  if (typeof entry !== "object" || entry === null) return String(entry);
  if ("Exact" in entry) return `"${entry.Exact}"`;
  if ("Prefix" in entry) return `"${entry.Prefix}*"`;
  if ("Suffix" in entry) return `"*${entry.Suffix}"`;
  if ("Presence" in entry) return "any";
  if ("serviceAccount" in entry && "namespace" in entry) return `${entry.namespace}/${entry.serviceAccount}`;
  return JSON.stringify(entry);
}

function describeFact(field: keyof Match, prepared: PreparedFacts, facts: ConnectionFacts): string {
  switch (field) {
    case "namespaces":
    case "notNamespaces":
      return prepared.principal === undefined ? "no identity, so no namespace" : `namespace "${prepared.namespace}"`;
    case "serviceAccounts":
    case "notServiceAccounts":
      return prepared.principal === undefined ? "no identity" : `${prepared.namespace}/${prepared.serviceAccount}`;
    case "principals":
    case "notPrincipals":
      return prepared.principal === undefined ? "no identity" : `"${prepared.principal}"`;
    case "sourceIps":
    case "notSourceIps":
      return facts.sourceIp;
    case "destinationIps":
    case "notDestinationIps":
      return facts.destinationIp;
    case "destinationPorts":
    case "notDestinationPorts":
      return String(facts.destinationPort);
  }
}
