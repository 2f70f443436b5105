/**
 * Matchers of a policy as predicates, made when the policy comes. Every field of a match must hold: some positive entry
 * matches or there is none, and no negative entry matches.
 */
import { type Cidr, cidrContains, parseCidr } from "../ip.ts";
import type { Match, ServiceAccountMatch, StringMatch } from "../types.ts";
import type { PreparedFacts } from "./facts.ts";

export type Predicate = (facts: PreparedFacts) => boolean;

/** Thrown for a matcher that cannot be read; the caller makes the whole policy fail closed. */
export class UnreadableMatch extends Error {}

/** Undefined for an entirely empty match, which is skipped: a clause of nothing else matches nothing. */
export function compileMatch(match: Match): Predicate | undefined {
  const fields: Predicate[] = [];
  field(fields, match.destinationPorts, match.notDestinationPorts, port);
  field(fields, match.sourceIps, match.notSourceIps, (cidr) => range(cidr, (facts) => facts.source));
  field(fields, match.destinationIps, match.notDestinationIps, (cidr) => range(cidr, (facts) => facts.destination));
  field(fields, match.serviceAccounts, match.notServiceAccounts, serviceAccount);
  field(fields, match.principals, match.notPrincipals, principal);
  field(fields, match.namespaces, match.notNamespaces, namespace);
  if (fields.length === 0) return undefined;
  return fields.length === 1 ? fields[0] : (facts) => {
    for (let i = 0; i < fields.length; i++) {
      if (!fields[i](facts)) return false;
    }
    return true;
  };
}

function field<Entry>(
  into: Predicate[],
  positive: readonly Entry[] | undefined,
  negative: readonly Entry[] | undefined,
  compile: (entry: Entry) => Predicate,
): void {
  const wanted = (positive ?? []).map(compile);
  const unwanted = (negative ?? []).map(compile);
  if (wanted.length > 0) into.push((facts) => anyOf(wanted, facts));
  if (unwanted.length > 0) into.push((facts) => !anyOf(unwanted, facts));
}

function anyOf(predicates: readonly Predicate[], facts: PreparedFacts): boolean {
  for (let i = 0; i < predicates.length; i++) {
    if (predicates[i](facts)) return true;
  }
  return false;
}

function port(wanted: number): Predicate {
  return (facts) => facts.destinationPort === wanted;
}

function range(text: string, ipOf: (facts: PreparedFacts) => Uint8Array | undefined): Predicate {
  const cidr: Cidr | undefined = parseCidr(text);
  if (cidr === undefined) throw new UnreadableMatch(`"${text}" is not an address range`);
  return (facts) => {
    const ip = ipOf(facts);
    return ip !== undefined && cidrContains(cidr, ip);
  };
}

/** The trust domain does not count. */
function serviceAccount(wanted: ServiceAccountMatch): Predicate {
  return (facts) => facts.serviceAccount === wanted.serviceAccount && facts.namespace === wanted.namespace;
}

/** Istio writes principals without `spiffe://`. Plaintext has none, so not even an empty prefix matches it. */
function principal(match: StringMatch): Predicate {
  const test = text(match);
  return (facts) => facts.principal !== undefined && test(facts.principal);
}

function namespace(match: StringMatch): Predicate {
  const test = text(match);
  return (facts) => test(facts.namespace);
}

function text(match: StringMatch): (value: string) => boolean {
  if ("Exact" in match) return (value) => value === match.Exact;
  if ("Prefix" in match) return (value) => value.startsWith(match.Prefix);
  if ("Suffix" in match) return (value) => value.endsWith(match.Suffix);
  if ("Presence" in match) return (value) => value !== "";
  throw new UnreadableMatch("a string match is neither Exact, Prefix, Suffix nor Presence");
}
