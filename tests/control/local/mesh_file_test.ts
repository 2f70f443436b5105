import fc from "fast-check";
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { AddressBook } from "../../../src/control/local/addresses.ts";
import { DEFAULT_MESH } from "../../../src/control/local/default_mesh.ts";
import { type MeshFile, readMeshFile } from "../../../src/control/local/mesh_file.ts";

function read(text: string, book = new AddressBook()): MeshFile {
  const result = readMeshFile(text, book);
  assert.ok(result.ok, JSON.stringify(result));
  return result.mesh;
}

function problems(text: string): string[] {
  const result = readMeshFile(text, new AddressBook());
  return result.ok ? [] : result.problems.map(({ line, column, message }) => `${line}:${column}: ${message}`);
}

const SMALL = `
nodes: [{ name: a }]
pods:
  - { name: web, namespace: shop, serviceAccount: web, node: a, labels: { app: web, version: v2 } }
  - { name: db, node: a, captured: false }
`;

test("mesh_file: the built-in mesh is the example, and the example is in order", async () => {
  const example = await readFile(new URL("../../../examples/bookstore.yaml", import.meta.url), "utf8");
  assert.equal(DEFAULT_MESH, example);
  const mesh = read(example);
  assert.equal(mesh.nodes.length, 2);
  assert.equal(mesh.resources.services.length, 6);
  assert.deepEqual(mesh.resources.policies.map((policy) => policy.action), ["Allow", "Deny"]);
});

test("mesh_file: a pod yields its workload", () => {
  const { pods, resources } = read(SMALL);
  const [web, db] = resources.workloads;
  assert.equal(web!.uid, "Kubernetes//Pod/shop/web");
  assert.equal(web!.protocol, "HBONE");
  assert.equal(web!.canonicalName, "web");
  assert.equal(web!.canonicalRevision, "v2");
  assert.equal(web!.node, "a");
  assert.deepEqual(web!.workloadIps, pods[0]!.addresses);
  assert.equal(pods[0]!.identity, "spiffe://cluster.local/ns/shop/sa/web");
  assert.equal(db!.protocol, "TCP");
  assert.equal(db!.serviceAccount, "default");
  assert.equal(db!.namespace, "default");
});

test("mesh_file: further keys of a pod are fields of its workload", () => {
  const { pods, resources } = read(`
nodes: [{ name: a }]
pods: [{ name: p, node: a, trustDomain: other.example, canonicalName: x, locality: { region: r }, status: Unhealthy }]
`);
  const [workload] = resources.workloads;
  assert.equal(workload!.canonicalName, "x");
  assert.equal(workload!.locality.region, "r");
  assert.equal(workload!.status, "Unhealthy");
  assert.equal(pods[0]!.identity, "spiffe://other.example/ns/default/sa/default");
});

test("mesh_file: services get hostname, addresses and the pods their selector selects", () => {
  const { resources, hosts } = read(`${SMALL}
services:
  - { name: web, namespace: shop, selector: { app: web }, ports: { 80: 8080 } }
  - { name: other, namespace: default, selector: { app: web }, vips: [10.9.9.9], ports: { 80: 8080 } }
`);
  const [web, other] = resources.services;
  assert.equal(web!.hostname, "web.shop.svc.cluster.local");
  assert.equal(web!.vips.length, 2);
  assert.deepEqual(other!.vips, ["/10.9.9.9"]);
  assert.deepEqual(resources.workloads[0]!.services, { "shop/web.shop.svc.cluster.local": { 80: 8080 } });
  assert.deepEqual(resources.workloads[1]!.services, {});
  assert.deepEqual(hosts.at(-1), {
    address: "10.9.9.9",
    names: ["other.default.svc.cluster.local", "other.default", "other.default.svc", "other"],
  });
});

test("mesh_file: a name that two services share is no name for either", () => {
  const { hosts } = read(`${SMALL}
services:
  - { name: web, namespace: shop, ports: { 80: 80 } }
  - { name: web, namespace: default, ports: { 80: 80 } }
`);
  assert.ok(hosts.every(({ names }) => !names.includes("web")));
});

