/**
 * What to do with one outbound connection: ztunnel's decision tree. Waypoints come before load balancing, a service's
 * waypoint is never bypassed, and a mesh destination that cannot be reached as it must be is refused. Only what the mesh
 * does not know passes through.
 */
import { balance, type BalanceMode, pickByWeight, type Random, runningSums } from "./balance.ts";
import { isIpv6 } from "./ip.ts";
import { HBONE_PORT } from "./ports.ts";
import { formatSocketAddress } from "./socket_address.ts";
import { identityOf } from "./spiffe.ts";
import { type GatewayAddress, keyOfService, type Service, type SocketAddress, type Workload } from "./types.ts";
import { gatewayTarget, gatewayWorkloads, type MeshView } from "./view.ts";

export interface OutboundRequest {
  /** The client's network. */
  readonly network: string;
  /** Original destination. */
  readonly target: SocketAddress;
  readonly client: { readonly workload: Workload; readonly ip: string };
  readonly ipv6Enabled: boolean;
}

/** `workload` and `service` name the destination in metrics and logs. */
export type Outbound =
  | { readonly kind: "passthrough"; readonly to: SocketAddress }
  | {
    readonly kind: "tcp";
    readonly to: SocketAddress;
    readonly workload: Workload;
    readonly service: Service | undefined;
  }
  | {
    readonly kind: "hbone";
    readonly via: "direct" | "waypoint";
    readonly tunnelTo: SocketAddress;
    readonly authority: string;
    /** Any of these; never empty. */
    readonly expectedIdentities: readonly string[];
    readonly workload: Workload;
    readonly service: Service | undefined;
  }
  | {
    /** A tunnel to the other network's gateway, and in it one to the destination behind. */
    readonly kind: "doubleHbone";
    readonly tunnelTo: SocketAddress;
    /** Of both tunnels. */
    readonly authority: string;
    /** Of the gateway; never empty. */
    readonly expectedIdentities: readonly string[];
    /** Of what is behind it; never empty. */
    readonly innerIdentities: readonly string[];
    /** The gateway; the response's baggage names the real destination. */
    readonly workload: Workload;
    readonly service: Service;
  }
  | {
    readonly kind: "needsDns";
    readonly hostname: string;
    readonly preferIpv6: boolean;
    readonly ipv6Enabled: boolean;
    readonly workload: Workload;
    readonly service: Service | undefined;
    /** The decision, once an address is known. */
    readonly withAddress: (ip: string) => Outbound;
  }
  | Refused;

export interface Refused {
  readonly kind: "refused";
  readonly code: RefusalCode;
  readonly message: string;
  readonly hint: string;
}

export type RefusalCode =
  | "unknown_waypoint"
  | "no_healthy_upstream"
  | "no_address"
  | "no_route"
  | "unknown_gateway"
  | "no_far_identity";

/** What a connection ends at: a workload, chosen from a service unless it was addressed itself. */
interface Upstream {
  readonly workload: Workload;
  readonly port: number;
  readonly service: Service | undefined;
}

/** The parts of a decision that all its steps need. */
interface Context {
  readonly view: MeshView;
  readonly request: OutboundRequest;
  readonly random: Random;
}

/** Decides; fails never. `random` is called at most once per choice among several. */
export function resolveOutbound(view: MeshView, request: OutboundRequest, random: Random): Outbound {
  const context: Context = { view, request, random };
  const { network, target, client } = request;
  const namespace = client.workload.namespace;

  const addressed = view.lookupAddress(network, target.ip, namespace);
  if (addressed?.kind === "service") {
    const waypoint = waypointOf(addressed.service, random);
    if (waypoint !== undefined) return toServiceWaypoint(context, addressed.service, waypoint);
  }

  const service = view.findService(network, target.ip, namespace);
  if (service?.loadBalancer?.mode === "Passthrough") return { kind: "passthrough", to: target };
  const upstream = findUpstream(context, network, target, "standard");
  if (upstream === undefined) return service === undefined ? passthrough(target) : noUpstream(service, target);

  if (upstream.workload.network !== network) return throughGateway(context, upstream, upstream.service);
  if (upstream.service === undefined && upstream.workload.waypoint !== undefined) {
    const waypoint = upstream.workload.waypoint;
    if (!isClientGateway(context, waypoint)) return toWorkloadWaypoint(context, upstream.workload, waypoint);
  }
  return direct(context, upstream);
}

/** A weighted one by chance, else the plain one. */
function waypointOf(service: Service, random: Random): GatewayAddress | undefined {
  const weighted = service.weightedWaypoints;
  if (weighted.length === 0) return service.waypoint;
  const sums = runningSums(weighted.map((waypoint) => waypoint.weight));
  return pickByWeight(weighted, sums, random)?.destination ?? service.waypoint;
}

