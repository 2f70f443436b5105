/** Policies from bytes: exactly what they say, or not at all (reference ztunnel, section 3.8). */
import assert from "node:assert/strict";
import { test } from "node:test";
import { decodePolicy, policyScope } from "../../../../src/control/xds/intake/policy.ts";
import { createPolicy } from "../../../../src/mesh/mod.ts";
import { concat, field, policyBytes, type PolicyInit } from "./messages.ts";
import { policyByOracle } from "./oracle.ts";

type Init = Exclude<PolicyInit, { readonly $typeName: string }>;
type MatchInit = NonNullable<NonNullable<NonNullable<Init["rules"]>[number]["clauses"]>[number]["matches"]>[number];

const policy = (fields: Init) => decodePolicy(policyBytes({ name: "p", namespace: "ns", ...fields }));
const matching = (...matches: MatchInit[]): Init => ({ rules: [{ clauses: [{ matches }] }] });
const exact = (value: string) => ({ matchType: { case: "exact", value } }) as const;

test("policy: every field and matcher is read", () => {
  const ip = new Uint8Array([10, 1, 2, 3]);
  const strings = [
    exact("a"),
    { matchType: { case: "prefix", value: "b" } },
    { matchType: { case: "suffix", value: "c" } },
    { matchType: { case: "presence", value: {} } },
  ] as const;
  const read = [{ Exact: "a" }, { Prefix: "b" }, { Suffix: "c" }, { Presence: [] }];
  const ranges = [{ address: ip, length: 8 }, { address: ip, length: 32 }, { address: ip }];
  const cidrs = ["10.0.0.0/8", "10.1.2.3/32", "0.0.0.0/0"];
  const accounts = [{ namespace: "n", serviceAccount: "s" }];
  const fields: Init = {
    scope: 2,
    action: 1,
    dryRun: true,
    ...matching({
      namespaces: [...strings],
      notNamespaces: [exact("n")],
      principals: [exact("p")],
      notPrincipals: [...strings],
      sourceIps: ranges,
      notSourceIps: ranges,
      destinationIps: ranges,
      notDestinationIps: ranges,
      destinationPorts: [80, 443],
      notDestinationPorts: [22],
      serviceAccounts: accounts,
      notServiceAccounts: accounts,
    }, {}),
  };
  assert.deepEqual(
    policy(fields),
    createPolicy({
      name: "p",
      namespace: "ns",
      scope: "WorkloadSelector",
      action: "Deny",
      dryRun: true,
      rules: [[[{
        namespaces: read as never,
        notNamespaces: [{ Exact: "n" }],
        principals: [{ Exact: "p" }],
        notPrincipals: read as never,
        sourceIps: cidrs,
        notSourceIps: cidrs,
        destinationIps: cidrs,
        notDestinationIps: cidrs,
        destinationPorts: [80, 443],
        notDestinationPorts: [22],
        serviceAccounts: accounts,
        notServiceAccounts: accounts,
      }, {}]]],
    }),
  );
  assert.deepEqual(policy(fields), policyByOracle(policyBytes({ name: "p", namespace: "ns", ...fields })));
});

test("policy: rules without clauses and clauses without matches are what they are", () => {
  assert.deepEqual(policy({}).rules, []);
  assert.deepEqual(policy({ rules: [{}] }).rules, [[]]);
  assert.deepEqual(policy({ rules: [{ clauses: [{}] }] }).rules, [[[]]]);
  assert.deepEqual(policy({ rules: [{ clauses: [{ matches: [{}] }] }] }).rules, [[[{}]]]);
});

test("policy: what is in doubt makes the whole policy unreadable", () => {
  const refused: readonly [Init, RegExp][] = [
    [{ name: "" }, /needs a name and a namespace/],
    [{ namespace: "" }, /needs a name and a namespace/],
    [{ namespace: "a/b" }, /slash/],
    [{ scope: 3 as never }, /scope 3 is not known/],
    [{ action: 2 as never }, /action 2 is not known/],
    [{ extensions: [{}] }, /the policy has field 7/],
    [matching({ principals: [{}] }), /a string match has no form/],
    [matching({ notNamespaces: [exact("a"), {}] }), /a string match has no form/],
    [matching({ sourceIps: [{}] }), /an address of 0 bytes/],
    [matching({ notSourceIps: [{ address: new Uint8Array(5) }] }), /an address of 5 bytes/],
    [matching({ destinationIps: [{ address: new Uint8Array(4), length: 33 }] }), /range of 33 bits/],
    [matching({ destinationPorts: [0] }), /destinationPorts has 0/],
    [matching({ notDestinationPorts: [65_536] }), /notDestinationPorts has 65536/],
    [matching({ serviceAccounts: [{ namespace: "n" }] }), /needs a namespace and a service account/],
    [matching({ extensions: [{}] }), /a match has field 13/],
  ];
  for (const [fields, reason] of refused) {
    assert.throws(() => policy(fields), reason);
    assert.throws(() => policyByOracle(policyBytes({ name: "p", namespace: "ns", ...fields })));
  }
});

test("policy: a field that is newer than this version makes it unreadable, wherever it stands", () => {
  const head = concat(field(1, "p"), field(2, "ns"));
  const nested = [
    field(5, field(9, "")),
    field(5, field(1, field(9, ""))),
    field(5, field(1, field(2, field(14, "")))),
    field(5, field(1, field(2, field(1, field(5, "x"))))),
    field(5, field(1, field(2, field(1, field(4, field(1, "x")))))),
    field(5, field(1, field(2, field(5, concat(field(1, new Uint8Array(4)), field(3, "")))))),
    field(5, field(1, field(2, field(11, field(3, ""))))),
    field(8, ""),
  ];
  for (const part of nested) {
    assert.throws(() => decodePolicy(concat(head, part)), /which this version does not know/);
    assert.throws(() => policyByOracle(concat(head, part)), /unknown field/);
  }
  assert.throws(
    () => decodePolicy(concat(head, field(5, field(1, field(2, field(1, concat(field(1, "a"), field(2, "b")))))))),
    /the form of a string match is there twice/,
  );
});

test("policy: packed and single ports are the same", () => {
  const match = concat([9 << 3, 80], field(9, new Uint8Array([81, 0xbb, 0x03])), [9 << 3, 82]);
  const bytes = concat(field(1, "p"), field(2, "ns"), field(5, field(1, field(2, match))));
  assert.deepEqual(decodePolicy(bytes).rules, [[[{ destinationPorts: [80, 81, 443, 82] }]]]);
});

test("policy: of one that cannot be read the scope is found as far as it can be", () => {
  const bad = matching({ principals: [{}] });
  const scope = (fields: Init) => policyScope(policyBytes({ ...bad, ...fields }));
  assert.deepEqual(scope({}), { scope: "Global", dryRun: false });
  assert.deepEqual(scope({ scope: 1, dryRun: true }), { scope: "Namespace", dryRun: true });
  assert.deepEqual(scope({ scope: 2 }), { scope: "WorkloadSelector", dryRun: false });
  assert.deepEqual(scope({ scope: 5 as never }), { scope: "Namespace", dryRun: false });
  assert.deepEqual(policyScope(new Uint8Array([0x30, 0x01, 0xff])), { scope: "Namespace", dryRun: false });
});
