/** AuthorizationPolicies as ztunnels get them. The expected translations are those of istiod's own tests (ambient/testdata). */
import assert from "node:assert/strict";
import { test } from "node:test";
import { parseMesh } from "../../../../src/mesh/parse.ts";
import { accept, readText } from "./support.ts";

function policy(spec: string, metadata = "name: p, namespace: cfg"): string {
  return `apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { ${metadata} }\nspec: ${spec}\n`;
}

/** istiod's allow-full and allow-groups, without what needs a waypoint. */
const RULES: readonly (readonly [rule: string, translation: unknown])[] = [
  ["{}", []],
  [`{ from: [{ source: { principals: [a, "b-*", "*-c", "*"], notPrincipals: [d] } }] }`, [[{
    principals: [{ Exact: "a" }, { Prefix: "b-" }, { Suffix: "-c" }, { Presence: [] }],
    notPrincipals: [{ Exact: "d" }],
  }]]],
  ["{ from: [{ source: { serviceAccounts: [ns/sa, sa-only], notServiceAccounts: [ns/not, not-only] } }] }", [[{
    serviceAccounts: [{ namespace: "ns", serviceAccount: "sa" }, { namespace: "cfg", serviceAccount: "sa-only" }],
    notServiceAccounts: [{ namespace: "ns", serviceAccount: "not" }, { namespace: "cfg", serviceAccount: "not-only" }],
  }]]],
  [`{ from: [{ source: { namespaces: ["*-s"], notNamespaces: ["p-*"] } }] }`, [[{
    namespaces: [{ Suffix: "-s" }],
    notNamespaces: [{ Prefix: "p-" }],
  }]]],
  ["{ from: [{ source: { ipBlocks: [1.2.3.4, 5.6.0.0/16], notIpBlocks: [2.2.3.4] } }] }", [[{
    sourceIps: ["1.2.3.4/32", "5.6.0.0/16"],
    notSourceIps: ["2.2.3.4/32"],
  }]]],
  [`{ to: [{ operation: { ports: ["80", "90"], notPorts: ["800"] } }] }`, [[{
    destinationPorts: [80, 90],
    notDestinationPorts: [800],
  }]]],
  ["{ from: [{ source: { namespaces: [a] } }, { source: { namespaces: [b] } }] }", [[
    { namespaces: [{ Exact: "a" }] },
    { namespaces: [{ Exact: "b" }] },
  ]]],
  [
    `{ from: [{ source: { principals: [p], namespaces: [n] } }], to: [{ operation: { ports: ["80"] } }], ` +
    "when: [{ key: source.namespace, values: [w] }, { key: source.ip, values: [10.10.10.10], notValues: [10.0.0.0/8] }] }",
    [
      [{ destinationPorts: [80] }],
      [{ principals: [{ Exact: "p" }], namespaces: [{ Exact: "n" }] }],
      [{ namespaces: [{ Exact: "w" }] }],
      [{ sourceIps: ["10.10.10.10/32"], notSourceIps: ["10.0.0.0/8"] }],
    ],
  ],
  [
    `{ when: [{ key: source.principal, notValues: ["*"] }, { key: destination.ip, values: [10.0.0.1] }, ` +
    `{ key: destination.port, values: ["91"], notValues: ["92"] }] }`,
    [
      [{ notPrincipals: [{ Presence: [] }] }],
      [{ destinationIps: ["10.0.0.1/32"] }],
      [{ destinationPorts: [91], notDestinationPorts: [92] }],
    ],
  ],
  // istiod takes this one for HTTP's and leaves it out; a ztunnel can compare it.
  ["{ when: [{ key: source.serviceAccount, values: [a], notValues: [n/b] }] }", [[{
    serviceAccounts: [{ namespace: "cfg", serviceAccount: "a" }],
    notServiceAccounts: [{ namespace: "n", serviceAccount: "b" }],
  }]]],
];

