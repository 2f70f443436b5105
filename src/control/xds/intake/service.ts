/** istio.workload.Service from bytes, with the meaning that ztunnel gives it (reference ztunnel, section 3.7). */
import { createService } from "../../../mesh/defaults.ts";
import {
  type CidrVip,
  type GatewayAddress,
  type IpFamilies,
  type LoadBalancer,
  type NetworkAddress,
  networkAddress,
  type PortMap,
  type RoutingScope,
  type Service,
  type WeightedWaypoint,
} from "../../../mesh/types.ts";
import { cidrOf, eachNumber, NO_PORTS, type PartReader, PORTS } from "./parts.ts";
import { enumName, once, quote, Unreadable } from "./wire.ts";

const FAMILIES: readonly (IpFamilies | undefined)[] = [undefined, "IPv4", "IPv6", "Dual"];
const SCOPES: readonly (RoutingScope | undefined)[] = [
  undefined,
  "Region",
  "Zone",
  "Subzone",
  "Node",
  "Cluster",
  "Network",
];
const MODES = ["Standard", "Strict", "Failover", "Passthrough"] as const;
const HEALTH_POLICIES = ["OnlyHealthy", "AllowAll"] as const;

/** A Service from here to `end`. Throws Unreadable. */
export function readService(parts: PartReader, end: number): Service {
  const { reader, shared } = parts;
  let name = "", namespace = "", hostname = "";
  let families = 0, visibility = 0;
  let canonical = false;
  const vips: NetworkAddress[] = [];
  const cidrVips: CidrVip[] = [];
  const subjectAltNames: string[] = [];
  const weightedWaypoints: WeightedWaypoint[] = [];
  let waypoint: GatewayAddress | undefined;
  let loadBalancer: LoadBalancer | undefined;
  const ports = parts.servicePorts;
  ports.reset();
  while (reader.next(end)) {
    switch (reader.field) {
      case 1:
        name = reader.text(end);
        break;
      case 2:
        namespace = shared.text(reader, end);
        break;
      case 3:
        hostname = reader.text(end);
        break;
      case 4:
        readVip(parts, end, vips, cidrVips);
        break;
      case 5:
        ports.add(reader, end);
        break;
      case 6:
        subjectAltNames.push(shared.text(reader, end));
        break;
      case 7:
        once(waypoint !== undefined, "the waypoint");
        waypoint = parts.waypoint(end);
        break;
      case 8:
        once(loadBalancer !== undefined, "the load balancing");
        loadBalancer = readLoadBalancer(parts, end);
        break;
      case 9:
        families = reader.varint();
        break;
      case 10:
        // Extensions: nothing that a proxy uses.
        reader.pos = reader.delimited(end);
        break;
      case 11:
        canonical = reader.flag();
        break;
      case 12:
        // How ingress gateways go, not proxies.
        reader.flag();
        break;
      case 13:
        weightedWaypoints.push(readWeightedWaypoint(parts, end));
        break;
      case 14:
        visibility = reader.varint();
        break;
      default:
        reader.skip(end);
    }
  }
  if (namespace === "" || hostname === "") throw new Unreadable("a service needs a namespace and a hostname");
  if (namespace.includes("/")) throw new Unreadable(`the namespace ${quote(namespace)} has a slash in its name`);
  return createService({
    name,
    namespace,
    hostname,
    vips,
    cidrVips,
    ports: ports.read(parts, PORTS, NO_PORTS, readPorts),
    subjectAltNames,
    waypoint,
    weightedWaypoints,
    loadBalancer,
    ipFamilies: enumName(FAMILIES, families, "ip families"),
    canonical,
    // As in ztunnel: what is not known to hide a service does not.
    visibility: visibility === 1 ? "Namespace" : "Public",
  });
}

function readVip(parts: PartReader, end: number, vips: NetworkAddress[], cidrVips: CidrVip[]): void {
  const { network, ip, bytes, length } = parts.networkAddress(end);
  if (length === undefined || length === bytes.length * 8) vips.push(networkAddress(network, ip));
  else cidrVips.push({ network, cidr: cidrOf(bytes, length) });
}

function readLoadBalancer(parts: PartReader, end: number): LoadBalancer {
  const { reader } = parts;
  const stop = reader.delimited(end);
  const routingPreferences: RoutingScope[] = [];
  let mode = 0, health = 0;
  const addScope = (value: number) => {
    const scope = enumName(SCOPES, value, "routing preference");
    if (scope === undefined) throw new Unreadable("a routing preference without a scope");
    routingPreferences.push(scope);
  };
  while (reader.next(stop)) {
    if (reader.field === 1) eachNumber(reader, stop, addScope);
    else if (reader.field === 2) mode = reader.varint();
    else if (reader.field === 3) health = reader.varint();
    else reader.skip(stop);
  }
  return {
    routingPreferences,
    mode: enumName(MODES, mode, "load balancing mode"),
    healthPolicy: enumName(HEALTH_POLICIES, health, "health policy"),
  };
}

function readWeightedWaypoint(parts: PartReader, end: number): WeightedWaypoint {
  const { reader } = parts;
  const stop = reader.delimited(end);
  let destination: GatewayAddress | undefined;
  let weight = 0;
  while (reader.next(stop)) {
    if (reader.field === 1) {
      once(destination !== undefined, "the waypoint");
      destination = parts.waypoint(stop);
    } else if (reader.field === 2) {
      weight = reader.varint();
    } else {
      reader.skip(stop);
    }
  }
  if (destination === undefined) throw new Unreadable("a weighted waypoint has no destination");
  return { destination, weight };
}

function readPorts(parts: PartReader, stop: number): PortMap {
  return parts.ports(5, stop);
}
