/** What every object has: kind, version, metadata; and the kinds that are little more than that. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { accept, expectRefused, type Refused } from "./support.ts";

const GATEWAY = `apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: waypoint }
spec:
  gatewayClassName: istio-waypoint
  listeners: [{ name: mesh, port: 15008, protocol: HBONE }]`;

test("kube objects: a waypoint as istioctl writes it", () => {
  const { objects } = accept(`${GATEWAY}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata:
  name: shared
  namespace: infra
  labels: { istio.io/waypoint-for: all }
  annotations: { ambit.dev/node: node-b }
spec:
  gatewayClassName: istio-waypoint
  listeners:
    - name: mesh
      port: 15008
      protocol: HBONE
      allowedRoutes: { namespaces: { from: All } }
`);
  assert.deepEqual(objects.gateways, [
    {
      name: "waypoint",
      namespace: "default",
      labels: {},
      annotations: {},
      path: ["documents", 0],
      waypointFor: "service",
      usableFrom: "Same",
    },
    {
      name: "shared",
      namespace: "infra",
      labels: { "istio.io/waypoint-for": "all" },
      annotations: { "ambit.dev/node": "node-b" },
      path: ["documents", 1],
      waypointFor: "all",
      usableFrom: "All",
    },
  ]);
});

test("kube objects: what an API server prints is read as what was applied", () => {
  const { objects } = accept(`apiVersion: v1
kind: List
metadata: { resourceVersion: "" }
items:
  - apiVersion: v1
    kind: Namespace
    metadata:
      annotations:
        kubectl.kubernetes.io/last-applied-configuration: |
          {"apiVersion":"v1","kind":"Namespace"}
      creationTimestamp: "2026-11-22T10:00:00Z"
      labels: { istio.io/use-waypoint: waypoint, kubernetes.io/metadata.name: shop }
      name: shop
      resourceVersion: "412"
      uid: 0f5e4a3c-7f1e-4b59-8e0e-0a3a3f0b8d11
    spec: { finalizers: [kubernetes] }
    status: { phase: Active }
  - apiVersion: gateway.networking.k8s.io/v1
    kind: Gateway
    metadata: { name: waypoint, namespace: shop, generation: 1, managedFields: [{ manager: x }], creationTimestamp: null }
    spec:
      gatewayClassName: istio-waypoint
      listeners: [{ name: mesh, port: 15008, protocol: HBONE, allowedRoutes: { namespaces: { from: Same } } }]
    status: { addresses: [{ value: 10.0.0.1 }], conditions: [] }
`);
  assert.deepEqual([...objects.namespaces], [
    ["shop", { "istio.io/use-waypoint": "waypoint", "kubernetes.io/metadata.name": "shop" }],
  ]);
  const [gateway] = objects.gateways;
  assert.deepEqual([gateway!.namespace, gateway!.name, gateway!.path], ["shop", "waypoint", [
    "documents",
    0,
    "items",
    1,
  ]]);
});

test("kube objects: no documents are no objects", () => {
  const { namespaces, gateways, routes, policies, authentications } = accept("").objects;
  assert.equal(namespaces.size, 0);
  assert.deepEqual([gateways, routes, policies, authentications], [[], [], [], []]);
});

test("kube objects: one name may be there in each kind and namespace", () => {
  const inShop = GATEWAY.replace("name: waypoint", "name: waypoint, namespace: shop");
  accept(`${GATEWAY}\n---\n${inShop}\n---\napiVersion: v1\nkind: Namespace\nmetadata: { name: waypoint }\n`);
});

const KINDS = "AuthorizationPolicy, GRPCRoute, Gateway, HTTPRoute, Namespace, RequestAuthentication";

const OBJECTS: readonly Refused[] = [
  ["no mapping", "- 1", "1:1: must be a mapping (key: value), is a list", `1:1: kind is missing; known are ${KINDS}`],
  ["no kind", "apiVersion: v1", `1:1: kind is missing; known are ${KINDS}`],
  [
    "an unknown kind",
    "apiVersion: gateway.networking.k8s.io/v1\nkind: TCPRoute",
    `2:1: the kind TCPRoute is not known to ambit local; known are ${KINDS}`,
  ],
  ["a kind that is no text", "kind: [Gateway]", `1:1: a list is not known to ambit local; known are ${KINDS}`],
  [
    "a kind from a prototype",
    "kind: constructor",
    `1:1: the kind constructor is not known to ambit local; known are ${KINDS}`,
  ],
  [
    "a Service",
    "apiVersion: v1\nkind: Service",
    "2:1: the kind Service is not known to ambit local; write it in the mesh document, under services",
  ],
  ["no apiVersion", "kind: Namespace", "1:1: apiVersion is missing; write apiVersion: v1"],
  [
    "an apiVersion of another kind",
    "apiVersion: v1\nkind: Gateway",
    "1:1: the apiVersion of Gateway must be gateway.networking.k8s.io/v1 or gateway.networking.k8s.io/v1beta1, is v1",
  ],
  [
    "an apiVersion that is no text",
    "apiVersion: 1\nkind: Namespace",
    "1:1: the apiVersion of Namespace must be v1, is the number 1",
  ],
  [
    "a List of another version",
    "apiVersion: v2\nkind: List\nitems: []\nmore: 1",
    "1:1: the apiVersion of a List is v1",
    `4:1: unknown key "more"; known are apiVersion, kind, metadata, items`,
  ],
  ["no metadata", "apiVersion: v1\nkind: Namespace", "1:1: metadata is missing; add metadata: {name: ...}"],
  ["no name", "apiVersion: v1\nkind: Namespace\nmetadata: {}", "3:1: name is missing"],
  [
    "a name that is no name",
    "apiVersion: v1\nkind: Namespace\nmetadata: { name: ../../etc }",
    `3:13: name must be lower-case letters, digits, "-" and ".", at most 253, is "../../etc"`,
  ],
  [
    "a name of a number",
    "apiVersion: v1\nkind: Namespace\nmetadata: { name: 1 }",
    "3:13: name must be a text, is the number 1; write it in quotes",
  ],
  [
    "a name that DNS does not take",
    "apiVersion: v1\nkind: Namespace\nmetadata: { name: a.b }",
    `3:13: the name of a Namespace has at most 63 characters and no "."`,
  ],
  [
    "a Namespace in a namespace",
    "apiVersion: v1\nkind: Namespace\nmetadata: { name: a, namespace: b }",
    "3:22: a Namespace is in no namespace; leave it out",
  ],
  [
    "a spec of a Namespace",
    "apiVersion: v1\nkind: Namespace\nmetadata: { name: a }\nspec: { quota: 1 }",
    `4:9: unknown key "quota"; known are finalizers`,
  ],
  [
    "unknown keys",
    "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: a\n  generateName: a-\ndata: {}",
    `5:3: unknown key "generateName"; known are name, namespace, labels, annotations`,
    `6:1: unknown key "data"; known are apiVersion, kind, metadata, spec, status`,
  ],
  [
    "labels that are no texts",
    "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: a\n  labels:\n    on: true\n    -x: y\n  annotations: [1]",
    "6:5: on must be a text, is the boolean true; write it in quotes",
    `7:5: "-x" cannot be a key of labels`,
    "8:3: must be a mapping (key: value), is a list",
  ],
  [
    "an object that is there twice",
    `${GATEWAY}\n---\n${GATEWAY.replace("{ name: waypoint }", "{ namespace: default, name: waypoint }")}`,
    "10:33: Gateway default/waypoint is there twice",
  ],
  [
    "a Namespace that is there twice",
    "apiVersion: v1\nkind: Namespace\nmetadata: { name: a }\n---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: a",
    "8:3: Namespace a is there twice",
  ],
];

for (const refused of OBJECTS) test(`kube objects: refuses ${refused[0]}`, () => expectRefused(refused));

const MADE = "is not supported by ambit local: the waypoint's pod and Service are made from the Gateway's name alone";
const GATEWAYS: readonly Refused[] = [
  ["no spec", GATEWAY.slice(0, GATEWAY.indexOf("spec:")), "1:1: spec is missing"],
  [
    "an empty spec",
    `${GATEWAY.slice(0, GATEWAY.indexOf("spec:"))}spec:`,
    "4:1: must be a mapping (key: value), is empty",
    "4:1: gatewayClassName is missing",
    "4:1: a waypoint has one listener: listeners: [{name: mesh, port: 15008, protocol: HBONE}]",
  ],
  [
    "another class",
    GATEWAY.replace("istio-waypoint", "istio"),
    `5:3: a Gateway of the class "istio" is not supported by ambit local; it makes waypoints, of the class istio-waypoint`,
  ],
  [
    "another listener",
    GATEWAY.replace("port: 15008, protocol: HBONE", "port: 80, protocol: HTTP, hostname: a"),
    "6:29: the port of a waypoint's listener is 15008",
    "6:39: the protocol of a waypoint's listener is HBONE",
    `6:55: unknown key "hostname"; known are name, port, protocol, allowedRoutes`,
  ],
  [
    "a second listener",
    GATEWAY.replace("HBONE }", "HBONE }, { name: b, port: 15008, protocol: HBONE }"),
    "6:3: a waypoint has one listener: listeners: [{name: mesh, port: 15008, protocol: HBONE}]",
  ],
  [
    "a selector of namespaces",
    GATEWAY.replace("HBONE }", "HBONE, allowedRoutes: { namespaces: { from: Selector, selector: {} } } }"),
    "6:90: from: Selector is not supported by ambit local; write Same or All",
  ],
  [
    "kinds of routes",
    GATEWAY.replace("HBONE }", "HBONE, allowedRoutes: { kinds: [] } }"),
    `6:76: unknown key "kinds"; known are namespaces`,
  ],
  [
    "a purpose that there is not",
    GATEWAY.replace("name: waypoint", "name: waypoint, labels: { istio.io/waypoint-for: pods }"),
    `3:39: istio.io/waypoint-for must be service or workload or all or none, is the string "pods"`,
  ],
  [
    "infrastructure",
    `${GATEWAY}\n  infrastructure: {}\n  addresses: []`,
    `7:3: infrastructure ${MADE}`,
    `8:3: addresses ${MADE}`,
  ],
  [
    "a name that no Service can have",
    GATEWAY.replace("name: waypoint", "name: way.point"),
    `3:13: the name of a waypoint is the name of its Service: at most 63 characters, no "."`,
  ],
];

for (const refused of GATEWAYS) test(`kube Gateway: refuses ${refused[0]}`, () => expectRefused(refused));
