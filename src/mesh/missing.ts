/**
 * What a decision about an address refers to and this store does not have, as names by which the control plane can be asked for it
 * (XDS_ON_DEMAND): the address itself, then waypoints, then network gateways. When what is named has come there may be more.
 */
import { gatewayTarget, type MeshView } from "./view.ts";
import { type GatewayAddress, networkAddress, type Service, type Workload } from "./types.ts";

/** Names: `network/ip` or `namespace/hostname`, none twice. `primary`: the address asked about; without it nothing else is known either. */
export interface Missing {
  readonly primary: string | undefined;
  readonly references: readonly string[];
}

export function missingForAddress(view: MeshView, network: string, ip: string, clientNamespace?: string): Missing {
  const references = new Set<string>();
  const service = view.findService(network, ip, clientNamespace);
  const workload = view.findWorkload(network, ip);
  if (service === undefined && workload === undefined) {
    return { primary: networkAddress(network, ip), references: [] };
  }
  if (service !== undefined) {
    collectService(view, service, network, references);
    collect(view, service.waypoint, network, references);
    for (const { destination, weight } of service.weightedWaypoints) {
      if (weight > 0) collect(view, destination, network, references);
    }
  }
  if (workload !== undefined) {
    collect(view, workload.waypoint, network, references);
    collectNetworkGateway(view, workload, network, references);
  }
  return { primary: undefined, references: [...references] };
}

/** The services of a workload that are not there. */
export function missingServices(view: MeshView, workload: Workload): readonly string[] {
  return (Object.keys(workload.services) as (keyof Workload["services"])[])
    .filter((key) => view.serviceByKey(key) === undefined);
}

function collect(view: MeshView, gateway: GatewayAddress | undefined, network: string, into: Set<string>): void {
  if (gateway === undefined || into.has(gateway.destination)) return;
  const target = gatewayTarget(gateway);
  if (target.kind === "address") {
    const address = view.lookupAddress(target.network, target.ip);
    if (address === undefined) into.add(target.address);
    else if (address.kind === "service") collectService(view, address.service, network, into);
    else collectNetworkGateway(view, address.workload, network, into);
    return;
  }
  const service = view.serviceByKey(target.key);
  if (service !== undefined) return collectService(view, service, network, into);
  const workloads = view.workloadsByHostname(target.hostname).filter(({ namespace }) => namespace === target.namespace);
  if (workloads.length === 0) into.add(target.key);
  for (const workload of workloads) collectNetworkGateway(view, workload, network, into);
}

function collectService(view: MeshView, service: Service, network: string, into: Set<string>): void {
  for (const { workload } of view.endpointsOf(service).entries) collectNetworkGateway(view, workload, network, into);
}

/** A gateway stands in its own network: what it refers to is not followed further. */
function collectNetworkGateway(view: MeshView, workload: Workload, network: string, into: Set<string>): void {
  const gateway = workload.networkGateway;
  if (gateway === undefined || workload.network === network) return;
  const target = gatewayTarget(gateway);
  const known = target.kind === "address"
    ? view.lookupAddress(target.network, target.ip) !== undefined
    : view.serviceByKey(target.key) !== undefined ||
      view.workloadsByHostname(target.hostname).some(({ namespace }) => namespace === target.namespace);
  if (!known) into.add(target.kind === "address" ? target.address : target.key);
}
