import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  type Authorization,
  authorize,
  compilePolicies,
  type ConnectionFacts,
  type Match,
  policyKey,
  type Rule,
  type StringMatch,
  type Verdict,
} from "../../../src/mesh/mod.ts";
import { policy } from "../builders.ts";

const MTLS: ConnectionFacts = {
  sourceIp: "10.0.0.1",
  sourceIdentity: "spiffe://td/ns/shop/sa/web",
  destinationIp: "10.0.0.2",
  destinationPort: 80,
};
const PLAIN: ConnectionFacts = { ...MTLS, sourceIdentity: undefined };

function allow(name: string, rules: readonly Rule[], fields: Partial<Authorization> = {}): Authorization {
  return policy({ name, namespace: "ns", scope: "Namespace", action: "Allow", rules, ...fields });
}

function deny(name: string, rules: readonly Rule[], fields: Partial<Authorization> = {}): Authorization {
  return allow(name, rules, { action: "Deny", ...fields });
}

function ask(policies: readonly Authorization[], facts: ConnectionFacts = MTLS): Verdict {
  return authorize(compilePolicies(policies), facts);
}

/** Whether a DENY policy of these rules matches. */
function matches(rules: readonly Rule[], facts: ConnectionFacts = MTLS): boolean {
  return !ask([deny("p", rules)], facts).allowed;
}

const HIT: Match = { destinationPorts: [80] };
const MISS: Match = { destinationPorts: [81] };

describe("authorize: what is empty, and how rules, clauses and matches combine", () => {
  const table: readonly (readonly [string, readonly Rule[], boolean])[] = [
    ["no rules never match", [], false],
    ["a rule without clauses matches", [[]], true],
    ["a clause without matches matches", [[[]]], true],
    ["an empty match is skipped, so its clause fails", [[[{}]]], false],
    ["a match of empty lists is empty", [[[{ destinationPorts: [], notPrincipals: [] }]]], false],
    ["an empty match beside one that matches", [[[{}, HIT]]], true],
    ["an empty match beside one that does not", [[[{}, MISS]]], false],
    ["an empty clause beside one that does not match", [[[], [MISS]]], false],
    ["an empty clause beside one that matches", [[[], [HIT]]], true],
    ["one match", [[[HIT]]], true],
    ["one that does not", [[[MISS]]], false],
    ["any match of a clause", [[[MISS, HIT]]], true],
    ["all clauses of a rule", [[[HIT], [HIT]]], true],
    ["not all clauses of a rule", [[[HIT], [MISS]]], false],
    ["any rule", [[[MISS]], [[HIT]]], true],
    ["no rule", [[[MISS]], [[MISS]]], false],
    ["a rule without clauses beside one that does not match", [[[MISS]], []], true],
  ];
  for (const [name, rules, expected] of table) {
    test(`authorize: ${name}`, () => assert.equal(matches(rules), expected));
  }
  test("authorize: all fields of a match must hold", () => {
    assert.equal(matches([[[{ destinationPorts: [80], namespaces: [{ Exact: "shop" }] }]]]), true);
    assert.equal(matches([[[{ destinationPorts: [80], namespaces: [{ Exact: "other" }] }]]]), false);
    assert.equal(matches([[[{ destinationPorts: [81], namespaces: [{ Exact: "shop" }] }]]]), false);
  });
  test("authorize: any positive entry, and no negative one", () => {
    assert.equal(matches([[[{ destinationPorts: [81, 80] }]]]), true);
    assert.equal(matches([[[{ notDestinationPorts: [81, 82] }]]]), true);
    assert.equal(matches([[[{ notDestinationPorts: [81, 80] }]]]), false);
    assert.equal(matches([[[{ destinationPorts: [80], notDestinationPorts: [80] }]]]), false);
  });
});

