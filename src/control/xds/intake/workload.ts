/**
 * istio.workload.Workload from bytes, with the meaning that ztunnel gives it (reference ztunnel, section 3.7).
 *
 * What a proxy cannot do right is refused: an unknown enum that decides about traffic, an address of another length, a reference to
 * nothing. Unknown fields are left out, as they are by every reader of an open format; they never decide about access.
 */
import { DEFAULT_CLUSTER_ID, DEFAULT_SERVICE_ACCOUNT, DEFAULT_TRUST_DOMAIN } from "../../../mesh/defaults.ts";
import {
  type ApplicationTunnel,
  type GatewayAddress,
  type Locality,
  type PolicyKey,
  type PortMap,
  type ServiceKey,
  type Workload,
  workloadUid,
} from "../../../mesh/types.ts";
import { LOCALITY, NO_PORTS, type PartReader, POLICIES, PORTS, SERVICES, TUNNEL } from "./parts.ts";
import { enumName, once, portNumber, quote, Unreadable } from "./wire.ts";

const PROTOCOLS = ["TCP", "HBONE"] as const;
const LEGACY_ISTIO_MTLS = 2;
const WORKLOAD_TYPES = ["deployment", "cronjob", "pod", "job"] as const;
const STATUSES = ["Healthy", "Unhealthy"] as const;
const NETWORK_MODES = ["Standard", "HostNetwork"] as const;
const TUNNELS = ["NONE", "PROXY"] as const;
const NO_IPS: readonly string[] = [];
const NO_POLICIES: readonly PolicyKey[] = [];
const NO_SERVICES: Workload["services"] = {};
const NO_LOCALITY: Locality = { region: "", zone: "", subzone: "" };

/** A Workload from here to `end`. Throws Unreadable. */
export function readWorkload(parts: PartReader, end: number): Workload {
  const { reader, shared } = parts;
  let nameStart = 0, nameStop = 0;
  let uid = "", namespace = "", network = "", trustDomain = "", serviceAccount = "", node = "";
  let canonicalName = "", canonicalRevision = "", workloadName = "", clusterId = "", hostname = "";
  let protocol = 0, type = 0, status = 0, mode = 0, capacity = 1;
  let nativeTunnel = false;
  let ips = NO_IPS;
  let waypoint: GatewayAddress | undefined, networkGateway: GatewayAddress | undefined;
  let tunnel: ApplicationTunnel | undefined;
  let locality: Locality | undefined;
  let hasCapacity = false;
  const { services, policies } = parts;
  services.reset();
  policies.reset();
  while (reader.next(end)) {
    switch (reader.field) {
      case 1:
        // Of several names the last one counts; the ones before it must still be text.
        if (nameStop !== 0) reader.decode(nameStart, nameStop);
        nameStop = reader.delimited(end);
        nameStart = reader.pos;
        reader.pos = nameStop;
        break;
      case 2:
        namespace = shared.text(reader, end);
        break;
      case 3:
        ips = ips.length === 0 ? [parts.ip(end)] : [...ips, parts.ip(end)];
        break;
      case 4:
        network = shared.text(reader, end);
        break;
      case 5:
        protocol = reader.varint();
        break;
      case 6:
        trustDomain = shared.text(reader, end);
        break;
      case 7:
        serviceAccount = shared.text(reader, end);
        break;
      case 8:
        once(waypoint !== undefined, "the waypoint");
        waypoint = parts.waypoint(end);
        break;
      case 9:
        node = shared.text(reader, end);
        break;
      case 10:
        canonicalName = shared.text(reader, end);
        break;
      case 11:
        canonicalRevision = shared.text(reader, end);
        break;
      case 12:
        type = reader.varint();
        break;
      case 13:
        workloadName = shared.text(reader, end);
        break;
      case 14:
        nativeTunnel = reader.flag();
        break;
      case 16:
        policies.add(reader, end);
        break;
      case 17:
        status = reader.varint();
        break;
      case 18:
        clusterId = shared.text(reader, end);
        break;
      case 19:
        once(networkGateway !== undefined, "the network gateway");
        networkGateway = parts.networkGateway(end);
        break;
      case 20:
        uid = reader.text(end);
        break;
      case 21:
        hostname = shared.text(reader, end);
        break;
      case 22:
        services.add(reader, end);
        break;
      case 23:
        once(tunnel !== undefined, "the application tunnel");
        tunnel = parts.part(TUNNEL, end, readTunnel);
        break;
      case 24:
        once(locality !== undefined, "the locality");
        locality = parts.part(LOCALITY, end, readLocality);
        break;
      case 25:
        mode = reader.varint();
        break;
      case 26:
        // Extensions: nothing that a proxy uses.
        reader.pos = reader.delimited(end);
        break;
      case 27:
        hasCapacity = once(hasCapacity, "the capacity");
        capacity = parts.uint32Value(end);
        break;
      default:
        reader.skip(end);
    }
  }
  if (uid === "") throw new Unreadable("a workload needs a uid");
  if (protocol === LEGACY_ISTIO_MTLS) throw new Unreadable("tunnel protocol LEGACY_ISTIO_MTLS is not supported");
  // As createWorkload makes it, without a second object for each of 50,000.
  return {
    uid: workloadUid(uid),
    name: nameOf(parts, nameStart, nameStop, uid),
    namespace,
    workloadIps: ips,
    network,
    protocol: enumName(PROTOCOLS, protocol, "tunnel protocol"),
    networkMode: enumName(NETWORK_MODES, mode, "network mode"),
    trustDomain: trustDomain || DEFAULT_TRUST_DOMAIN,
    serviceAccount: serviceAccount || DEFAULT_SERVICE_ACCOUNT,
    waypoint,
    networkGateway,
    workloadName,
    // Only a label: a kind of workload that is newer than this version is no reason to lose it.
    workloadType: WORKLOAD_TYPES[type] ?? "",
    canonicalName,
    canonicalRevision,
    hostname,
    node,
    nativeTunnel,
    applicationTunnel: tunnel,
    authorizationPolicies: policies.read(parts, POLICIES, NO_POLICIES, readKeys),
    status: enumName(STATUSES, status, "status"),
    clusterId: clusterId || DEFAULT_CLUSTER_ID,
    locality: locality ?? NO_LOCALITY,
    services: services.read(parts, SERVICES, NO_SERVICES, readServices),
    capacity,
  };
}

