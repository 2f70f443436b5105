/**
 * From what a person writes to the complete resources a ztunnel takes: pods become Workloads, services get their hostname and
 * virtual addresses, and label selectors become the references that the vocabulary has (reference ztunnel.md 3.5, 9.2).
 */
import type { AddressBook } from "./addresses.ts";
import type { FieldReader, Fields } from "./field_reader.ts";
import type { WaypointGateway, ZtunnelPolicy } from "./kube/mod.ts";
import type { MeshPod, ReadPod } from "./mesh_file.ts";
import type { Traffic, UseWaypoint } from "./use_waypoint.ts";
import { WAYPOINT_PORT, waypointService, waypointServiceFields } from "./waypoint_pods.ts";
import type { SourcePath } from "./yaml_source.ts";

export interface HostName {
  readonly address: string;
  readonly names: readonly string[];
}

export interface MeshExpansion {
  /** For the mesh's own parser. */
  readonly resources: {
    readonly workloads: readonly Fields[];
    readonly services: readonly Fields[];
    readonly policies: readonly Fields[];
  };
  readonly hosts: readonly HostName[];
  /** Where a part of `resources` stands in the file. */
  origin(path: SourcePath): SourcePath;
}

interface Service {
  readonly key: string;
  readonly namespace: string;
  readonly selector: Readonly<Record<string, string>> | undefined;
  readonly resource: Fields;
}

interface Policy {
  readonly key: string;
  readonly namespace: string;
  readonly selector: Readonly<Record<string, string>> | undefined;
  readonly resource: Fields;
}

/** Kubernetes' labels for the name and version of an application, the most specific first. */
const NAME_LABELS = ["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"] as const;
const REVISION_LABELS = ["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"] as const;

export interface ExpansionInput {
  /** Problems of the sugar go here; the resources themselves are checked by the mesh's own parser. */
  readonly reader: FieldReader;
  readonly top: Fields;
  readonly pods: readonly ReadPod[];
  readonly book: AddressBook;
  readonly taken: ReadonlySet<string>;
  /** Each has a Service. */
  readonly gateways: readonly WaypointGateway[];
  /** Beside the file's own. */
  readonly policies: readonly ZtunnelPolicy[];
  readonly useWaypoint: UseWaypoint;
}

export function expandMesh(input: ExpansionInput): MeshExpansion {
  const { reader, top, pods } = input;
  const gateways = input.gateways.map((gateway) => ({ fields: waypointServiceFields(gateway), path: gateway.path }));
  const serviceEntries = [...reader.objects(top.services, ["services"]), ...gateways];
  const policyEntries = [...reader.objects(top.policies, ["policies"]), ...input.policies];
  const services = serviceEntries.map(({ fields, path }) => expandService(input, fields, path));
  const policies = policyEntries.map(({ fields, path }) => expandPolicy(reader, fields, path));
  const workloads = reader.objects(top.workloads, ["workloads"]).map(({ fields }) => fields);
  return {
    resources: {
      workloads: [...pods.map((pod) => toWorkload(input, pod, services, policies)), ...workloads],
      services: services.map((service) => service.resource),
      policies: policies.map((policy) => policy.resource),
    },
    hosts: services.flatMap((service) => hostNames(service, services)),
    origin([list, index, ...rest]) {
      if (typeof index !== "number") return [list, index, ...rest].filter(isStep);
      const made = { workloads: pods, services: serviceEntries, policies: policyEntries }[list as "workloads"];
      const path = made?.[index]?.path;
      if (path !== undefined) return [...path, ...rest];
      return ["workloads", index - pods.length, ...rest];
    },
  };
}

/** An entry that names its waypoint itself, or the fields that its labels make. */
function waypointFields(
  { reader, useWaypoint }: ExpansionInput,
  fields: Fields,
  namespace: string,
  labels: Readonly<Record<string, string>>,
  path: SourcePath,
  traffic: Traffic,
): Fields {
  const label = labels["istio.io/use-waypoint"];
  if (fields.waypoint !== undefined) {
    if (label !== undefined) reader.fail([...path, "waypoint"], "there is the label istio.io/use-waypoint too");
    return {};
  }
  const gateway = useWaypoint.find({ namespace, labels, path: [...path, "labels"] }, traffic);
  if (gateway === undefined) return {};
  return { waypoint: { destination: waypointService(gateway), hboneMtlsPort: WAYPOINT_PORT } };
}

function isStep(step: string | number | undefined): step is string | number {
  return step !== undefined;
}

