import assert from "node:assert/strict";
import { test } from "node:test";
import { parseAccessLine } from "../../scripts/demo/access_line.ts";
import { AddressBook } from "../../src/control/local/addresses.ts";
import { readMeshFile } from "../../src/control/local/mesh_file.ts";
import { findSite } from "../../src/local/places.ts";
import { describeMesh, describeProblems, Speaker } from "../../src/local/speaker.ts";

function mesh(text: string) {
  const result = readMeshFile(text, new AddressBook());
  assert.ok(result.ok);
  return result.mesh;
}

const MESH = mesh(`
nodes: [{ name: a }, { name: b }]
pods:
  - { name: web, namespace: one, node: a }
  - { name: web, namespace: two, node: b, captured: false }
  - { name: db, node: a, command: "true" }
services: [{ name: web, namespace: one, ports: { 80: 80 } }]
`);

test("places: finds nodes and pods, and asks for the namespace where a name is not enough", () => {
  assert.equal(findSite(MESH, "a").kind, "node");
  assert.equal(findSite(MESH, "db").kind, "pod");
  const web = findSite(MESH, "two/web");
  assert.equal(web.kind === "pod" && web.pod.node, "b");
  assert.throws(() => findSite(MESH, "web"), /"web" is more than one thing; write namespace\/name/);
  assert.throws(() => findSite(MESH, "none"), /no pod or node "none"; there are one\/web, two\/web, default\/db, a, b/);
});

test("speaker: shows who is where, who is outside the mesh, and a command that can be typed", () => {
  const text = describeMesh("mesh.yaml", MESH, 1234);
  assert.match(text, /^The mesh of mesh.yaml is up after 1.2 s: 2 nodes, 3 pods, 1 service, 0 policies\.$/m);
  assert.match(text, /one\/web +10\.244\.0\.1 .* spiffe:\/\/cluster\.local\/ns\/one\/sa\/default/);
  assert.match(text, /two\/web .* \(outside the mesh\)/);
  assert.match(text, /Try: .* local exec one\/web -- curl -s http:\/\/web\.one\.svc\.cluster\.local\//);
});

test("speaker: shows waypoints by themselves, with what passes them", () => {
  const text = describeMesh(
    "mesh.yaml",
    mesh(`
nodes: [{ name: a }]
pods: [{ name: web, namespace: shop, node: a, labels: { app: web } }]
services:
  - { name: web, namespace: shop, selector: { app: web }, ports: { 80: 80 }, labels: { istio.io/use-waypoint: way } }
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: way, namespace: shop }
spec: { gatewayClassName: istio-waypoint, listeners: [{ name: mesh, port: 15008, protocol: HBONE }] }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: p, namespace: shop }
spec: { targetRefs: [{ group: "", kind: Service, name: web }] }
`),
    0,
  );
  assert.match(text, /: 1 node, 1 pod, 1 service, 1 policy, 1 waypoint, 0 routes\.$/m);
  assert.match(text, /shop\/way .* \(waypoint of web\.shop\.svc\.cluster\.local\)/);
});

test("speaker: names file, line and column of each problem", () => {
  const one = { line: 3, column: 5, message: "no" };
  assert.equal(describeProblems("m.yaml", [one]), "m.yaml:3:5: no");
  assert.equal(describeProblems("m.yaml", [one, { ...one, line: 4 }]), "2 problems\nm.yaml:3:5: no\nm.yaml:4:5: no");
});

test("speaker: says who said a line", () => {
  let out = "";
  const speaker = new Speaker((text) => out += text);
  speaker.say("node-a", "one");
  speaker.say("productpage", "two");
  speaker.say("node-a", "three");
  assert.equal(out, "node-a | one\nproductpage | two\nnode-a      | three\n");
});

test("access_line: reads a ztunnel's access-log line, and nothing else", () => {
  const line =
    `node-b | 2026-01-01T00:00:00.000000Z\tinfo\taccess\tconnection complete\tsrc.addr=10.0.0.1:5 src.workload="a b" ` +
    `error="said \\"no\\""`;
  assert.deepEqual(parseAccessLine(line), {
    node: "node-b",
    level: "info",
    message: "connection complete",
    fields: { "src.addr": "10.0.0.1:5", "src.workload": "a b", error: `said "no"` },
  });
  for (const other of ["", "x | y", "node-b | t\tinfo\tmain\tstarted\ta=1"]) {
    assert.equal(parseAccessLine(other), undefined);
  }
});
