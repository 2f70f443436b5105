import assert from "node:assert/strict";
import { test } from "node:test";
import type { AuthorizationPolicy } from "../../../../src/control/local/kube/objects.ts";
import { accept, expectRefused, readText, withoutPaths } from "./support.ts";

const HEAD = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: p, namespace: shop }\n";
const TARGET = "  targetRefs: [{ group: '', kind: Service, name: web }]\n";

function readPolicy(text: string): AuthorizationPolicy {
  return accept(text).objects.policies[0]!;
}

const NO_SOURCE = {
  principals: [],
  notPrincipals: [],
  requestPrincipals: [],
  notRequestPrincipals: [],
  namespaces: [],
  notNamespaces: [],
  serviceAccounts: [],
  notServiceAccounts: [],
  ipBlocks: [],
  notIpBlocks: [],
  remoteIpBlocks: [],
  notRemoteIpBlocks: [],
};
const NO_OPERATION = {
  hosts: [],
  notHosts: [],
  ports: [],
  notPorts: [],
  methods: [],
  notMethods: [],
  paths: [],
  notPaths: [],
};

test("kube AuthorizationPolicy: every part of a rule", () => {
  const policy = readPolicy(`${HEAD}spec:
${TARGET}  action: ALLOW
  rules:
    - from:
        - source: { principals: [cluster.local/ns/shop/sa/a, "*"], namespaces: [shop, "prod-*"] }
        - source: { serviceAccounts: [shop/c, d] }
        - source: { notNamespaces: [bad], ipBlocks: [10.222.1.1/16, 192.0.2.1], notIpBlocks: ["2001:DB8::/32"] }
        - source: { requestPrincipals: ["issuer.example.com/*"], remoteIpBlocks: [192.0.2.0/24] }
        - source: { notPrincipals: ["*/sa/x"], notRequestPrincipals: ["*"], notRemoteIpBlocks: [192.0.2.0/24] }
        - source: { notServiceAccounts: [x] }
      to:
        - operation:
            methods: [GET, "P*"]
            paths: [/, "/api/*", "*.html", "/users/{*}/files/{**}", "*"]
            notPaths: [/api/private]
        - operation: { hosts: [b.demo, "*.example.com"], notHosts: [x], ports: ["80"], notPorts: ["81"], notMethods: [PUT] }
      when:
        - { key: "request.headers[x-token]", values: [secret, "pre-*", "a*b"], notValues: [bad] }
        - { key: source.ip, values: [10.222.1.1/16], notValues: [10.222.9.0/24] }
        - { key: "request.auth.claims[groups][a]", values: [admin] }
`);
  assert.deepEqual([policy.action, policy.dryRun], ["ALLOW", false]);
  assert.deepEqual(policy.target, {
    kind: "refs",
    refs: [{ kind: "Service", name: "web", path: ["documents", 0, "spec", "targetRefs", 0] }],
  });
  assert.deepEqual(withoutPaths(policy.rules), [{
    from: [
      { ...NO_SOURCE, principals: ["cluster.local/ns/shop/sa/a", "*"], namespaces: ["shop", "prod-*"] },
      { ...NO_SOURCE, serviceAccounts: ["shop/c", "d"] },
      {
        ...NO_SOURCE,
        notNamespaces: ["bad"],
        ipBlocks: ["10.222.0.0/16", "192.0.2.1/32"],
        notIpBlocks: ["2001:db8::/32"],
      },
      { ...NO_SOURCE, requestPrincipals: ["issuer.example.com/*"], remoteIpBlocks: ["192.0.2.0/24"] },
      { ...NO_SOURCE, notPrincipals: ["*/sa/x"], notRequestPrincipals: ["*"], notRemoteIpBlocks: ["192.0.2.0/24"] },
      { ...NO_SOURCE, notServiceAccounts: ["x"] },
    ],
    to: [
      {
        ...NO_OPERATION,
        methods: ["GET", "P*"],
        paths: ["/", "/api/*", "*.html", "/users/{*}/files/{**}", "*"],
        notPaths: ["/api/private"],
      },
      {
        ...NO_OPERATION,
        hosts: ["b.demo", "*.example.com"],
        notHosts: ["x"],
        ports: ["80"],
        notPorts: ["81"],
        notMethods: ["PUT"],
      },
    ],
    when: [
      { key: "request.headers[x-token]", values: ["secret", "pre-*", "a*b"], notValues: ["bad"] },
      { key: "source.ip", values: ["10.222.0.0/16"], notValues: ["10.222.9.0/24"] },
      { key: "request.auth.claims[groups][a]", values: ["admin"], notValues: [] },
    ],
  }]);
  assert.deepEqual(policy.rules[0]!.to[1]!.path, ["documents", 0, "spec", "rules", 0, "to", 1, "operation"]);
});

