/**
 * The same resources by another way: bytes through the generated decoder, then field by field into the model. Slow and plain; what it
 * refuses it refuses by throwing. It does not see what the generated decoder hides: a second message where one may be, an
 * unknown wire type.
 */
import { fromBinary, isMessage } from "@bufbuild/protobuf";
import {
  type Authorization as AuthorizationMessage,
  AuthorizationSchema,
} from "../../../../src/gen/istio/security/authorization_pb.ts";
import type {
  Address as RangeMessage,
  StringMatch as StringMatchMessage,
} from "../../../../src/gen/istio/security/authorization_pb.ts";
import {
  AddressSchema,
  type GatewayAddress as GatewayMessage,
  type NetworkAddress as NetworkAddressMessage,
  type Port,
  type Service as ServiceMessage,
  type Workload as WorkloadMessage,
} from "../../../../src/gen/istio/workload/workload_pb.ts";
import {
  type Authorization,
  canonicalIp,
  createPolicy,
  createService,
  createWorkload,
  formatCidr,
  formatIp,
  type GatewayAddress,
  type Match,
  type NetworkAddress,
  networkAddress,
  parseCidr,
  type PolicyKey,
  type Service,
  type StringMatch,
  type Workload,
  workloadUid,
} from "../../../../src/mesh/mod.ts";

function refuse(why: string): never {
  throw new Error(why);
}

const pick = <T>(names: readonly T[], value: number): T =>
  value in names ? names[value] : refuse(`enum value ${value}`);
const port = (value: number) => value <= 65_535 ? value : refuse(`port ${value}`);

function ipOf(bytes: Uint8Array): string {
  return bytes.length === 4 || bytes.length === 16 ? formatIp(bytes) : refuse("address length");
}

function portsOf(ports: readonly Port[]): Record<number, number> {
  return Object.fromEntries(ports.map(({ servicePort, targetPort }) => [port(servicePort), port(targetPort)]));
}

function gatewayOf(gateway: GatewayMessage | undefined): GatewayAddress | undefined {
  if (gateway === undefined) return undefined;
  const { destination, hboneMtlsPort } = gateway;
  switch (destination.case) {
    case "hostname": {
      const { namespace, hostname } = destination.value;
      if (namespace === "" || namespace.includes("/") || hostname === "" || canonicalIp(hostname)) refuse("hostname");
      return { destination: `${namespace}/${hostname}`, hboneMtlsPort: port(hboneMtlsPort) };
    }
    case "address":
      return { destination: vipOf(destination.value), hboneMtlsPort: port(hboneMtlsPort) };
    default:
      return refuse("no destination");
  }
}

function vipOf({ network, address }: NetworkAddressMessage): NetworkAddress {
  if (network.includes("/")) refuse("network");
  return networkAddress(network, ipOf(address));
}

/** By text, which knows about v4-mapped ranges on its own. */
function rangeOf(address: Uint8Array, length: number): string {
  ipOf(address);
  const groups = Array.from({ length: 8 }, (_, i) => (address[2 * i] << 8 | address[2 * i + 1]).toString(16));
  const text = address.length === 4 ? address.join(".") : groups.join(":");
  const cidr = parseCidr(`${text}/${length}`);
  return cidr === undefined ? refuse("range") : formatCidr(cidr);
}

function workloadOf(message: WorkloadMessage): Workload {
  if (message.uid === "") refuse("no uid");
  const { applicationTunnel: tunnel, locality } = message;
  for (const key of Object.keys(message.services)) {
    const slash = key.indexOf("/");
    if (slash < 1 || slash === key.length - 1) refuse("service key");
  }
  return createWorkload({
    uid: workloadUid(message.uid),
    name: message.name,
    namespace: message.namespace,
    workloadIps: message.addresses.map(ipOf),
    network: message.network,
    protocol: pick(["TCP", "HBONE"] as const, message.tunnelProtocol),
    networkMode: pick(["Standard", "HostNetwork"] as const, message.networkMode),
    trustDomain: message.trustDomain,
    serviceAccount: message.serviceAccount,
    waypoint: gatewayOf(message.waypoint),
    networkGateway: gatewayOf(message.networkGateway),
    workloadName: message.workloadName,
    workloadType: ["deployment", "cronjob", "pod", "job"][message.workloadType] ?? "",
    canonicalName: message.canonicalName,
    canonicalRevision: message.canonicalRevision,
    hostname: message.hostname,
    node: message.node,
    nativeTunnel: message.nativeTunnel,
    applicationTunnel: tunnel && {
      protocol: pick(["NONE", "PROXY"] as const, tunnel.protocol),
      port: port(tunnel.port) || undefined,
    },
    authorizationPolicies: message.authorizationPolicies.map((key) => key as PolicyKey),
    status: pick(["Healthy", "Unhealthy"] as const, message.status),
    clusterId: message.clusterId,
    locality: { region: locality?.region ?? "", zone: locality?.zone ?? "", subzone: locality?.subzone ?? "" },
    services: Object.fromEntries(Object.entries(message.services).map(([key, { ports }]) => [key, portsOf(ports)])),
    capacity: message.capacity ?? 1,
  });
}