function toServiceWaypoint(context: Context, service: Service, gateway: GatewayAddress): Outbound {
  const { network, target } = context.request;
  const waypoint = findGateway(context, gateway, "waypoint");
  if (waypoint === undefined) return unknownWaypoint(gateway, `service ${keyOfService(service)}`);
  if (waypoint.workload.network !== network) return throughGateway(context, waypoint, service);
  return throughWaypoint(context, waypoint, gatewayAddressIp(gateway), target, service);
}

function toWorkloadWaypoint(context: Context, workload: Workload, gateway: GatewayAddress): Outbound {
  const { network, target } = context.request;
  const waypoint = findGateway(context, gateway, "waypoint");
  if (waypoint === undefined) return unknownWaypoint(gateway, `workload ${workload.uid}`);
  if (waypoint.workload.network !== network) return throughGateway(context, waypoint, undefined);
  return throughWaypoint(context, waypoint, gatewayAddressIp(gateway), target, undefined);
}

function throughWaypoint(
  context: Context,
  waypoint: Upstream,
  gatewayIp: string | undefined,
  target: SocketAddress,
  service: Service | undefined,
): Outbound {
  return withIp(context, waypoint, gatewayIp, service, (ip) => ({
    kind: "hbone",
    via: "waypoint",
    tunnelTo: { ip, port: waypoint.port },
    authority: formatSocketAddress(target),
    expectedIdentities: identitiesOf(waypoint),
    workload: waypoint.workload,
    service,
  }));
}

/** To another network, by the gateway that leads to `remote`. Only a service has a name that means something there. */
function throughGateway(context: Context, remote: Upstream, service: Service | undefined): Outbound {
  const { target } = context.request;
  const destination = formatSocketAddress(target);
  const { networkGateway, network, uid } = remote.workload;
  if (networkGateway === undefined || service === undefined) {
    return refused(
      "no_route",
      `no valid routing destination for ${destination}: ${uid} is in network "${network}"`,
      service === undefined
        ? "another network can only be reached by a service: use the service's address"
        : "give the workload a networkGateway",
    );
  }
  const gateway = findGateway(context, networkGateway, "standard");
  if (gateway === undefined) {
    return refused(
      "unknown_gateway",
      `unknown network gateway ${describeGateway(networkGateway)} of ${uid}`,
      "check that the gateway of that network is known and has a healthy endpoint",
    );
  }
  // The inner tunnel ends at what was chosen there: an endpoint of the service, or the waypoint before it.
  const innerIdentities = remote.service?.subjectAltNames ?? [];
  if (innerIdentities.length === 0) {
    const named = remote.service === undefined ? uid : `service ${keyOfService(remote.service)}`;
    return refused(
      "no_far_identity",
      `${named} names no identities for its endpoints in network "${network}"`,
      "without subjectAltNames on the service the far end of the tunnel cannot be verified",
    );
  }
  return withIp(context, gateway, gatewayAddressIp(networkGateway), service, (ip) => ({
    kind: "doubleHbone",
    tunnelTo: { ip, port: gateway.port },
    authority: `${service.hostname}:${target.port}`,
    expectedIdentities: identitiesOf(gateway),
    innerIdentities,
    workload: gateway.workload,
    service,
  }));
}

function direct(context: Context, upstream: Upstream): Outbound {
  const { workload, port, service } = upstream;
  return withIp(
    context,
    upstream,
    context.request.target.ip,
    service,
    (ip) =>
      workload.protocol === "TCP" ? { kind: "tcp", to: { ip, port }, workload, service } : {
        kind: "hbone",
        via: "direct",
        tunnelTo: { ip, port: HBONE_PORT },
        authority: formatSocketAddress({ ip, port }),
        expectedIdentities: identitiesOf(upstream),
        workload,
        service,
      },
  );
}

/** A service before a workload. */
function findUpstream(
  context: Context,
  network: string,
  target: SocketAddress,
  mode: BalanceMode,
): Upstream | undefined {
  const { view, request } = context;
  const service = view.findService(network, target.ip, request.client.workload.namespace);
  if (service !== undefined) return fromService(context, service, target.port, mode);
  const workload = view.findWorkload(network, target.ip);
  return workload === undefined ? undefined : { workload, port: target.port, service: undefined };
}

function fromService(context: Context, service: Service, port: number, mode: BalanceMode): Upstream | undefined {
  if (service.loadBalancer?.mode === "Passthrough") return undefined;
  const picked = balance(context.view, service, port, context.request.client.workload, mode, context.random);
  return picked === undefined ? undefined : { workload: picked.workload, port: picked.port, service };
}

/** The end of a waypoint or network gateway reference. By hostname a service comes before a workload. */
function findGateway(context: Context, gateway: GatewayAddress, mode: BalanceMode): Upstream | undefined {
  const target = gatewayTarget(gateway);
  if (target.kind === "address") {
    return findUpstream(context, target.network, { ip: target.ip, port: gateway.hboneMtlsPort }, mode);
  }
  const service = context.view.serviceByKey(target.key);
  if (service !== undefined) return fromService(context, service, gateway.hboneMtlsPort, mode);
  const workload = gatewayWorkloads(context.view, target.namespace, target.hostname)[0];
  return workload === undefined ? undefined : { workload, port: gateway.hboneMtlsPort, service: undefined };
}

