/** Objects of Kubernetes in a mesh file: Gateways become pods and Services, and labels lead traffic through them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { AddressBook } from "../../../src/control/local/addresses.ts";
import { type MeshFile, readMeshFile } from "../../../src/control/local/mesh_file.ts";

function read(text: string): MeshFile {
  const result = readMeshFile(text, new AddressBook());
  assert.ok(result.ok, JSON.stringify(result));
  return result.mesh;
}

function problems(text: string): string[] {
  const result = readMeshFile(text, new AddressBook());
  return result.ok ? [] : result.problems.map(({ line, column, message }) => `${line}:${column}: ${message}`);
}

interface Wish {
  readonly labels?: string;
  readonly annotations?: string;
  readonly namespace?: string;
  readonly from?: string;
}

function gateway(
  name: string,
  { labels = "", annotations = "", namespace = "shop", from = "Same" }: Wish = {},
): string {
  return `---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: ${name}, namespace: ${namespace}, labels: { ${labels} }, annotations: { ${annotations} } }
spec:
  gatewayClassName: istio-waypoint
  listeners:
    - { name: mesh, port: 15008, protocol: HBONE, allowedRoutes: { namespaces: { from: ${from} } } }
`;
}

const namespace = (name: string, labels: string) =>
  `---
apiVersion: v1
kind: Namespace
metadata:
  name: ${name}
  labels: { ${labels} }
`;

/** A mesh with one pod and one service in the namespace `shop`. */
const mesh = (serviceLabels = "", podLabels = "") =>
  `nodes: [{ name: a }, { name: b }]
pods:
  - { name: web, namespace: shop, serviceAccount: web, node: a, labels: { app: web, ${podLabels} } }
services:
  - { name: web, namespace: shop, selector: { app: web }, ports: { 80: 8080 }, labels: { ${serviceLabels} } }
`;

const USE = "istio.io/use-waypoint";
const WEB = "shop/web.shop.svc.cluster.local";
const POD = "Kubernetes//Pod/shop/web";

/** The waypoints of the service and of the pod. */
function waypointsOf({ resources }: MeshFile): (string | undefined)[] {
  const service = resources.services.find(({ hostname }) => WEB.endsWith(hostname));
  const workload = resources.workloads.find(({ uid }) => uid === POD);
  return [service?.waypoint?.destination, workload?.waypoint?.destination];
}

test("mesh_file: a Gateway is a pod and a Service of its name, which no ztunnel captures", () => {
  const { pods, resources, waypoints, hosts } = read(mesh() + gateway("way"));
  const [web, way] = pods;
  assert.deepEqual(way, {
    uid: "Kubernetes//Pod/shop/way",
    name: "way",
    namespace: "shop",
    serviceAccount: "way",
    identity: "spiffe://cluster.local/ns/shop/sa/way",
    node: "a",
    addresses: ["10.244.0.2", "fd00:10:244::2"],
    labels: { "gateway.networking.k8s.io/gateway-name": "way" },
    captured: false,
    isWaypoint: true,
    command: undefined,
    env: {},
  });
  assert.equal(web!.isWaypoint, false);
  const workload = resources.workloads[1]!;
  assert.deepEqual(
    [workload.protocol, workload.nativeTunnel, workload.serviceAccount, workload.workloadIps, workload.canonicalName],
    ["HBONE", true, "way", way!.addresses, "way"],
  );
  assert.deepEqual(workload.services, { "shop/way.shop.svc.cluster.local": {} });
  const service = resources.services[1]!;
  assert.deepEqual([service.hostname, service.ports, service.vips.length], ["way.shop.svc.cluster.local", {
    15008: 15008,
  }, 2]);
  assert.ok(hosts.some(({ names }) => names.includes("way.shop")));
  assert.equal(waypoints[0]!.pod, way);
  assert.deepEqual([waypoints[0]!.services.size, waypoints[0]!.workloads.size], [0, 0]);
});