describe("authorize: every kind of match, as positive and negative, by mTLS and plaintext", () => {
  const exact = (text: string): StringMatch => ({ Exact: text });
  const prefix = (text: string): StringMatch => ({ Prefix: text });
  const suffix = (text: string): StringMatch => ({ Suffix: text });
  const presence: StringMatch = { Presence: [] };
  /** What the entry says of MTLS and of PLAIN. */
  const table: readonly (readonly [string, "principals" | "namespaces", StringMatch, boolean, boolean])[] = [
    ["namespace, exact", "namespaces", exact("shop"), true, false],
    ["namespace, another", "namespaces", exact("sho"), false, false],
    ["namespace, exactly none", "namespaces", exact(""), false, true],
    ["namespace, prefix", "namespaces", prefix("sh"), true, false],
    ["namespace, another prefix", "namespaces", prefix("op"), false, false],
    ["namespace, suffix", "namespaces", suffix("op"), true, false],
    ["namespace, another suffix", "namespaces", suffix("sh"), false, false],
    ["namespace, empty prefix", "namespaces", prefix(""), true, true],
    ["namespace, presence", "namespaces", presence, true, false],
    ["principal, exact", "principals", exact("td/ns/shop/sa/web"), true, false],
    ["principal, with its scheme", "principals", exact("spiffe://td/ns/shop/sa/web"), false, false],
    ["principal, exactly none", "principals", exact(""), false, false],
    ["principal, prefix", "principals", prefix("td/"), true, false],
    ["principal, prefix of the scheme", "principals", prefix("spiffe"), false, false],
    ["principal, suffix", "principals", suffix("/sa/web"), true, false],
    ["principal, another suffix", "principals", suffix("/sa/we"), false, false],
    ["principal, empty prefix", "principals", prefix(""), true, false],
    ["principal, empty suffix", "principals", suffix(""), true, false],
    ["principal, presence", "principals", presence, true, false],
  ];
  for (const [name, field, entry, byMtls, byPlain] of table) {
    test(`authorize: ${name}`, () => {
      const negative = field === "principals" ? "notPrincipals" : "notNamespaces";
      assert.deepEqual([matches([[[{ [field]: [entry] }]]]), matches([[[{ [field]: [entry] }]]], PLAIN)], [
        byMtls,
        byPlain,
      ]);
      assert.deepEqual(
        [matches([[[{ [negative]: [entry] }]]]), matches([[[{ [negative]: [entry] }]]], PLAIN)],
        [!byMtls, !byPlain],
      );
    });
  }

  const others: readonly (readonly [string, Match, boolean, boolean])[] = [
    ["source ip", { sourceIps: ["10.0.0.1/32"] }, true, true],
    ["source range", { sourceIps: ["192.0.2.0/24", "10.0.0.0/8"] }, true, true],
    ["another source range", { sourceIps: ["10.1.0.0/16"] }, false, false],
    ["a source range of the other family", { sourceIps: ["::/0"] }, false, false],
    ["not source range", { notSourceIps: ["10.0.0.0/8"] }, false, false],
    ["destination ip", { destinationIps: ["10.0.0.2"] }, true, true],
    ["not destination ip", { notDestinationIps: ["10.0.0.2/32"] }, false, false],
    ["another destination ip", { destinationIps: ["10.0.0.1/32"] }, false, false],
    ["service account", { serviceAccounts: [{ namespace: "shop", serviceAccount: "web" }] }, true, false],
    [
      "service account of another namespace",
      { serviceAccounts: [{ namespace: "other", serviceAccount: "web" }] },
      false,
      false,
    ],
    ["another service account", { serviceAccounts: [{ namespace: "shop", serviceAccount: "api" }] }, false, false],
    ["not service account", { notServiceAccounts: [{ namespace: "shop", serviceAccount: "web" }] }, false, true],
  ];
  for (const [name, match, byMtls, byPlain] of others) {
    test(`authorize: ${name}`, () =>
      assert.deepEqual([matches([[[match]]]), matches([[[match]]], PLAIN)], [byMtls, byPlain]));
  }

  test("authorize: a v4-mapped source is the IPv4 address it carries", () => {
    const mapped = { ...MTLS, sourceIp: "::ffff:10.0.0.1" };
    assert.equal(matches([[[{ sourceIps: ["10.0.0.0/8"] }]]], mapped), true);
  });
  test("authorize: the trust domain does not count for a service account, but for a principal", () => {
    const foreign = { ...MTLS, sourceIdentity: "spiffe://other/ns/shop/sa/web" };
    assert.equal(matches([[[{ serviceAccounts: [{ namespace: "shop", serviceAccount: "web" }] }]]], foreign), true);
    assert.equal(matches([[[{ principals: [exact("td/ns/shop/sa/web")] }]]], foreign), false);
  });
  test("authorize: an identity that is no workload's counts as none", () => {
    const odd = { ...MTLS, sourceIdentity: "spiffe://td/something" };
    assert.equal(matches([[[{ principals: [presence] }]]], odd), false);
    assert.equal(matches([[[{ notPrincipals: [presence] }]]], odd), true);
  });
  test("authorize: istiod's STRICT policy refuses plaintext and nothing else", () => {
    const strict = deny("istio_converted_static_strict", [[[{ notPrincipals: [presence] }]]], {
      namespace: "istio-system",
    });
    assert.equal(ask([strict]).allowed, true);
    const verdict = ask([strict], PLAIN);
    assert.equal(
      !verdict.allowed && verdict.reason,
      "explicitly denied by: istio-system/istio_converted_static_strict",
    );
  });
});

