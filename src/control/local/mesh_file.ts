/**
 * The mesh file of `ambit local`: nodes, pods, services and policies in one YAML document, and beside it what is written for
 * Kubernetes: Gateways of waypoints, routes, policies.
 *
 * Services, policies and workloads are in the vocabulary of the reference's local xDS file (ztunnel.md 3.5 and 9.2), with
 * defaults for what can be derived; nodes and pods are what a machine needs on top. A pod yields its Workload. A file
 * is taken whole or not at all, with every problem at its line.
 */
import { parseMesh } from "../../mesh/parse.ts";
import { keyOfService, type MeshResources, type ServiceKey, type WorkloadUid } from "../../mesh/types.ts";
import type { AddressBook } from "./addresses.ts";
import { type FieldProblem, FieldReader, type Fields } from "./field_reader.ts";
import { type KubeObjects, readKubeObjects, type WaypointGateway, ztunnelPolicies } from "./kube/mod.ts";
import { readMeshDocuments } from "./mesh_documents.ts";
import { expandMesh, type HostName } from "./mesh_expansion.ts";
import { collectAddresses, readNodes, readPods } from "./mesh_places.ts";
import { UseWaypoint } from "./use_waypoint.ts";
import { placeWaypoints, waypointService } from "./waypoint_pods.ts";
import { checkAttachments, compileWaypoint } from "./waypoint/mod.ts";
import type { Problem, SourcePath } from "./yaml_source.ts";

export type { HostName } from "./mesh_expansion.ts";
export type { Problem } from "./yaml_source.ts";

export interface MeshNode {
  readonly name: string;
  /** At most one of each family, canonical. */
  readonly addresses: readonly string[];
}

export interface MeshPod {
  readonly uid: string;
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  /** The SPIFFE id its ztunnel, or it itself as a waypoint, presents for it. */
  readonly identity: string;
  readonly node: string;
  readonly addresses: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  /** Its traffic passes the node's ztunnel. */
  readonly captured: boolean;
  /** It is a Gateway's, and runs its waypoint. */
  readonly isWaypoint: boolean;
  /** What runs in it; undefined: nothing but what a person starts. */
  readonly command: readonly string[] | undefined;
  readonly env: Readonly<Record<string, string>>;
}

/** A Gateway, and what passes it. */
export interface MeshWaypoint {
  readonly gateway: WaypointGateway;
  readonly pod: MeshPod;
  readonly services: ReadonlySet<ServiceKey>;
  /** When they are called by their own address. */
  readonly workloads: ReadonlySet<WorkloadUid>;
}

export interface MeshFile {
  readonly nodes: readonly MeshNode[];
  /** Those of waypoints come last. */
  readonly pods: readonly MeshPod[];
  readonly waypoints: readonly MeshWaypoint[];
  readonly kube: KubeObjects;
  /** For the ztunnels. */
  readonly resources: MeshResources;
  /** The names of services, for a hosts file. */
  readonly hosts: readonly HostName[];
}

export type MeshFileResult =
  | { readonly ok: true; readonly mesh: MeshFile }
  /** In the order of the lines. */
  | { readonly ok: false; readonly problems: readonly Problem[] };

/** A pod, where it stands, and its fields that belong to the Workload. */
export interface ReadPod {
  readonly pod: MeshPod;
  readonly path: SourcePath;
  readonly workload: Fields;
}

const TOP_KEYS = ["nodes", "pods", "services", "policies", "workloads"] as const;

/** Reads `text`. `book` gives addresses where the file names none, the same for the same names. */
export function readMeshFile(text: string, book: AddressBook): MeshFileResult {
  const read = readMeshDocuments(text);
  if (!read.ok) return read;
  const { documents } = read;
  const refused = (problems: readonly FieldProblem[]): MeshFileResult => {
    const placed = problems.map(({ path, message }) => documents.at(path, message));
    return { ok: false, problems: placed.sort((a, b) => a.line - b.line || a.column - b.column) };
  };
  const reader = new FieldReader();
  const top = reader.object(documents.mesh, []);
  reader.onlyKnown(top, TOP_KEYS, []);
  const kube = readKubeObjects(reader, documents.kube);

  const taken = collectAddresses(top);
  const nodes = readNodes(reader, top, book, taken);
  const own = readPods(reader, top, nodes, book, taken);
  const names = new Set(own.map(({ pod }) => `${pod.namespace}/${pod.name}`));
  const pods = [...own, ...placeWaypoints(reader, kube.gateways, nodes, names, book, taken)];
  const expansion = expandMesh({
    reader,
    top,
    pods,
    book,
    taken,
    gateways: kube.gateways,
    policies: ztunnelPolicies(reader, kube.policies),
    useWaypoint: new UseWaypoint(reader, kube),
  });
  if (reader.problems.length > 0) return refused(reader.problems);
  const parsed = parseMesh(expansion.resources);
  if (!parsed.ok) {
    return refused(parsed.errors.map(({ path, message }) => ({ path: expansion.origin(path), message })));
  }
  const { resources } = parsed;
  const worlds = kube.gateways.map((gateway) => ({ gateway, mesh: resources, kube, ...passing(gateway, resources) }));
  // What comes of it is made again when it is told: who is captured may be otherwise then.
  const problems = [
    ...checkAttachments(kube, resources, worlds),
    ...worlds.flatMap((world) => compileWaypoint(world).problems),
  ];
  if (problems.length > 0) return refused(unique(problems));
  return {
    ok: true,
    mesh: {
      nodes,
      pods: pods.map(({ pod }) => pod),
      waypoints: worlds.map(({ gateway, services, workloads }, index) => ({
        gateway,
        pod: pods[own.length + index]!.pod,
        services,
        workloads,
      })),
      kube,
      resources,
      hosts: expansion.hosts,
    },
  };
}

/** Whatever names the waypoint, by a label or by a field of its own. */
function passing(gateway: WaypointGateway, { services, workloads }: MeshResources) {
  const key = waypointService(gateway);
  return {
    services: new Set(services.filter(({ waypoint }) => waypoint?.destination === key).map(keyOfService)),
    workloads: new Set(workloads.filter(({ waypoint }) => waypoint?.destination === key).map(({ uid }) => uid)),
  };
}

/** Several waypoints may find the same. */
function unique(problems: readonly FieldProblem[]): readonly FieldProblem[] {
  return [...new Map(problems.map((problem) => [JSON.stringify([problem.path, problem.message]), problem])).values()];
}