/** A pod's uid ends with its name, which then need not be kept twice. */
function nameOf(parts: PartReader, start: number, stop: number, uid: string): string {
  const { reader } = parts;
  const at = uid.length - (stop - start);
  for (let i = start; i < stop; i++) {
    const byte = reader.bytes[i];
    if (byte > 0x7f || uid.charCodeAt(at + i - start) !== byte) return reader.decode(start, stop);
  }
  return uid.slice(at);
}

function readTunnel(parts: PartReader, end: number): ApplicationTunnel {
  const { reader } = parts;
  let protocol = 0, port = 0;
  while (reader.next(end)) {
    if (reader.field === 1) protocol = reader.varint();
    else if (reader.field === 2) port = reader.varint();
    else reader.skip(end);
  }
  portNumber(port, "the application tunnel's port");
  return {
    protocol: enumName(TUNNELS, protocol, "application tunnel protocol"),
    port: port === 0 ? undefined : port,
  };
}

function readLocality(parts: PartReader, end: number): Locality {
  const { reader } = parts;
  let region = "", zone = "", subzone = "";
  while (reader.next(end)) {
    if (reader.field === 1) region = parts.shared.text(reader, end);
    else if (reader.field === 2) zone = parts.shared.text(reader, end);
    else if (reader.field === 3) subzone = parts.shared.text(reader, end);
    else reader.skip(end);
  }
  return { region, zone, subzone };
}

/** All fields 16 of a workload. */
function readKeys(parts: PartReader, end: number): readonly PolicyKey[] {
  const { reader } = parts;
  const keys: PolicyKey[] = [];
  while (reader.next(end)) {
    if (reader.field === 16) keys.push(parts.shared.text(reader, end) as PolicyKey);
    else reader.skip(end);
  }
  return keys;
}

/** All fields 22 of a workload. */
function readServices(parts: PartReader, end: number): Workload["services"] {
  const { reader } = parts;
  const services: Record<ServiceKey, PortMap> = {};
  while (reader.next(end)) {
    if (reader.field === 22) readMembership(parts, end, services);
    else reader.skip(end);
  }
  return services;
}

/** One entry of the map from a service's key to this endpoint's ports. */
function readMembership(parts: PartReader, end: number, services: Record<ServiceKey, PortMap>): void {
  const { reader } = parts;
  const stop = reader.delimited(end);
  let key = "";
  let ports: PortMap | undefined;
  while (reader.next(stop)) {
    if (reader.field === 1) {
      key = parts.shared.text(reader, stop);
    } else if (reader.field === 2) {
      once(ports !== undefined, "a service's ports");
      ports = parts.part(PORTS, stop, readPortList);
    } else {
      reader.skip(stop);
    }
  }
  const slash = key.indexOf("/");
  if (slash <= 0 || slash === key.length - 1) {
    throw new Unreadable(`the service ${quote(key)} is no namespace and hostname`);
  }
  services[key as ServiceKey] = ports ?? NO_PORTS;
}

function readPortList(parts: PartReader, stop: number): PortMap {
  return parts.ports(1, stop);
}