function serviceOf(message: ServiceMessage): Service {
  if (message.namespace === "" || message.namespace.includes("/") || message.hostname === "") refuse("no name");
  const whole = ({ length, address }: NetworkAddressMessage) => length === undefined || length === address.length * 8;
  for (const address of message.addresses) vipOf(address);
  const lb = message.loadBalancing;
  return createService({
    name: message.name,
    namespace: message.namespace,
    hostname: message.hostname,
    vips: message.addresses.filter(whole).map(vipOf),
    cidrVips: message.addresses.filter((address) => !whole(address)).map(({ network, address, length }) => ({
      network,
      cidr: rangeOf(address, length!),
    })),
    ports: portsOf(message.ports),
    subjectAltNames: message.subjectAltNames,
    waypoint: gatewayOf(message.waypoint),
    weightedWaypoints: message.weightedWaypoints.map(({ destination, weight }) => ({
      destination: gatewayOf(destination) ?? refuse("no destination"),
      weight,
    })),
    loadBalancer: lb && {
      routingPreferences: lb.routingPreference.map((scope) =>
        pick([undefined, "Region", "Zone", "Subzone", "Node", "Cluster", "Network"] as const, scope) ?? refuse("scope")
      ),
      mode: pick(["Standard", "Strict", "Failover", "Passthrough"] as const, lb.mode),
      healthPolicy: pick(["OnlyHealthy", "AllowAll"] as const, lb.healthPolicy),
    },
    ipFamilies: pick([undefined, "IPv4", "IPv6", "Dual"] as const, message.ipFamilies),
    canonical: message.canonical,
    visibility: message.visibility === 1 ? "Namespace" : "Public",
  });
}

function stringMatchOf({ matchType }: StringMatchMessage): StringMatch {
  switch (matchType.case) {
    case "exact":
      return { Exact: matchType.value };
    case "prefix":
      return { Prefix: matchType.value };
    case "suffix":
      return { Suffix: matchType.value };
    case "presence":
      return { Presence: [] };
    default:
      return refuse("no form");
  }
}

function refuseUnknown(value: unknown): void {
  if (Array.isArray(value)) return value.forEach(refuseUnknown);
  if (typeof value !== "object" || value === null || value instanceof Uint8Array) return;
  if (isMessage(value) && (value.$unknown?.length ?? 0) > 0) refuse("unknown field");
  if ("extensions" in value && Array.isArray(value.extensions) && value.extensions.length > 0) refuse("extension");
  for (const [name, child] of Object.entries(value)) if (!name.startsWith("$")) refuseUnknown(child);
}

function policyOf(message: AuthorizationMessage): Authorization {
  refuseUnknown(message);
  if (message.name === "" || message.namespace === "" || message.namespace.includes("/")) refuse("no name");
  const ranges = (list: readonly RangeMessage[]) => list.map(({ address, length }) => rangeOf(address, length));
  const ports = (list: readonly number[]) => list.map((value) => port(value) || refuse("port 0"));
  const accounts = (list: readonly { readonly namespace: string; readonly serviceAccount: string }[]) =>
    list.map(({ namespace, serviceAccount }) =>
      namespace === "" || serviceAccount === "" ? refuse("account") : { namespace, serviceAccount }
    );
  return createPolicy({
    name: message.name,
    namespace: message.namespace,
    scope: pick(["Global", "Namespace", "WorkloadSelector"] as const, message.scope),
    action: pick(["Allow", "Deny"] as const, message.action),
    dryRun: message.dryRun,
    rules: message.rules.map(({ clauses }) =>
      clauses.map(({ matches }) =>
        matches.map((match) => {
          const fields: Match = {
            namespaces: match.namespaces.map(stringMatchOf),
            notNamespaces: match.notNamespaces.map(stringMatchOf),
            principals: match.principals.map(stringMatchOf),
            notPrincipals: match.notPrincipals.map(stringMatchOf),
            sourceIps: ranges(match.sourceIps),
            notSourceIps: ranges(match.notSourceIps),
            destinationIps: ranges(match.destinationIps),
            notDestinationIps: ranges(match.notDestinationIps),
            destinationPorts: ports(match.destinationPorts),
            notDestinationPorts: ports(match.notDestinationPorts),
            serviceAccounts: accounts(match.serviceAccounts),
            notServiceAccounts: accounts(match.notServiceAccounts),
          };
          return Object.fromEntries(Object.entries(fields).filter(([, list]) => list.length > 0));
        })
      )
    ),
  });
}

/** Throws when the address is not one that can be used. */
export function addressByOracle(bytes: Uint8Array): Workload | Service {
  const { type } = fromBinary(AddressSchema, bytes);
  switch (type.case) {
    case "workload":
      return workloadOf(type.value);
    case "service":
      return serviceOf(type.value);
    default:
      return refuse("neither");
  }
}

export function policyByOracle(bytes: Uint8Array): Authorization {
  return policyOf(fromBinary(AuthorizationSchema, bytes));
}