/** Whether the client is one of the workloads that a gateway reference means: then its own traffic must not come back to it. */
function isClientGateway(context: Context, gateway: GatewayAddress): boolean {
  const { client } = context.request;
  const identity = identityOf(client.workload);
  for (const workload of gatewayMembers(context.view, gateway, client.workload.namespace)) {
    if (workload.workloadIps.includes(client.ip) && identityOf(workload) === identity) return true;
  }
  return false;
}

/** All workloads a gateway reference may lead to. */
export function gatewayMembers(
  view: MeshView,
  gateway: GatewayAddress,
  clientNamespace: string | undefined,
): readonly Workload[] {
  const target = gatewayTarget(gateway);
  if (target.kind === "address") {
    const address = view.lookupAddress(target.network, target.ip, clientNamespace);
    if (address === undefined) return [];
    return address.kind === "workload" ? [address.workload] : endpointWorkloads(view, address.service);
  }
  const service = view.serviceByKey(target.key);
  return service === undefined
    ? gatewayWorkloads(view, target.namespace, target.hostname)
    : endpointWorkloads(view, service);
}

function endpointWorkloads(view: MeshView, service: Service): Workload[] {
  return view.endpointsOf(service).entries.map((entry) => entry.workload);
}

/**
 * Completes a decision with the address to connect to: `wanted` if the workload has it, else one that the service's
 * families allow, of `wanted`'s family if possible; for a workload with only a hostname, by DNS.
 */
function withIp(
  context: Context,
  upstream: Upstream,
  wanted: string | undefined,
  labelService: Service | undefined,
  decide: (ip: string) => Outbound,
): Outbound {
  const { workload, service } = upstream;
  const { request } = context;
  const preferIpv6 = isIpv6(wanted ?? request.client.ip);
  const ip = chooseIp(workload, service, wanted, preferIpv6);
  if (ip !== undefined) return decide(ip);
  if (workload.workloadIps.length === 0 && workload.hostname !== "") {
    return {
      kind: "needsDns",
      hostname: workload.hostname,
      preferIpv6,
      ipv6Enabled: request.ipv6Enabled,
      workload,
      service: labelService,
      withAddress: decide,
    };
  }
  return refused(
    "no_address",
    `workload ${workload.uid} has no address to connect to`,
    workload.workloadIps.length > 0
      ? `its addresses are not of the family that the service's ipFamilies (${service?.ipFamilies}) asks for`
      : "it has neither addresses nor a hostname",
  );
}

function chooseIp(
  workload: Workload,
  service: Service | undefined,
  wanted: string | undefined,
  preferIpv6: boolean,
): string | undefined {
  if (wanted !== undefined && workload.workloadIps.includes(wanted)) return wanted;
  let first: string | undefined;
  for (const ip of workload.workloadIps) {
    const v6 = isIpv6(ip);
    if (service?.ipFamilies === "IPv4" && v6) continue;
    if (service?.ipFamilies === "IPv6" && !v6) continue;
    if (v6 === preferIpv6) return ip;
    first ??= ip;
  }
  return first;
}

function gatewayAddressIp(gateway: GatewayAddress): string | undefined {
  const target = gatewayTarget(gateway);
  return target.kind === "address" ? target.ip : undefined;
}

/** The service's names and the workload's own. */
function identitiesOf(upstream: Upstream): readonly string[] {
  const own = identityOf(upstream.workload);
  const names = upstream.service?.subjectAltNames ?? [];
  return names.includes(own) ? names : [...names, own];
}

function describeGateway(gateway: GatewayAddress): string {
  return `${gateway.destination} (port ${gateway.hboneMtlsPort})`;
}

function passthrough(to: SocketAddress): Outbound {
  return { kind: "passthrough", to };
}

function unknownWaypoint(gateway: GatewayAddress, of: string): Refused {
  return refused(
    "unknown_waypoint",
    `unknown waypoint: ${describeGateway(gateway)} of ${of}`,
    "check that the waypoint is running and its service has this port; traffic never goes around a waypoint",
  );
}

function noUpstream(service: Service, target: SocketAddress): Refused {
  const key = keyOfService(service);
  return refused(
    "no_healthy_upstream",
    `no healthy upstream: ${formatSocketAddress(target)}`,
    service.ports[target.port] === undefined
      ? `service ${key} has no port ${target.port}`
      : `service ${key} has no healthy endpoint for port ${target.port} that this client may use`,
  );
}

function refused(code: RefusalCode, message: string, hint: string): Refused {
  return { kind: "refused", code, message, hint };
}