test("kube AuthorizationPolicy: what it is attached to", () => {
  const target = (spec: string) => withoutPaths(readPolicy(`${HEAD}spec: ${spec}`).target);
  assert.deepEqual(target("{}"), { kind: "namespace" });
  assert.deepEqual(target("{ selector: {} }"), { kind: "selector", matchLabels: {} });
  assert.deepEqual(target("{ selector: { matchLabels: { app: web } } }"), {
    kind: "selector",
    matchLabels: { app: "web" },
  });
  const gateway = "{ group: gateway.networking.k8s.io, kind: Gateway, name: waypoint }";
  const refs = [{ kind: "Gateway", name: "waypoint" }];
  assert.deepEqual(target(`{ targetRef: ${gateway} }`), { kind: "refs", refs });
  assert.deepEqual(target(`{ targetRefs: [${gateway}, { kind: Service, name: web }] }`), {
    kind: "refs",
    refs: [...refs, { kind: "Service", name: "web" }],
  });
});

test("kube AuthorizationPolicy: without rules nothing is allowed, with an empty one everything matches", () => {
  const rules = (spec: string) => withoutPaths(readPolicy(`${HEAD}spec: ${spec}`).rules);
  assert.deepEqual(rules("{}"), []);
  assert.deepEqual(rules("{ rules: [] }"), []);
  assert.deepEqual(rules("{ action: DENY, rules: [{}] }"), [{ from: [], to: [], when: [] }]);
});

test("kube AuthorizationPolicy: an annotation makes it a rehearsal", () => {
  const dryRun = (value: string) =>
    readPolicy(`${HEAD.replace("namespace: shop", `annotations: { istio.io/dry-run: ${value} }`)}spec: {}`).dryRun;
  assert.deepEqual(['"true"', '"1"', '"false"', '"F"'].map(dryRun), [true, true, false, false]);
});

const CONDITIONS = "source.ip, remote.ip, source.namespace, source.principal, source.serviceAccount, destination.ip, " +
  "destination.port, connection.sni, request.auth.principal, request.auth.audiences, request.auth.presenter, " +
  "request.headers[NAME], request.auth.claims[NAME]";

test("kube AuthorizationPolicy: the conditions of Istio's table", () => {
  const keys = CONDITIONS.replaceAll("NAME", "a").split(", ");
  const value = (key: string) => key.endsWith(".ip") ? "192.0.2.1/32" : key.endsWith("port") ? "80" : "x";
  for (const key of keys) {
    const text = `${HEAD}spec:\n${TARGET}  rules: [{ when: [{ key: "${key}", values: ["${value(key)}"] }] }]`;
    assert.deepEqual(withoutPaths(readPolicy(text).rules[0]!.when), [{ key, values: [value(key)], notValues: [] }]);
  }
});

