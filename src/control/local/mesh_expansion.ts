/**
 * From what a person writes to the complete resources a ztunnel takes: pods become Workloads, services get their hostname and
 * virtual addresses, and label selectors become the references that the vocabulary has (reference ztunnel.md 3.5, 9.2).
 */
import type { AddressBook } from "./addresses.ts";
import type { FieldReader, Fields } from "./field_reader.ts";
import type { MeshPod, ReadPod } from "./mesh_file.ts";
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

/** Problems of the sugar go to `reader`; the resources themselves are checked by the mesh's own parser. */
export function expandMesh(
  reader: FieldReader,
  top: Fields,
  pods: readonly ReadPod[],
  book: AddressBook,
  taken: ReadonlySet<string>,
): MeshExpansion {
  const services = reader.objects(top.services, ["services"]).map(({ fields, path }) =>
    expandService(reader, fields, path, book, taken)
  );
  const policies = reader.objects(top.policies, ["policies"]).map(({ fields, path }) =>
    expandPolicy(reader, fields, path)
  );
  const workloads = reader.objects(top.workloads, ["workloads"]).map(({ fields }) => fields);
  return {
    resources: {
      workloads: [...pods.map((pod) => toWorkload(reader, pod, services, policies)), ...workloads],
      services: services.map((service) => service.resource),
      policies: policies.map((policy) => policy.resource),
    },
    hosts: services.flatMap((service) => hostNames(service, services)),
    origin([list, index, ...rest]) {
      if (list !== "workloads" || typeof index !== "number") return [...[list, index], ...rest].filter(isStep);
      const pod = pods[index];
      return pod === undefined ? ["workloads", index - pods.length, ...rest] : [...pod.path, ...rest];
    },
  };
}

function isStep(step: string | number | undefined): step is string | number {
  return step !== undefined;
}

function expandService(
  reader: FieldReader,
  fields: Fields,
  path: SourcePath,
  book: AddressBook,
  taken: ReadonlySet<string>,
): Service {
  const name = reader.name(fields, "name", path);
  const namespace = reader.name(fields, "namespace", path, "default");
  const hostname = typeof fields.hostname === "string" ? fields.hostname : `${name}.${namespace}.svc.cluster.local`;
  // An empty list is a headless service: its name stands for its pods.
  const headless = Array.isArray(fields.vips) && fields.vips.length === 0;
  const vips = headless ? [] : reader.textOrTexts(fields, "vips", path) ??
    book.allocate("service", `${namespace}/${hostname}`, ["ipv4", "ipv6"], taken);
  const { selector, ...rest } = fields;
  return {
    key: `${namespace}/${hostname}`,
    namespace,
    selector: selector === undefined ? undefined : reader.texts(fields, "selector", path),
    // A virtual address is "network/address"; people write the address alone.
    resource: { ...rest, name, namespace, hostname, vips: vips.map((vip) => vip.includes("/") ? vip : `/${vip}`) },
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
  reader: FieldReader,
  { pod, path, workload }: ReadPod,
  services: readonly Service[],
  policies: readonly Policy[],
): Fields {
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
    uid: pod.uid,
    services: { ...Object.fromEntries(endpoints), ...ownServices },
    authorizationPolicies: [...new Set([...ownPolicies, ...selected])],
  };
}

/** An empty selector selects every pod of the namespace, as in Kubernetes; no selector selects none. */
function selects({ selector, namespace }: Service | Policy, pod: MeshPod): boolean {
  return selector !== undefined && namespace === pod.namespace &&
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
