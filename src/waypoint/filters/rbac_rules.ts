/**
 * RBAC's rules as predicates, waypoint.md 3.2. HTTP and TCP chains judge by the same ones; on TCP a condition about HTTP never holds.
 *
 * Fails closed: an identity, address or header that is not there satisfies no condition but a negated one, as the policy's author wrote it.
 */
import { type Cidr, cidrContains, parseCidr, parseIp } from "../../mesh/ip.ts";
import type { RequestHead } from "../http/exchange.ts";
import { compileHeader } from "../match/head.ts";
import { compileMetadata, type Metadata } from "../match/metadata.ts";
import { compilePath, withoutQuery } from "../match/path.ts";
import { compileText } from "../match/text.ts";
import type { RbacRulesSpec, RuleSpec } from "../spec/mod.ts";

/** What is judged. `head` and `metadata` are undefined for a connection. */
export interface PolicySubject {
  /** Verified SPIFFE id; "" without one. */
  readonly principal: string;
  readonly source: AddressSubject;
  /** From X-Forwarded-For or the PROXY protocol where that is trusted; a waypoint trusts neither, so it is the source. */
  readonly remote: AddressSubject;
  readonly destination: AddressSubject;
  readonly destinationPort: number;
  readonly sni: string;
  readonly head: RequestHead | undefined;
  readonly metadata: Metadata | undefined;
}

/** An address, read once for all rules. */
export class AddressSubject {
  readonly #bytes: Uint8Array | undefined;

  constructor(readonly ip: string) {
    this.#bytes = parseIp(ip);
  }

  in(range: Cidr): boolean {
    return this.#bytes !== undefined && cidrContains(range, this.#bytes);
  }
}

export type PolicyPredicate = (subject: PolicySubject) => boolean;

export interface Verdict {
  readonly allowed: boolean;
  /** The policy that matched: it denied, or allowed, or was logged; "" none. */
  readonly policy: string;
}

export type RulesJudge = (subject: PolicySubject) => Verdict;

/** @throws Error for what cannot be compiled, which refuses the chain */
export function compileRules({ action, policies }: RbacRulesSpec): RulesJudge {
  const compiled = policies.map(({ name, principals, permissions }) => ({
    verdict: { allowed: action !== "deny", policy: name },
    principals: compileRule(principals),
    permissions: compileRule(permissions),
  }));
  const otherwise: Verdict = { allowed: action !== "allow", policy: "" };
  return (subject) => {
    for (const { verdict, principals, permissions } of compiled) {
      if (principals(subject) && permissions(subject)) return verdict;
    }
    return otherwise;
  };
}

export function compileRule(rule: RuleSpec): PolicyPredicate {
  switch (rule.kind) {
    case "any":
      return () => true;
    case "never":
      return () => false;
    case "and": {
      const of = rule.of.map(compileRule);
      return (subject) => of.every((each) => each(subject));
    }
    case "or": {
      const of = rule.of.map(compileRule);
      return (subject) => of.some((each) => each(subject));
    }
    case "not": {
      const of = compileRule(rule.of);
      return (subject) => !of(subject);
    }
    case "authenticated":
      return ({ principal }) => principal !== "";
    case "principal": {
      const test = compileText(rule.match);
      return ({ principal }) => principal !== "" && test(principal);
    }
    case "source ip": {
      const range = readRange(rule.cidr);
      return ({ source }) => source.in(range);
    }
    case "remote ip": {
      const range = readRange(rule.cidr);
      return ({ remote }) => remote.in(range);
    }
    case "destination ip": {
      const range = readRange(rule.cidr);
      return ({ destination }) => destination.in(range);
    }
    case "destination port":
      return ({ destinationPort }) => destinationPort === rule.port;
    case "sni": {
      const test = compileText(rule.match);
      return ({ sni }) => sni !== "" && test(sni);
    }
    case "header": {
      const test = compileHeader(rule.match);
      return ({ head }) => head !== undefined && test(head);
    }
    case "path": {
      const test = rule.match.kind === "text" ? compileText(rule.match.match) : compilePath(rule.match);
      return ({ head }) => head !== undefined && test(withoutQuery(head.path));
    }
    case "metadata": {
      const test = compileMetadata(rule.match);
      return ({ metadata }) => metadata !== undefined && test(metadata);
    }
  }
}

function readRange(text: string): Cidr {
  const range = parseCidr(text);
  if (range === undefined) throw new Error(`${JSON.stringify(text)} is no range of addresses`);
  return range;
}
