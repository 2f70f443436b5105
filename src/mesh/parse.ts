/**
 * Mesh resources from plain values: `{workloads, services, policies}` in the vocabulary of ztunnel's local file. All
 * errors are reported, each with its path. Nothing is dropped or guessed: an unknown field or a matcher that cannot be
 * read is an error, because leaving it out could widen access.
 */
import {
  flag,
  integer,
  list,
  map,
  nonEmptyText,
  object,
  oneOf,
  optional,
  optionalNotNull,
  parsed,
  Problems,
  required,
  type ResourceError,
  text,
} from "./decode.ts";
import { createPolicy, createService, createWorkload } from "./defaults.ts";
import { canonicalIp, formatCidr, parseCidr } from "./ip.ts";
import { decodeRules } from "./parse_policy.ts";
import { HBONE_PORT } from "./ports.ts";
import { parsePort } from "./socket_address.ts";
import {
  type Authorization,
  type CidrVip,
  type GatewayAddress,
  keyOfPolicy,
  keyOfService,
  type LoadBalancer,
  type Locality,
  type MeshResources,
  type NetworkAddress,
  networkAddress,
  type PolicyKey,
  type PortMap,
  type Service,
  type ServiceKey,
  type WeightedWaypoint,
  type Workload,
  type WorkloadUid,
  workloadUid,
} from "./types.ts";

export type { ResourceError } from "./decode.ts";

export type ParseResult =
  | { readonly ok: true; readonly resources: MeshResources }
  /** Never empty. */
  | { readonly ok: false; readonly errors: readonly ResourceError[] };

export function parseMesh(value: unknown): ParseResult {
  const problems = new Problems();
  const resources = decodeResources(value, [], problems);
  refuseDuplicates("workloads", resources.workloads.map((workload) => workload.uid), "uid", problems);
  refuseDuplicates("services", resources.services.map(keyOfService), "namespace and hostname", problems);
  refuseDuplicates("policies", resources.policies.map(keyOfPolicy), "namespace and name", problems);
  return problems.errors.length === 0 ? { ok: true, resources } : { ok: false, errors: problems.errors };
}

const port = integer(1, 65_535);
const U32_MAX = 0xffff_ffff;

const ip = parsed(canonicalIp, `an IP address: write it like "10.0.0.1" or "2001:db8::1"`, "");
const cidr = parsed(
  (value) => {
    const range = parseCidr(value);
    return range === undefined ? undefined : formatCidr(range);
  },
  `an address range: write it like "10.0.0.0/8"`,
  "",
);
const vip = parsed<NetworkAddress>(
  readNetworkAddress,
  `a network address: write it like "network/10.0.0.1", or "10.0.0.1" without a network`,
  networkAddress("", ""),
);
const serviceKeyRule = `write it as "namespace/hostname"`;
const policyKeyText = parsed<PolicyKey>(
  (value) => splitKey(value) as PolicyKey | undefined,
  `the key of a policy: write it as "namespace/name"`,
  "" as PolicyKey,
);

const portMap: (targetMin: 0 | 1) => ReturnType<typeof map<number>> = (targetMin) =>
  map(
    (key) => {
      const read = parsePort(key);
      return read === undefined || read === 0 ? undefined : key;
    },
    "a port is a whole number from 1 to 65535",
    integer(targetMin, 65_535),
  );

const gatewayAddress = object<GatewayAddress>({
  destination: required(
    parsed(readDestination, `a gateway: write "network/10.0.0.1", "10.0.0.1" or "namespace/hostname"`, ""),
    "",
  ),
  hboneMtlsPort: optional(port, HBONE_PORT),
});

const locality = object<Locality>({
  region: optional(text, ""),
  zone: optional(text, ""),
  subzone: optional(text, ""),
});