test("mesh_file: a policy with a selector applies to the pods it selects, without one to its namespace", () => {
  const { resources } = read(`${SMALL}
policies:
  - { name: one, namespace: shop, selector: { app: web }, action: Deny, rules: [] }
  - { name: two, namespace: shop, action: Allow, rules: [] }
`);
  assert.deepEqual(resources.policies.map((policy) => policy.scope), ["WorkloadSelector", "Namespace"]);
  assert.deepEqual(resources.workloads.map((workload) => workload.authorizationPolicies), [["shop/one"], []]);
});

test("mesh_file: a command of one text is a shell line, a list is taken word for word", () => {
  const { pods } = read(`
nodes: [{ name: a }]
pods:
  - { name: p, node: a, command: echo $HOME, env: { N: 1, T: true } }
  - { name: q, node: a, command: [echo, $HOME] }
`);
  assert.deepEqual(pods.map((pod) => pod.command), [["sh", "-c", "echo $HOME"], ["echo", "$HOME"]]);
  assert.deepEqual(pods[0]!.env, { N: "1", T: "true" });
});

test("mesh_file: an edit moves nobody, and given addresses are given to nobody else", () => {
  const book = new AddressBook();
  const before = read("nodes: [{ name: a }]\npods: [{ name: p, node: a }, { name: q, node: a }]", book);
  const after = read("nodes: [{ name: b }, { name: a }]\npods: [{ name: n, node: b }, { name: q, node: a }]", book);
  assert.deepEqual(after.pods[1]!.addresses, before.pods[1]!.addresses);
  assert.deepEqual(after.nodes[1]!.addresses, before.nodes[0]!.addresses);

  const given = read("nodes: [{ name: a }]\npods: [{ name: p, node: a }, { name: q, node: a, address: 10.244.0.1 }]");
  assert.deepEqual(given.pods.map((pod) => pod.addresses[0]), ["10.244.0.2", "10.244.0.1"]);
});

test("mesh_file: a pod has the address families of its node", () => {
  const { pods } = read(`
nodes: [{ name: a, address: 192.0.2.1 }, { name: b, address: ["2001:db8::0:1"] }]
pods: [{ name: p, node: a }, { name: q, node: b }]
`);
  assert.deepEqual(pods.map((pod) => pod.addresses), [["10.244.0.1"], ["fd00:10:244::2"]]);
  const wrong = "nodes: [{ name: a, address: 192.0.2.1 }]\npods:\n  - name: p\n    node: a\n    address: fd00::9\n";
  assert.deepEqual(problems(wrong), ["5:5: fd00::9 cannot be reached: node a has no ipv6"]);
});