function expandService(input: ExpansionInput, fields: Fields, path: SourcePath): Service {
  const { reader, book, taken } = input;
  const name = reader.name(fields, "name", path);
  const namespace = reader.name(fields, "namespace", path, "default");
  const hostname = typeof fields.hostname === "string" ? fields.hostname : `${name}.${namespace}.svc.cluster.local`;
  // An empty list is a headless service: its name stands for its pods.
  const headless = Array.isArray(fields.vips) && fields.vips.length === 0;
  const vips = headless ? [] : reader.textOrTexts(fields, "vips", path) ??
    book.allocate("service", `${namespace}/${hostname}`, ["ipv4", "ipv6"], taken);
  const { selector, labels: _, ...rest } = fields;
  const key = `${namespace}/${hostname}`;
  // A waypoint's own traffic comes straight to it.
  const waypoint = input.gateways.some((gateway) => waypointService(gateway) === key)
    ? {}
    : waypointFields(input, fields, namespace, reader.texts(fields, "labels", path), path, "service");
  return {
    key,
    namespace,
    selector: selector === undefined ? undefined : reader.texts(fields, "selector", path),
    resource: {
      ...rest,
      ...waypoint,
      name,
      namespace,
      hostname,
      // A virtual address is "network/address"; people write the address alone.
      vips: vips.map((vip) => vip.includes("/") ? vip : `/${vip}`),
    },
  };
}

function expandPolicy(reader: FieldReader, fields: Fields, path: SourcePath): Policy {
  const name = reader.name(fields, "name", path);
  const namespace = reader.name(fields, "namespace", path, "default");
  const { selector, ...rest } = fields;
  if (selector !== undefined && rest.scope !== undefined && rest.scope !== "WorkloadSelector") {
    reader.fail([...path, "scope"], `a policy with a selector has the scope WorkloadSelector; leave "scope" out`);
  }
  const scope = rest.scope ?? (selector === undefined ? "Namespace" : "WorkloadSelector");
  return {
    key: `${namespace}/${name}`,
    namespace,
    selector: selector === undefined ? undefined : reader.texts(fields, "selector", path),
    resource: { ...rest, name, namespace, scope },
  };
}

function toWorkload(
  input: ExpansionInput,
  { pod, path, workload }: ReadPod,
  services: readonly Service[],
  policies: readonly Policy[],
): Fields {
  const { reader } = input;
  const waypoint = pod.isWaypoint ? {} : waypointFields(input, workload, pod.namespace, pod.labels, path, "workload");
  const endpoints = services.filter((service) => selects(service, pod)).map(({ key, resource }) => [
    key,
    resource.ports ?? {},
  ]);
  const selected = policies.filter((policy) => selects(policy, pod)).map((policy) => policy.key);
  const ownServices = workload.services === undefined ? {} : reader.object(workload.services, [...path, "services"]);
  const ownPolicies = reader.textOrTexts(workload, "authorizationPolicies", path) ?? [];
  return {
    workloadIps: pod.addresses,
    protocol: pod.captured ? "HBONE" : "TCP",
    name: pod.name,
    namespace: pod.namespace,
    serviceAccount: pod.serviceAccount,
    node: pod.node,
    workloadName: pod.name,
    workloadType: "pod",
    canonicalName: firstLabel(pod, NAME_LABELS) ?? pod.name,
    canonicalRevision: firstLabel(pod, REVISION_LABELS) ?? "latest",
    ...workload,
    ...waypoint,
    uid: pod.uid,
    services: { ...Object.fromEntries(endpoints), ...ownServices },
    authorizationPolicies: [...new Set([...ownPolicies, ...selected])],
  };
}

/** An empty selector selects every pod of the namespace; no selector selects none. Waypoints are nobody's. */
function selects({ selector, namespace }: Service | Policy, pod: MeshPod): boolean {
  return selector !== undefined && !pod.isWaypoint && namespace === pod.namespace &&
    Object.entries(selector).every(([key, value]) => pod.labels[key] === value);
}

function firstLabel(pod: MeshPod, keys: readonly string[]): string | undefined {
  return keys.map((key) => pod.labels[key]).find((value) => value !== undefined);
}

/** The names of a service as a client in its namespace or in any other would write them; the bare name only if it is the only one. */
function hostNames({ resource, namespace }: Service, all: readonly Service[]): HostName[] {
  const { name, hostname, vips } = resource as { name: string; hostname: string; vips: readonly string[] };
  const alone = all.filter((other) => other.resource.name === name).length === 1;
  const names = new Set([hostname, `${name}.${namespace}`, `${name}.${namespace}.svc`, ...(alone ? [name] : [])]);
  return vips.map((vip) => ({ address: vip.slice(vip.lastIndexOf("/") + 1), names: [...names] }));
}