test("mesh_file: the pod of a Gateway is on the node that an annotation names", () => {
  const at = (node: string) => mesh() + gateway("way", { annotations: `ambit.dev/node: ${node}` });
  assert.equal(read(at("b")).pods[1]!.node, "b");
  assert.deepEqual(problems(at("c")), [`9:70: there is no node "c"; the nodes are a, b`]);
});

test("mesh_file: selectors do not mean waypoints", () => {
  const { resources } = read(mesh().replace("selector: { app: web }", "selector: {}") + gateway("way"));
  assert.deepEqual(Object.keys(resources.workloads[0]!.services), [WEB]);
  assert.deepEqual(Object.keys(resources.workloads[1]!.services), ["shop/way.shop.svc.cluster.local"]);
});

const way = "shop/way.shop.svc.cluster.local";
const RESOLVED: readonly [name: string, text: string, service: string | undefined, pod: string | undefined][] = [
  ["no label", mesh() + gateway("way"), undefined, undefined],
  ["the service's label", mesh(`${USE}: way`) + gateway("way"), way, undefined],
  [
    "the namespace's label, for what the Gateway takes",
    mesh() + gateway("way") + namespace("shop", `${USE}: way`),
    way,
    undefined,
  ],
  [
    "the namespace's label and a Gateway for all",
    mesh() + gateway("way", { labels: "istio.io/waypoint-for: all" }) + namespace("shop", `${USE}: way`),
    way,
    way,
  ],
  [
    "the namespace's label and a Gateway for none",
    mesh() + gateway("way", { labels: "istio.io/waypoint-for: none" }) + namespace("shop", `${USE}: way`),
    undefined,
    undefined,
  ],
  [
    "the pod's label",
    mesh("", `${USE}: way`) + gateway("way", { labels: "istio.io/waypoint-for: workload" }),
    undefined,
    way,
  ],
  [
    "an own label before that of the namespace",
    mesh(`${USE}: other`) + gateway("way") + gateway("other") + namespace("shop", `${USE}: way`),
    "shop/other.shop.svc.cluster.local",
    undefined,
  ],
  [
    "none, out of what the namespace says",
    mesh(`${USE}: none`) + gateway("way") + namespace("shop", `${USE}: way`),
    undefined,
    undefined,
  ],
  [
    "a Gateway of another namespace",
    mesh(`${USE}: way, ${USE}-namespace: edge`) + gateway("way", { namespace: "edge", from: "All" }),
    "edge/way.edge.svc.cluster.local",
    undefined,
  ],
  [
    "a Gateway of another namespace, for the whole namespace",
    mesh() + gateway("way", { namespace: "edge", from: "All" }) +
    namespace("shop", `${USE}: way, ${USE}-namespace: edge`),
    "edge/way.edge.svc.cluster.local",
    undefined,
  ],
  [
    "a field of the service's own",
    mesh().replace("labels: {  }", `waypoint: { destination: ${way} }`) + gateway("way"),
    way,
    undefined,
  ],
];

for (const [name, text, service, pod] of RESOLVED) {
  test(`mesh_file: waypoints by ${name}`, () => {
    const file = read(text);
    assert.deepEqual(waypointsOf(file), [service, pod]);
    const passing = file.waypoints.flatMap(({ services, workloads }) => [...services, ...workloads] as string[]);
    assert.deepEqual(passing, [...(service === undefined ? [] : [WEB]), ...(pod === undefined ? [] : [POD])]);
    // The waypoint's own service and pod are called straight.
    const own = file.waypoints.map(({ pod }) => pod.uid as string);
    assert.ok(file.resources.workloads.every(({ uid, waypoint }) => !own.includes(uid) || waypoint === undefined));
  });
}