/** The spec in flow style on line 4, which begins in column 7. */
const SPECS: readonly (readonly [name: string, spec: string, ...problems: string[]])[] = [
  [
    "CUSTOM",
    "{ action: CUSTOM, provider: { name: x }, rules: [{}] }",
    "4:9: the action CUSTOM is not supported by ambit local; write ALLOW, DENY or AUDIT",
  ],
  ["a provider without CUSTOM", "{ provider: { name: x } }", "4:9: a provider goes with the action CUSTOM only"],
  ["another action", "{ action: Allow }", `4:9: action must be ALLOW or DENY or AUDIT, is the string "Allow"`],
  [
    "DENY that denies nothing",
    "{ action: DENY }",
    "4:1: DENY without rules denies nothing; write rules: [{}] to deny everything",
  ],
  ["rules that are empty", "{ rules: }", "4:9: rules has no value; write a list, or leave it out"],
  ["a rule that is empty", "{ rules: [null] }", "4:17: must be a mapping (key: value), is empty"],
  [
    "a misspelled key",
    "{ rules: [{ form: [] }] }",
    `4:19: unknown key "form"; known are from, to, when`,
  ],
  [
    "two ways to attach it",
    "{ selector: { matchLabels: {} }, targetRef: { kind: Service, name: a }, targetRefs: [{ kind: Service, name: b }] }",
    "4:9: a policy has either a selector or targetRefs, not both",
    "4:40: there is targetRefs too; put it there",
  ],
  [
    "expressions of labels",
    "{ selector: { matchExpressions: [], matchLabels: { app: 'a*' } } }",
    `4:21: unknown key "matchExpressions"; known are matchLabels`,
    "4:58: a selector compares whole values; it has no wildcards",
  ],
  ["no targets", "{ targetRefs: [] }", "4:9: targetRefs is empty; leave it out or name a Gateway or a Service"],
  [
    "targets that are none",
    "{ targetRefs: [{ kind: GatewayClass, name: a }, { name: b }, { kind: Gateway, name: c }, { kind: Service, group: x, name: d, namespace: e }] }",
    "4:24: kind must be Gateway or Service; ambit local knows no other targets of policies",
    "4:55: kind must be Gateway or Service; ambit local knows no other targets of policies",
    `4:68: the group of a Gateway is "gateway.networking.k8s.io"`,
    `4:113: the group of a Service is ""`,
    "4:132: what a policy is attached to is in the policy's namespace; leave namespace out",
  ],
];

/** With the rule in flow style on line 6, which begins in column 11. */
const RULES: readonly (readonly [name: string, rule: string, ...problems: string[]])[] = [
  [
    "lists that say nothing",
    "{ from: [], to: , when: [] }",
    "6:13: from is empty; leave it out to say nothing about it",
    "6:23: to has no value; write a list, or leave it out",
    "6:29: when is empty; leave it out to say nothing about it",
  ],
  [
    "parts that say nothing",
    "{ from: [{}, { source: {} }, { source: { principals: [] } }], to: [{ operation: { ports: } }] }",
    "6:20: source is missing",
    "6:26: source is empty; leave from out to say nothing about it",
    "6:52: principals is empty; leave it out to say nothing about it",
    "6:93: ports must be a list of texts, is empty",
  ],
  [
    "misspelled keys",
    "{ from: [{ source: { principal: [a] }, not: 1 }], to: [{ operation: { path: [a] } }] }",
    `6:32: unknown key "principal"; known are principals, notPrincipals, requestPrincipals, notRequestPrincipals, ` +
    "namespaces, notNamespaces, serviceAccounts, notServiceAccounts, ipBlocks, notIpBlocks, remoteIpBlocks, " +
    "notRemoteIpBlocks",
    `6:50: unknown key "not"; known are source`,
    `6:81: unknown key "path"; known are hosts, notHosts, ports, notPorts, methods, notMethods, paths, notPaths`,
  ],
  [
    "trust domains",
    "{ from: [{ source: { trustDomains: [a] } }, { source: { notTrustDomains: [a] } }] }",
    `6:32: trustDomains is not supported by ambit local; write principals: ["TRUST-DOMAIN/*"]`,
    `6:67: notTrustDomains is not supported by ambit local; write notPrincipals: ["TRUST-DOMAIN/*"]`,
  ],
  [
    "values that are no texts",
    "{ from: [{ source: { namespaces: [1, '', a] } }], to: [{ operation: { methods: GET } }] }",
    "6:45: namespaces must be a list of texts (numbers in quotes), holds the number 1",
    "6:48: namespaces must be a list of texts (numbers in quotes), holds an empty text",
    `6:81: methods must be a list of texts, is the string "GET"`,
  ],
  [
    "wildcards in the middle or on both sides",
    "{ from: [{ source: { principals: ['a*b', '*a*'] } }], to: [{ operation: { paths: ['/a/*/b'], notHosts: ['**'] } }] }",
    `6:45: a wildcard "*" stands at the beginning or at the end, not both: "a*b"`,
    `6:52: a wildcard "*" stands at the beginning or at the end, not both: "*a*"`,
    `6:93: a wildcard "*" stands at the beginning or at the end, not both: "/a/*/b"`,
    `6:115: a wildcard "*" stands at the beginning or at the end, not both: "**"`,
  ],
  [
    "service accounts that are none",
    "{ from: [{ source: { serviceAccounts: ['a*', a/b/c, /a], namespaces: [a] } }] }",
    "6:22: serviceAccounts cannot stand beside principals or namespaces; write two sources or one of them",
    `6:50: a service account is written NAME or NAMESPACE/NAME, without wildcards, not "a*"`,
    `6:56: a service account is written NAME or NAMESPACE/NAME, without wildcards, not "a/b/c"`,
    `6:63: a service account is written NAME or NAMESPACE/NAME, without wildcards, not "/a"`,
  ],
  [
    "address ranges that are none",
    "{ from: [{ source: { ipBlocks: [10.0.0.0/33], notRemoteIpBlocks: [a] } }], when: [{ key: source.ip, values: ['*'] }] }",
    `6:43: "10.0.0.0/33" is no address range; write it like "10.0.0.0/8"`,
    `6:77: "a" is no address range; write it like "10.0.0.0/8"`,
    `6:120: "*" is no address range; write it like "10.0.0.0/8"`,
  ],
  [
    "ports that are none",
    "{ to: [{ operation: { ports: [80, '0', '65536', '80-90'] } }] }",
    "6:41: ports must be a list of texts (numbers in quotes), holds the number 80",
    `6:45: a port is a number from 1 to 65535, in quotes, not "0"`,
    `6:50: a port is a number from 1 to 65535, in quotes, not "65536"`,
    `6:59: a port is a number from 1 to 65535, in quotes, not "80-90"`,
  ],
  [
    "path templates that are none",
    "{ to: [{ operation: { paths: ['/{**}/{*}', '/a{*}', '/{*}/b*', '/{x}', '/{*}//b'] } }] }",
    `6:41: {**} must be the last operator: "/{**}/{*}"`,
    `6:54: an element of a path template is {*}, {**} or plain text, not both: "/a{*}"`,
    `6:63: an element of a path template is {*}, {**} or plain text, not both: "/{*}/b*"`,
    `6:74: "{" and "}" are for the operators {*} and {**}: "/{x}"`,
    `6:82: an element of a path template is {*}, {**} or plain text, not both: "/{*}//b"`,
  ],
  [
    "conditions that are none",
    `{ when: [{ key: "destination.labels[a]", values: [b] }, { key: source.trustDomain, values: [b] }, { key: 'request.headers[]', values: [a] }, { values: [a] }] }`,
    `6:22: the condition "destination.labels[a]" is not supported by ambit local; known are ${CONDITIONS}`,
    `6:69: the condition "source.trustDomain" is not supported by ambit local; write source.principal with the value "TRUST-DOMAIN/*"`,
    `6:111: the condition "request.headers[]" is not supported by ambit local; known are ${CONDITIONS}`,
    "6:152: key is missing",
  ],
  [
    "conditions that say nothing",
    "{ when: [{ key: source.namespace }, { key: source.namespace, values: [], notValues: [a] }] }",
    "6:20: a condition needs values or notValues",
    "6:72: values is empty; leave it out to say nothing about it",
  ],
];

