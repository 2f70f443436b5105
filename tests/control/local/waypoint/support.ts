/** Waypoints of small mesh files, compiled and taken in as a waypoint does. */
import assert from "node:assert/strict";
import { FieldReader } from "../../../../src/control/local/field_reader.ts";
import { readKubeObjects } from "../../../../src/control/local/kube/mod.ts";
import {
  checkAttachments,
  type CompiledWaypoint,
  compileWaypoint,
} from "../../../../src/control/local/waypoint/mod.ts";
import type { WaypointWorld } from "../../../../src/control/local/waypoint/world.ts";
import { readYamlDocuments } from "../../../../src/control/local/yaml_source.ts";
import { openResource } from "../../../../src/control/xds/resource.ts";
import { parseMesh } from "../../../../src/mesh/parse.ts";
import { type MeshResources, serviceKey, workloadUid } from "../../../../src/mesh/types.ts";
import { TYPES, WaypointIntake } from "../../../../src/waypoint/config/mod.ts";
import type {
  ChainSpec,
  ClusterSpec,
  ConfigUpdate,
  EndpointsSpec,
  HttpChainSpec,
} from "../../../../src/waypoint/spec/mod.ts";

const GATEWAY = `apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: waypoint, namespace: demo }
spec: { gatewayClassName: istio-waypoint, listeners: [{ name: mesh, port: 15008, protocol: HBONE }] }
`;

const workload = (name: string, ip: string, more: object = {}) => ({
  uid: `Kubernetes//Pod/demo/${name}`,
  name,
  namespace: "demo",
  workloadIps: [ip],
  protocol: "HBONE",
  serviceAccount: name,
  node: "n1",
  workloadName: name,
  workloadType: "pod",
  canonicalName: name,
  canonicalRevision: "latest",
  ...more,
});
const service = (name: string, vip: string, ports: Readonly<Record<number, number>>) => ({
  name,
  namespace: "demo",
  hostname: `${name}.demo.svc.cluster.local`,
  vips: [`/${vip}`, `/fd00::${vip.split(".").pop()}`],
  ports,
});
const endpointOf = (...names: string[]) =>
  Object.fromEntries(names.map((name) => [`demo/${name}.demo.svc.cluster.local`, {}]));

/** `b` and `grpc` pass the waypoint, `a` and `c` do not; c's pod has no tunnel. */
export const MESH: MeshResources = (() => {
  const parsed = parseMesh({
    workloads: [
      workload("a", "10.1.0.1", { services: endpointOf("a") }),
      workload("b", "10.1.0.2", { services: endpointOf("b", "grpc") }),
      workload("c", "10.1.0.3", { services: endpointOf("c"), protocol: "TCP" }),
    ],
    services: [
      service("a", "10.2.0.1", { 80: 8080 }),
      service("b", "10.2.0.2", { 80: 8080, 9000: 9000 }),
      service("c", "10.2.0.3", { 80: 8080, 9000: 9000 }),
      service("grpc", "10.2.0.4", { 7070: 7070 }),
    ],
    policies: [],
  });
  assert.ok(parsed.ok, JSON.stringify(parsed));
  return parsed.resources;
})();

export function world(objects: string, mesh = MESH): WaypointWorld {
  const documents = readYamlDocuments(`${GATEWAY}---\n${objects}`);
  assert.ok(documents.ok, JSON.stringify(documents));
  const reader = new FieldReader();
  const kube = readKubeObjects(
    reader,
    documents.documents.map(({ value }, index) => ({ value, path: ["documents", index] })).filter(({ value }) =>
      value !== null
    ),
  );
  assert.deepEqual(reader.problems, []);
  return {
    gateway: kube.gateways[0]!,
    mesh,
    kube,
    services: new Set(["b", "grpc"].map((name) => serviceKey("demo", `${name}.demo.svc.cluster.local`))),
    workloads: new Set([workloadUid("Kubernetes//Pod/demo/b")]),
  };
}

export interface TakenIn {
  readonly compiled: CompiledWaypoint;
  readonly rejections: readonly string[];
  readonly updates: readonly Partial<ConfigUpdate>[];
  chain(name: string): ChainSpec;
  http(name: string): HttpChainSpec;
  cluster(name: string): ClusterSpec;
  endpoints(name: string): EndpointsSpec;
}

/** As the waypoint's own intake sees it. */
export function takeIn(objects: string, mesh = MESH): TakenIn {
  const compiled = compileWaypoint(world(objects, mesh));
  const intake = new WaypointIntake(() => {});
  const updates: Partial<ConfigUpdate>[] = [];
  const rejections: string[] = [];
  for (const type of [TYPES.clusters, TYPES.endpoints, TYPES.listeners, TYPES.workloads]) {
    const resources = compiled.resources.filter(({ typeUrl }) => typeUrl === `type.googleapis.com/${type}`);
    assert.ok(resources.length > 0, type);
    const result = intake.apply({ type, resources: resources.map(({ bytes }) => openResource(bytes)), removed: [] });
    rejections.push(...result.rejections.map(({ name, reason }) => `${name}: ${reason}`));
    if (result.update !== undefined) updates.push(result.update);
  }
  const find = <T extends { readonly name: string }>(lists: (readonly T[] | undefined)[], name: string): T => {
    const found = lists.flatMap((list) => list ?? []).filter((each) => each.name === name);
    return found.at(-1) ?? assert.fail(`there is no ${name}`);
  };
  const chain = (name: string): ChainSpec => find(updates.map(({ chains }) => chains), name);
  return {
    compiled,
    rejections,
    updates,
    chain,
    http(name) {
      const found = chain(name);
      return found.kind === "http" ? found : assert.fail(`${name} is of the kind ${found.kind}`);
    },
    cluster: (name) => find(updates.map(({ clusters }) => clusters), name),
    endpoints: (name) => find(updates.map(({ endpoints }) => endpoints), name),
  };
}

/** What is wrong, as `place: message`. */
export function problemsOf(objects: string): string[] {
  const made = world(objects);
  const all = [...compileWaypoint(made).problems, ...checkAttachments(made.kube, made.mesh, [made])];
  return all.map(({ path, message }) => `${path.slice(2).join(".")}: ${message}`);
}