describe("authorize: policies together", () => {
  test("authorize: without policies everything is allowed", () => {
    assert.deepEqual(ask([]), { allowed: true, by: undefined, dryRun: [] });
    assert.equal(ask([deny("d", [[[MISS]]])]).allowed, true);
  });
  test("authorize: an allow policy says which rule allowed", () => {
    const verdict = ask([allow("a", [[[MISS]]]), allow("b", [[[MISS]], [[HIT]]])]);
    assert.deepEqual(verdict, { allowed: true, by: { policy: "ns/b", rule: 1 }, dryRun: [] });
  });
  test("authorize: allow policies of which none matches refuse, and are named", () => {
    assert.deepEqual(ask([allow("a", [[[MISS]]]), allow("b", [])]), {
      allowed: false,
      kind: "no_allow_matched",
      reason: "allow policies exist, but none allowed",
      explanation: "no rule of the ALLOW policies ns/a, ns/b matches spiffe://td/ns/shop/sa/web (10.0.0.1) to port 80",
      policy: undefined,
      rule: undefined,
      dryRun: [],
    });
    const plain = ask([allow("a", [[[MISS]]])], PLAIN);
    assert.match(
      plain.allowed ? "" : plain.explanation,
      /^no rule of the ALLOW policy ns\/a matches a plaintext client/,
    );
  });
  test("authorize: deny comes before allow, and says which rule denied", () => {
    assert.deepEqual(ask([allow("a", [[[HIT]]]), deny("d", [[[MISS]], [[HIT]]])]), {
      allowed: false,
      kind: "deny_policy",
      reason: "explicitly denied by: ns/d",
      explanation: "rule 2 of the DENY policy ns/d matches spiffe://td/ns/shop/sa/web (10.0.0.1) to port 80",
      policy: "ns/d",
      rule: 1,
      dryRun: [],
    });
  });
  test("authorize: dry-run policies are reported and never enforced", () => {
    const dry = { dryRun: true };
    const verdict = ask([
      deny("dd", [[[HIT]]], dry),
      deny("dd-miss", [[[MISS]]], dry),
      allow("da", [[[HIT]]], dry),
      allow("da-miss", [[[MISS]]], dry),
    ]);
    assert.deepEqual(verdict, {
      allowed: true,
      by: undefined,
      dryRun: [
        { policy: "ns/dd", rule: 0, would: "deny" },
        { policy: "ns/da", rule: 0, would: "allow" },
      ],
    });
  });
  test("authorize: a dry-run policy changes nothing about real ones", () => {
    const dry = { dryRun: true };
    const refused = ask([allow("a", [[[MISS]]]), allow("da", [[[HIT]]], dry)]);
    assert.deepEqual([refused.allowed, refused.dryRun.length], [false, 1]);
    const allowed = ask([allow("a", [[[HIT]]]), deny("dd", [[[HIT]]], dry)]);
    assert.deepEqual([allowed.allowed, allowed.dryRun.length], [true, 1]);
    const denied = ask([deny("d", [[[HIT]]]), deny("dd", [[[HIT]]], dry)]);
    assert.deepEqual([denied.allowed, denied.dryRun.length], [false, 1]);
  });
});

describe("authorize: what is not known or cannot be read refuses", () => {
  test("authorize: a named policy that is missing refuses, even where others allow", () => {
    const missing = [policyKey("ns", "gone"), policyKey("ns", "lost")];
    const verdict = authorize(compilePolicies([allow("a", [[[HIT]]])], missing), MTLS);
    assert.deepEqual(
      verdict.allowed ? undefined : [verdict.kind, verdict.policy, verdict.reason],
      ["missing_policy", "ns/gone", "policy not known: ns/gone, ns/lost"],
    );
    assert.equal(authorize(compilePolicies([], missing), MTLS).allowed, false);
  });
  test("authorize: a deny policy that matches is named rather than a missing one", () => {
    const verdict = authorize(compilePolicies([deny("d", [[]])], [policyKey("ns", "gone")]), MTLS);
    assert.equal(!verdict.allowed && verdict.kind, "deny_policy");
  });
  test("authorize: a policy with an unreadable matcher denies all, or allows none", () => {
    const unreadable: readonly Match[] = [
      { sourceIps: ["10.0.0.0/99"] },
      { notSourceIps: ["nonsense"] },
      { principals: [{} as StringMatch] },
    ];
    for (const match of unreadable) {
      assert.equal(ask([deny("d", [[[MISS, match]]])]).allowed, false);
      assert.equal(ask([allow("a", [[[HIT]], [[match]]])]).allowed, false);
    }
  });
});
