import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { examinePolicy } from "../../../src/mesh/authorize/findings.ts";
import { authorize, compilePolicies, type ConnectionFacts, createPolicy, type Match } from "../../../src/mesh/mod.ts";

const facts: ConnectionFacts = {
  sourceIp: "10.0.0.1",
  sourceIdentity: "spiffe://td/ns/a/sa/x",
  destinationIp: "10.0.0.2",
  destinationPort: 80,
};
const policy = (rules: Match[][][], action: "Allow" | "Deny" = "Deny") =>
  createPolicy({ name: "p", namespace: "n", scope: "Global", action, rules });

const match: fc.Arbitrary<Match> = fc.record({
  namespaces: fc.constantFrom([], [{ Exact: "a" }], [{ Prefix: "b" }], [{ Presence: [] as const }]),
  notPrincipals: fc.constantFrom([], [{ Exact: "td/ns/a/sa/x" }], [{ Suffix: "y" }]),
  sourceIps: fc.constantFrom([], ["10.0.0.0/24"], ["10.1.0.0/24"]),
  destinationPorts: fc.constantFrom([], [80], [81]),
  serviceAccounts: fc.constantFrom([], [{ namespace: "a", serviceAccount: "x" }], [{
    namespace: "a",
    serviceAccount: "y",
  }]),
}, { requiredKeys: [] });
const rules = fc.array(fc.array(fc.array(match, { maxLength: 3 }), { maxLength: 3 }), { maxLength: 4 });
const anyFacts = fc.constantFrom(facts, { ...facts, sourceIdentity: undefined }, { ...facts, destinationPort: 81 });

test("findings: a policy is found to match exactly when it is enforced to", () => {
  fc.assert(
    fc.property(rules, anyFacts, (rules, facts) => {
      const verdict = authorize(compilePolicies([policy(rules)]), facts);
      const finding = examinePolicy(policy(rules), facts);
      assert.equal(finding.matches, !verdict.allowed);
      assert.equal(finding.rule, verdict.allowed ? undefined : verdict.rule! + 1);
      assert.equal(finding.rules.some((rule) => rule.matches), finding.matches);
      for (const rule of finding.rules) {
        for (const clause of rule.clauses) {
          for (const { matches, failed } of clause.alternatives) assert.equal(matches, failed.length === 0);
        }
      }
    }),
    { numRuns: 2000 },
  );
});

test("findings: each condition that fails is named with what the connection has", () => {
  const finding = examinePolicy(
    policy([[[{
      principals: [{ Exact: "td/ns/b/sa/x" }, { Prefix: "td/ns/c" }],
      notNamespaces: [{ Suffix: "a" }],
      serviceAccounts: [{ namespace: "a", serviceAccount: "y" }],
      sourceIps: ["10.1.0.0/16"],
      notDestinationPorts: [80, 81],
      destinationIps: ["10.0.0.2/32"],
    }]]]),
    facts,
  );
  assert.deepEqual(finding.rules[0].clauses[0].alternatives[0].failed, [
    'principals "td/ns/b/sa/x", "td/ns/c*": the connection has "td/ns/a/sa/x"',
    'notNamespaces "*a": the connection has namespace "a"',
    "serviceAccounts a/y: the connection has a/x",
    "sourceIps 10.1.0.0/16: the connection has 10.0.0.1",
    "notDestinationPorts 80, 81: the connection has 80",
  ]);
  const plain = examinePolicy(policy([[[{ principals: [{ Presence: [] }] }]]]), {
    ...facts,
    sourceIdentity: undefined,
  });
  assert.deepEqual(plain.rules[0].clauses[0].alternatives[0].failed, [
    "principals any: the connection has no identity",
  ]);
  const empty = examinePolicy(policy([[[{}]]]), facts);
  assert.deepEqual(empty.rules[0].clauses[0].alternatives[0].failed, ["it has no condition, which matches nothing"]);
});

test("findings: a policy that cannot be read denies all or allows nobody", () => {
  const broken = [[[{ sourceIps: ["nonsense"] }]]];
  const deny = examinePolicy(policy(broken), facts);
  assert.deepEqual([deny.matches, deny.unreadable], [true, '"nonsense" is not an address range']);
  assert.equal(examinePolicy(policy(broken, "Allow"), facts).matches, false);
});

test("findings: of very many rules the first ones and the one that matches are shown", () => {
  const many = Array.from({ length: 1000 }, (_, i) => [[{ destinationPorts: [i === 777 ? 80 : 81] }]]);
  const finding = examinePolicy(policy(many), facts);
  assert.equal(finding.rule, 778);
  assert.equal(finding.rules.length, 51);
  assert.equal(finding.rules.at(-1)?.rule, 778);
  assert.equal(finding.rulesLeftOut, 949);
});
