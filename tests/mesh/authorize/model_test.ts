import fc from "fast-check";
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  authorize,
  cidrContains,
  compilePolicies,
  type ConnectionFacts,
  createPolicy,
  type Match,
  parseCidr,
  parseIp,
  type StringMatch,
} from "../../../src/mesh/mod.ts";

/** The rules again, as they are written down: slow, and without compiling anything. */
function modelMatches(match: Match, facts: ConnectionFacts): boolean | undefined {
  const [, , trustDomain, , namespace, , account] = (facts.sourceIdentity ?? "").split("/");
  const principal = facts.sourceIdentity === undefined ? undefined : `${trustDomain}/ns/${namespace}/sa/${account}`;
  const text = (entry: StringMatch, value: string) =>
    "Exact" in entry
      ? value === entry.Exact
      : "Prefix" in entry
      ? value.startsWith(entry.Prefix)
      : "Suffix" in entry
      ? value.endsWith(entry.Suffix)
      : value !== "";
  const range = (cidr: string, ip: string) => cidrContains(parseCidr(cidr)!, parseIp(ip)!);
  let fields = 0;
  let holds = true;
  function check<Entry>(
    positive: readonly Entry[] = [],
    negative: readonly Entry[] = [],
    says: (entry: Entry) => boolean,
  ): void {
    fields += positive.length + negative.length;
    holds &&= (positive.length === 0 || positive.some(says)) && !negative.some(says);
  }
  check(match.principals, match.notPrincipals, (entry) => principal !== undefined && text(entry, principal));
  check(match.namespaces, match.notNamespaces, (entry) => text(entry, namespace ?? ""));
  check(
    match.serviceAccounts,
    match.notServiceAccounts,
    (entry) => entry.namespace === namespace && entry.serviceAccount === account,
  );
  check(match.sourceIps, match.notSourceIps, (cidr) => range(cidr, facts.sourceIp));
  check(match.destinationIps, match.notDestinationIps, (cidr) => range(cidr, facts.destinationIp));
  check(match.destinationPorts, match.notDestinationPorts, (port) => port === facts.destinationPort);
  return fields === 0 ? undefined : holds;
}

const word = fc.constantFrom("", "a", "b", "td/ns/a/sa/x", "td");
const strings = fc.array(
  fc.oneof(
    word.map((Exact): StringMatch => ({ Exact })),
    word.map((Prefix): StringMatch => ({ Prefix })),
    word.map((Suffix): StringMatch => ({ Suffix })),
    fc.constant<StringMatch>({ Presence: [] }),
  ),
  { maxLength: 2 },
);
const cidrs = fc.array(fc.constantFrom("10.0.0.1/32", "10.0.0.0/8", "::/0", "0.0.0.0/0"), { maxLength: 2 });
const ports = fc.array(fc.constantFrom(80, 81), { maxLength: 2 });
const accounts = fc.array(
  fc.record({ namespace: fc.constantFrom("a", "b"), serviceAccount: fc.constantFrom("x", "y") }),
  { maxLength: 2 },
);
const match: fc.Arbitrary<Match> = fc.record({
  namespaces: strings,
  notNamespaces: strings,
  serviceAccounts: accounts,
  notServiceAccounts: accounts,
  principals: strings,
  notPrincipals: strings,
  sourceIps: cidrs,
  notSourceIps: cidrs,
  destinationIps: cidrs,
  notDestinationIps: cidrs,
  destinationPorts: ports,
  notDestinationPorts: ports,
}, { requiredKeys: [] });

const rules = fc.array(fc.array(fc.array(match, { maxLength: 3 }), { maxLength: 3 }), { maxLength: 3 });
const policies = fc.array(
  fc.record({ action: fc.constantFrom("Allow" as const, "Deny" as const), dryRun: fc.boolean(), rules }),
  { maxLength: 4 },
).map((list) =>
  list.map((fields, index) => createPolicy({ ...fields, name: `p${index}`, namespace: "n", scope: "Global" }))
);

const ip = fc.constantFrom("10.0.0.1", "10.0.0.2", "192.0.2.1", "2001:db8::1");
const facts: fc.Arbitrary<ConnectionFacts> = fc.record({
  sourceIp: ip,
  sourceIdentity: fc.constantFrom(undefined, "spiffe://td/ns/a/sa/x", "spiffe://td/ns/b/sa/y", "spiffe://o/ns/a/sa/x"),
  destinationIp: ip,
  destinationPort: fc.constantFrom(80, 81),
});

test("authorize: decides for any policies as the written rules do", () => {
  fc.assert(
    fc.property(policies, facts, (list, connection) => {
      const matching = list.map((policy) =>
        policy.rules.findIndex((rule) =>
          rule.every((clause) =>
            clause.length === 0 || clause.some((entry) => modelMatches(entry, connection) === true)
          )
        )
      );
      const enforced = (action: string) =>
        list.flatMap((policy, i) => policy.action === action && !policy.dryRun ? [i] : []);
      const denied = enforced("Deny").find((i) => matching[i] >= 0);
      const allowed = enforced("Allow").find((i) => matching[i] >= 0);
      const verdict = authorize(compilePolicies(list), connection);
      assert.equal(verdict.allowed, denied === undefined && (allowed !== undefined || enforced("Allow").length === 0));
      if (!verdict.allowed && denied !== undefined) {
        assert.deepEqual([verdict.kind, verdict.policy, verdict.rule], [
          "deny_policy",
          `n/p${denied}`,
          matching[denied],
        ]);
      } else if (!verdict.allowed) {
        assert.deepEqual([verdict.kind, verdict.policy], ["no_allow_matched", undefined]);
      } else if (allowed !== undefined) {
        assert.deepEqual(verdict.by, { policy: `n/p${allowed}`, rule: matching[allowed] });
      }
      assert.deepEqual(
        verdict.dryRun.map((found) => found.policy).sort(),
        list.filter((policy, i) => policy.dryRun && matching[i] >= 0).map((policy) => `n/${policy.name}`),
      );
    }),
    { numRuns: 3000 },
  );
});