for (const [rule, translation] of RULES) {
  test(`kube ztunnel policies: ${rule}`, () => {
    const { policies } = accept(policy(`{ rules: [${rule}] }`));
    assert.deepEqual(policies.map(({ rules }) => rules), [[translation]]);
    // It is of the mesh file's vocabulary, and says there what it says here.
    const parsed = parseMesh({ policies });
    assert.ok(parsed.ok, JSON.stringify(parsed));
    assert.deepEqual(parsed.resources.policies[0]!.rules, [translation]);
  });
}

test("kube ztunnel policies: name, scope, action and rehearsal", () => {
  const { policies } = accept([
    policy("{}"),
    policy("{ action: DENY, rules: [{}] }", "name: q, namespace: istio-system"),
    policy("{ selector: { matchLabels: { app: web } } }", "name: r, annotations: { istio.io/dry-run: 'true' }"),
    policy("{ selector: {} }", "name: s"),
    policy("{ action: AUDIT, targetRefs: [{ kind: Service, name: web }] }", "name: t"),
  ].join("---\n"));
  assert.deepEqual(policies, [
    { name: "p", namespace: "cfg", scope: "Namespace", action: "Allow", dryRun: false, rules: [] },
    { name: "q", namespace: "istio-system", scope: "Global", action: "Deny", dryRun: false, rules: [[]] },
    { name: "r", namespace: "default", selector: { app: "web" }, action: "Allow", dryRun: true, rules: [] },
    { name: "s", namespace: "default", selector: {}, action: "Allow", dryRun: false, rules: [] },
  ]);
});

const HINT = "needs a waypoint, for a ztunnel sees connections and no requests; attach the policy with targetRefs";

test("kube ztunnel policies: refuses what only a waypoint can see", () => {
  const { problems } = readText(policy(`
  action: DENY
  rules:
    - from:
        - source:
            requestPrincipals: ["*"]
            notRequestPrincipals: [a]
            remoteIpBlocks: [10.0.0.1]
            notRemoteIpBlocks: [10.0.0.2]
            namespaces: [a]
      to:
        - operation:
            hosts: [a]
            notHosts: [a]
            methods: [GET]
            notMethods: [PUT]
            paths: [/a]
            notPaths: [/b]
            ports: ["80"]
      when:
        - key: request.headers[a]
          values: [b]
        - { key: remote.ip, values: [10.0.0.1] }
        - { key: connection.sni, values: [a] }
        - { key: "request.auth.claims[a]", values: [b] }
`));
  assert.deepEqual(problems, [
    `9:13: requestPrincipals ${HINT}`,
    `10:13: notRequestPrincipals ${HINT}`,
    `11:13: remoteIpBlocks ${HINT}`,
    `12:13: notRemoteIpBlocks ${HINT}`,
    `16:13: hosts ${HINT}`,
    `17:13: notHosts ${HINT}`,
    `18:13: methods ${HINT}`,
    `19:13: notMethods ${HINT}`,
    `20:13: paths ${HINT}`,
    `21:13: notPaths ${HINT}`,
    `24:11: the condition request.headers[a] ${HINT}`,
    `26:13: the condition remote.ip ${HINT}`,
    `27:13: the condition connection.sni ${HINT}`,
    `28:13: the condition request.auth.claims[a] ${HINT}`,
  ]);
});

test("kube ztunnel policies: refuses AUDIT, and a selector over all namespaces", () => {
  assert.deepEqual(readText(policy("{ action: AUDIT, rules: [{}] }")).problems, [`4:9: the action AUDIT ${HINT}`]);
  assert.deepEqual(readText(policy("{ selector: {} }", "name: p, namespace: istio-system")).problems, [
    "4:9: a selector in istio-system means pods of every namespace, which is not supported by ambit local; " +
    "write the policy in the namespace of the pods",
  ]);
});

test("kube ztunnel policies: an unknown condition is told once", () => {
  const { problems } = readText(policy(`{ rules: [{ when: [{ key: "x[y]", values: [a] }] }] }`));
  assert.equal(problems.length, 1);
});