for (const [name, spec, ...problems] of SPECS) {
  test(`kube AuthorizationPolicy: refuses ${name}`, () => expectRefused([name, `${HEAD}spec: ${spec}`, ...problems]));
}
for (const [name, rule, ...problems] of RULES) {
  const text = `${HEAD}spec:\n${TARGET}  rules: [${rule}]`;
  test(`kube AuthorizationPolicy: refuses ${name}`, () => expectRefused([name, text, ...problems]));
}

test("kube AuthorizationPolicy: refuses more service accounts than Istio takes", () => {
  const accounts = Array.from({ length: 17 }, (_, index) => `a${index}`).join(", ");
  const text = `${HEAD}spec:\n${TARGET}  rules: [{ from: [{ source: { serviceAccounts: [${accounts}] } }] }]`;
  assert.deepEqual(readText(text).problems, ["6:32: serviceAccounts holds more than 16 service accounts"]);
});

test("kube AuthorizationPolicy: refuses a rehearsal that says neither yes nor no, or that is of AUDIT", () => {
  const head = (value: string) => HEAD.replace("namespace: shop", `annotations: { istio.io/dry-run: ${value} }`);
  assert.deepEqual(readText(`${head('"yes"')}spec: {}`).problems, [`3:37: istio.io/dry-run must be "true" or "false"`]);
  assert.deepEqual(readText(`${head('"true"')}spec:\n${TARGET}  action: AUDIT`).problems, [
    "3:37: istio.io/dry-run goes with ALLOW and DENY only",
  ]);
});