const REFUSED: readonly [name: string, text: string, complaints: readonly RegExp[]][] = [
  ["a service's label that names nothing", mesh(`${USE}: way`), [
    /^5:90: there is no Gateway "way" in the namespace shop$/,
  ]],
  ["a pod's label that names nothing", mesh("", `${USE}: way`), [/^3:85: there is no Gateway "way"/]],
  ["a namespace's label that names nothing, once", mesh() + namespace("shop", `${USE}: way`), [
    /^11:13: there is no Gateway "way" in the namespace shop$/,
  ]],
  ["a label without a value", mesh(`${USE}: ""`) + gateway("way"), [/^5:90: there is no Gateway "" in/]],
  [
    "a Gateway of another namespace that is for its own",
    mesh(`${USE}: way, ${USE}-namespace: edge`) + gateway("way", { namespace: "edge" }),
    [/^5:90: the Gateway edge\/way may be used in its own namespace only/],
  ],
  [
    "a Gateway that takes something else",
    mesh(`${USE}: way`, `${USE}: way`) + gateway("way", { labels: "istio.io/waypoint-for: none" }),
    [/^3:85: the Gateway shop\/way is for neither .* give it the label istio.io\/waypoint-for: workload/, /^5:90: /],
  ],
  ["a canary", mesh(`${USE}: way, ${USE}-canary: way`) + gateway("way"), [
    /^5:\d+: istio.io\/use-waypoint-canary is not supported/,
  ]],
  [
    "a label beside a field that says the same",
    mesh(`${USE}: way`).replace("ports:", `waypoint: { destination: ${way} }, ports:`) + gateway("way"),
    [/^5:59: there is the label istio.io\/use-waypoint too/],
  ],
  [
    "a pod of a Gateway's name",
    mesh().replace("name: web, namespace: shop, serv", "name: way, namespace: shop, serv") +
    gateway("way"),
    [/^9:13: there is a pod shop\/way, and the Gateway's own has this name/],
  ],
  [
    "a service of a Gateway's name",
    mesh().replace("name: web, namespace: shop, selector", "name: way, namespace: shop, selector") + gateway("way"),
    [/^7:1: same namespace and hostname as services\[0\]/],
  ],
  ["an unknown kind", `${mesh()}---\nkind: Ingress\napiVersion: networking.k8s.io/v1\n`, [
    /^7:1: the kind Ingress is not known to ambit local/,
  ]],
  ["two mesh documents", `${mesh()}---\nnodes: []\n`, [/^7:1: a second document without kind/]],
  ["objects without a mesh", gateway("way"), [/^1:1: the file has no nodes/]],
  [
    "a policy on what passes no waypoint",
    `${mesh()}${gateway("way")}---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: p, namespace: shop }
spec:
  targetRefs: [{ group: "", kind: Service, name: web }]
  rules: []
`,
    [/^19:16: the service shop\/web passes no waypoint/],
  ],
  [
    "a policy that is there twice, once in each vocabulary",
    `${mesh()}policies: [{ name: p, namespace: shop, action: Deny, rules: [] }]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: p, namespace: shop }
spec: { action: DENY, rules: [{}] }
`,
    [/^8:1: same namespace and name as policies\[0\]/],
  ],
];

for (const [name, text, complaints] of REFUSED) {
  test(`mesh_file: refuses ${name}, with its place`, () => {
    const found = problems(text);
    assert.equal(found.length, complaints.length, found.join("\n"));
    complaints.forEach((complaint, index) => assert.match(found[index]!, complaint));
  });
}

test("mesh_file: an AuthorizationPolicy without targetRefs is one of the ztunnels", () => {
  const { resources } = read(`${mesh()}---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: p, namespace: shop }
spec:
  selector: { matchLabels: { app: web } }
  action: DENY
  rules: [{ from: [{ source: { namespaces: [street] } }] }]
`);
  assert.deepEqual(resources.policies.map(({ name, action, scope }) => [name, action, scope]), [
    ["p", "Deny", "WorkloadSelector"],
  ]);
  assert.deepEqual(resources.workloads[0]!.authorizationPolicies, ["shop/p"]);
});
