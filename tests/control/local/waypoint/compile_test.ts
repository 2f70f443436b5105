/** What a mesh file becomes for a waypoint, compared with what a real istiod sent for the same objects (tests/fixtures/waypoint). */
import assert from "node:assert/strict";
import { test } from "node:test";
import { compileWaypoint } from "../../../../src/control/local/waypoint/mod.ts";
import { replay } from "../../../waypoint/config/fixtures.ts";
import { MESH, takeIn, world } from "./support.ts";

const B80 = "inbound-vip|80|http|b.demo.svc.cluster.local";
const B9000 = "inbound-vip|9000|tcp|b.demo.svc.cluster.local";

test("local waypoint: without any object everything is taken in, and requests go to the service", () => {
  const { rejections, http, chain, cluster, endpoints } = takeIn("");
  assert.deepEqual(rejections, []);
  const plain = replay("plain");
  const fixture = plain.chain(B80);
  assert.ok(fixture.kind === "http");
  assert.deepEqual(http(B80).routes, fixture.routes);
  assert.deepEqual(http(B80).options, fixture.options);
  assert.deepEqual(http(B80).stats, fixture.stats);
  assert.equal(http(B80).accessLogs.length, 1, "a line a request, which a mesh of one machine shows");
  const { accessLogs, ...bytes } = chain(B9000) as { accessLogs: readonly unknown[] };
  const { accessLogs: none, ...theirs } = plain.chain(B9000) as { accessLogs: readonly unknown[] };
  assert.deepEqual([accessLogs.length, none.length], [1, 0]);
  assert.deepEqual(bytes, theirs);
  const made = cluster(B80);
  const real = plain.cluster(B80);
  for (const key of ["discovery", "balancing", "transport", "transportByTag", "limits", "connectTimeoutMs"] as const) {
    assert.deepEqual(made[key], real[key], key);
  }
  const [locality] = endpoints(B80).localities;
  assert.equal(locality!.endpoints.length, 1);
  assert.equal(locality!.endpoints[0]!.id.includes("10.1.0.2:8080"), true);
});

test("local waypoint: the cluster of called addresses is istiod's", () => {
  assert.deepEqual(takeIn("").cluster("encap"), replay("plain").cluster("encap"));
});

test("local waypoint: workloads by address, and both chains for them", () => {
  const { chain, updates } = takeIn("");
  assert.equal(chain("direct-http").kind, "http");
  assert.equal(chain("direct-tcp").kind, "tcp");
  const workloads = updates.flatMap(({ workloads = [] }) => workloads);
  assert.equal(workloads.length, MESH.workloads.length);
});

test("local waypoint: the same file gives the same bytes, and a change changes only what it touches", () => {
  const route = (weight: number) =>
    `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: b, namespace: demo }
spec:
  parentRefs: [{ group: "", kind: Service, name: b, port: 80 }]
  rules: [{ backendRefs: [{ name: b, port: 80, weight: ${weight} }, { name: c, port: 80, weight: 1 }] }]
`;
  const compile = (text: string) => compileWaypoint(world(text)).resources;
  assert.deepEqual(compile(route(1)), compile(route(1)));
  const versions = (text: string) =>
    new Map(compile(text).map(({ typeUrl, name, version }) => [typeUrl + name, version]));
  const before = versions(route(1)), after = versions(route(2));
  const changed = [...after].filter(([key, version]) => before.get(key) !== version).map(([key]) => key);
  assert.deepEqual(changed, ["type.googleapis.com/envoy.config.listener.v3.Listenermain_internal"]);
});