const REFUSED: readonly [name: string, text: string, complaint: RegExp][] = [
  ["a syntax error", "nodes: [{ name: a }\npods: 1", /^[12]:\d+: /],
  ["a tab", "nodes:\n\t- name: a", /^2:1: .*[Tt]ab/],
  ["no nodes", "pods: []", /^1:1: the file has no nodes/],
  ["an empty file", "", /^1:1: the file has no nodes/],
  ["a list at the top", "- 1", /^1:1: must be a mapping/],
  ["an unknown key at the top", "nodes: [{ name: a }]\npodz: []", /^2:1: unknown key "podz"; known are nodes, pods/],
  ["an unknown key of a node", "nodes:\n  - name: a\n    ip: 1", /^3:5: unknown key "ip"/],
  ["a key that is there twice", "nodes: [{ name: a }]\nnodes: []", /^2:1: .*unique/],
  ["a node without a name", "nodes:\n  - address: 192.0.2.1", /^2:5: name is missing/],
  ["a name that is no name", "nodes:\n  - name: ../../etc", /^2:5: name must be lower-case letters/],
  ["a node that is there twice", "nodes:\n  - name: a\n  - name: a", /^3:5: node a is there twice/],
  [
    "a pod on no node",
    "nodes: [{ name: a }]\npods:\n  - name: p\n    node: b",
    /^4:5: there is no node "b"; .* are a$/,
  ],
  ["no address", "nodes:\n  - name: a\n    address: 1.2.3", /^3:5: "1.2.3" is no IP address/],
  ["a loopback address", "nodes:\n  - name: a\n    address: 127.0.0.1", /^3:5: 127.0.0.1 is not a unicast address/],
  [
    "two of a family",
    "nodes:\n  - name: a\n    address: [192.0.2.1, 192.0.2.2]",
    /^3:5: more than one address of a family/,
  ],
  [
    "an address that is there twice",
    "nodes: [{ name: a }]\npods:\n  - { name: p, node: a, address: 10.1.1.1 }\n  - { name: q, node: a, address: 10.1.1.1 }",
    /^4:25: address 10.1.1.1 is there twice/,
  ],
  ["a uid", "nodes: [{ name: a }]\npods:\n  - name: p\n    node: a\n    uid: x", /^5:5: a pod's uid follows from/],
  [
    "a captured that is no flag",
    "nodes: [{ name: a }]\npods: [{ name: p, node: a, captured: 1 }]",
    /must be true or false/,
  ],
  [
    "an unknown field of a pod",
    "nodes: [{ name: a }]\npods:\n  - name: p\n    node: a\n    comand: true",
    /^5:5: .*comand|^5:5: unknown/,
  ],
  [
    "a bad port of a service",
    "nodes: [{ name: a }]\nservices:\n  - name: s\n    ports:\n      80: 99999",
    /^5:7: /,
  ],
  [
    "a matcher that cannot be read",
    "nodes: [{ name: a }]\npolicies:\n  - name: p\n    action: Deny\n    rules:\n      - - - sourceIps: [not an address]",
    /^6:\d+: /,
  ],
  [
    "a selector with another scope",
    "nodes: [{ name: a }]\npolicies:\n  - name: p\n    action: Deny\n    scope: Global\n    selector: {}",
    /^5:5: a policy with a selector/,
  ],
  ["aliases that explode", bomb(), /^1:1: .*alias/i],
];

function bomb(): string {
  const levels = Array.from({ length: 12 }, (_, i) => `x${i + 1}: &x${i + 1} [${`*x${i}, `.repeat(12)}]`);
  return ["x0: &x0 [1]", ...levels].join("\n");
}

for (const [name, text, complaint] of REFUSED) {
  test(`mesh_file: refuses ${name}, with its place`, () => {
    const found = problems(text);
    assert.ok(found.some((line) => complaint.test(line)), `got: ${found.join("\n")}`);
  });
}

test("mesh_file: tells all problems at once, in the order of the lines", () => {
  const found = problems("pods:\n  - name: P\n  - name: q\n    node: b\nnodes:\n  - name: a\n    x: 1");
  assert.deepEqual(found.map((line) => line.split(":")[0]), ["2", "2", "4", "7"]);
});

test("mesh_file: whatever the text, the answer is a mesh or problems with places", () => {
  const words = fc.constantFrom(
    "nodes",
    "pods",
    "services",
    "policies",
    "name",
    "node",
    "address",
    "a",
    "1",
    "[]",
    "{}",
    "&x",
    "*x",
  );
  const glue = fc.constantFrom(": ", "\n", "\n  - ", ", ", "\n    ", " ", "{ ", " }", "[", "]");
  const text = fc.oneof(fc.string(), fc.array(fc.tuple(words, glue)).map((pairs) => pairs.flat().join("")));
  fc.assert(
    fc.property(text, (text) => {
      const result = readMeshFile(text, new AddressBook());
      if (result.ok) return;
      assert.ok(result.problems.length > 0);
      for (const { line, column } of result.problems) assert.ok(line >= 1 && column >= 1);
    }),
    { numRuns: 500 },
  );
});