const workloadFields = object<Omit<Workload, "uid"> & { readonly uid: WorkloadUid | undefined }>({
  uid: optional((value, path, problems) => workloadUid(nonEmptyText(value, path, problems)), undefined),
  name: required(nonEmptyText, ""),
  namespace: required(nonEmptyText, ""),
  workloadIps: optional(list(ip), []),
  network: optional(text, ""),
  protocol: optional(oneOf("HBONE", "TCP"), "TCP"),
  networkMode: optional(oneOf("Standard", "HostNetwork"), "Standard"),
  trustDomain: optional(text, ""),
  serviceAccount: optional(text, ""),
  waypoint: optional(gatewayAddress, undefined),
  networkGateway: optional(gatewayAddress, undefined),
  workloadName: optional(text, ""),
  workloadType: optional(oneOf("", "deployment", "cronjob", "pod", "job"), ""),
  canonicalName: optional(text, ""),
  canonicalRevision: optional(text, ""),
  hostname: optional(text, ""),
  node: optional(text, ""),
  nativeTunnel: optional(flag, false),
  applicationTunnel: optional(
    object<NonNullable<Workload["applicationTunnel"]>>({
      protocol: required(oneOf("PROXY", "NONE"), "NONE"),
      port: optional(port, undefined),
    }),
    undefined,
  ),
  authorizationPolicies: optionalNotNull(list(policyKeyText), []),
  status: optional(oneOf("Healthy", "Unhealthy"), "Healthy"),
  clusterId: optional(text, ""),
  locality: optional(locality, { region: "", zone: "", subzone: "" }),
  services: optional(map<PortMap>(splitKey, serviceKeyRule, portMap(0)), {} as Readonly<Record<ServiceKey, PortMap>>),
  capacity: optional(integer(0, U32_MAX), 1),
});

const loadBalancer = object<LoadBalancer>({
  routingPreferences: optional(list(oneOf("Region", "Zone", "Subzone", "Node", "Cluster", "Network")), []),
  mode: optional(oneOf("Standard", "Strict", "Failover", "Passthrough"), "Standard"),
  healthPolicy: optional(oneOf("OnlyHealthy", "AllowAll"), "OnlyHealthy"),
});

const serviceFields = object<Service>({
  name: required(nonEmptyText, ""),
  namespace: required(nonEmptyText, ""),
  hostname: required(nonEmptyText, ""),
  vips: optional(list(vip), []),
  cidrVips: optional(list(object<CidrVip>({ network: optional(text, ""), cidr: required(cidr, "") })), []),
  ports: optional(portMap(0), {}),
  subjectAltNames: optional(list(nonEmptyText), []),
  waypoint: optional(gatewayAddress, undefined),
  weightedWaypoints: optional(
    list(object<WeightedWaypoint>({
      destination: required(gatewayAddress, { destination: "", hboneMtlsPort: HBONE_PORT }),
      weight: required(integer(0, U32_MAX), 0),
    })),
    [],
  ),
  loadBalancer: optional(loadBalancer, undefined),
  ipFamilies: optional(oneOf("IPv4", "IPv6", "Dual"), undefined),
  canonical: optional(flag, false),
  visibility: optional(oneOf("Public", "Namespace"), "Public"),
}, { endpoints: `endpoints come from the workloads: list the service in a workload's "services" instead` });

const policyFields = object<Authorization>({
  name: required(nonEmptyText, ""),
  namespace: required(nonEmptyText, ""),
  scope: required(oneOf("Global", "Namespace", "WorkloadSelector"), "Global"),
  action: required(oneOf("Allow", "Deny"), "Deny"),
  rules: optionalNotNull(decodeRules, []),
  dryRun: optionalNotNull(flag, false),
});

const decodeResources = object<MeshResources>({
  workloads: optional(
    list((value, path, problems) => createWorkload(workloadFields(value, path, problems))),
    [],
  ),
  services: optional(list((value, path, problems) => createService(serviceFields(value, path, problems))), []),
  policies: optional(list((value, path, problems) => createPolicy(policyFields(value, path, problems))), []),
});

/** `left/right` with something on both sides; only the first slash counts. */
function splitKey(value: string): string | undefined {
  const slash = value.indexOf("/");
  return slash > 0 && slash < value.length - 1 ? value : undefined;
}

function readNetworkAddress(value: string): NetworkAddress | undefined {
  const slash = value.indexOf("/");
  const address = canonicalIp(value.slice(slash + 1));
  return address === undefined ? undefined : networkAddress(value.slice(0, Math.max(slash, 0)), address);
}

function readDestination(value: string): string | undefined {
  return readNetworkAddress(value) ?? splitKey(value);
}

function refuseDuplicates(kind: string, keys: readonly string[], what: string, problems: Problems): void {
  const first = new Map<string, number>();
  keys.forEach((key, index) => {
    const before = first.get(key);
    if (before === undefined) first.set(key, index);
    else problems.add([kind, index], `same ${what} as ${kind}[${before}] ("${key}"): each may appear only once`);
  });
}
