/**
 * What to do with one HBONE request at its destination: whether the authority may be asked of this pod, and where the
 * connection goes. Answers to peers: 400 for a request that is wrong, 503 for one that cannot be served.
 */
import { isIpv6 } from "./ip.ts";
import { gatewayMembers } from "./resolve.ts";
import { type Authority, formatSocketAddress } from "./socket_address.ts";
import { networkAddress, type Service, type SocketAddress, type Workload } from "./types.ts";
import type { MeshView } from "./view.ts";

export interface InboundRequest {
  readonly authority: Authority;
  /** The pod's network. */
  readonly network: string;
  /** The address the client connected to: the pod's. */
  readonly localIp: string;
  /** Of the pod. */
  readonly workload: Workload;
  /** Ports of the proxy itself; a request for one would come back to it. */
  readonly illegalPorts: readonly number[];
  /** A PROXY tunnel is delivered over loopback. */
  readonly localhostAppTunnel: boolean;
}

export type Inbound =
  | {
    readonly kind: "forward";
    /** Where to connect. */
    readonly to: SocketAddress;
    /** `to` is a loopback address: the connection's source must be one too. */
    readonly loopback: boolean;
    /** What policies are asked about: the pod's ip and the port that is connected to. */
    readonly destination: SocketAddress;
    /** Write a PROXY v2 header with this destination before any data. */
    readonly proxyTo: SocketAddress | undefined;
    /** The service that was asked for by name. */
    readonly service: Service | undefined;
  }
  | {
    readonly kind: "rejected";
    readonly status: 400 | 503;
    readonly code: RejectionCode;
    readonly message: string;
    readonly hint: string;
  };

export type RejectionCode =
  | "invalid_authority"
  | "ip_mismatch"
  | "unknown_service"
  | "no_service_port"
  | "no_service_ip"
  | "self_call";

export function resolveInbound(view: MeshView, request: InboundRequest): Inbound {
  const { authority, workload, localIp } = request;
  let port: number;
  let service: Service | undefined;
  switch (authority.kind) {
    case "invalid":
      return rejected(400, "invalid_authority", authority.message, "the peer's request is malformed");
    case "address":
      if (!mayAsk(view, request, authority.ip)) {
        return rejected(
          400,
          "ip_mismatch",
          `ip mismatch: ${localIp} != ${authority.ip}`,
          "the peer asked this pod for another's address; its view of the mesh may be old, or this is no waypoint of it",
        );
      }
      port = authority.port;
      break;
    case "hostname": {
      service = view.serviceByHostname(authority.hostname, workload.namespace);
      if (service === undefined) {
        return rejected(
          503,
          "unknown_service",
          `no service for hostname: ${authority.hostname}`,
          `check that the service exists and is visible in namespace ${workload.namespace}`,
        );
      }
      const target = servicePort(view, service, authority.port, workload);
      if (target === undefined) {
        return rejected(
          503,
          "no_service_port",
          `requested service ${authority.hostname}:${authority.port} found, but cannot resolve port`,
          "the service has no such port, or it is a named port that this pod does not map",
        );
      }
      port = target;
      break;
    }
  }
  if (request.illegalPorts.includes(port)) {
    return rejected(
      503,
      "self_call",
      "attempted recursive call to ourselves",
      `port ${port} belongs to the proxy itself`,
    );
  }

  const tunnel = workload.applicationTunnel;
  const destination = { ip: localIp, port: tunnel?.port ?? port };
  if (tunnel?.protocol !== "PROXY") {
    return { kind: "forward", to: destination, loopback: false, destination, proxyTo: undefined, service };
  }
  const proxyTo = authority.kind === "address"
    ? { ip: authority.ip, port: authority.port }
    : vipOf(service, request.network, authority.port);
  if (proxyTo === undefined) {
    return rejected(
      503,
      "no_service_ip",
      `no IP for service ${service?.hostname}`,
      "a PROXY tunnel carries an address, and this service has no VIP",
    );
  }
  const loopback = request.localhostAppTunnel;
  const to = loopback ? { ip: isIpv6(localIp) ? "::1" : "127.0.0.1", port: destination.port } : destination;
  return { kind: "forward", to, loopback, destination, proxyTo, service };
}

/**
 * The service an inbound connection is for, for metrics: the one the client named, if the pod belongs to it, else the first
 * by key whose target port on this pod is the connection's.
 */
export function inboundService(
  view: MeshView,
  workload: Workload,
  port: number,
  forwardedHost: string | undefined,
): Service | undefined {
  let byPort: Service | undefined;
  for (const [key, own] of Object.entries(workload.services).sort((a, b) => a[0] < b[0] ? -1 : 1)) {
    const service = view.serviceByKey(key as keyof Workload["services"]);
    if (service === undefined) continue;
    if (service.hostname === forwardedHost) return service;
    if (byPort !== undefined) continue;
    const isTarget = Object.keys(service.ports).some((text) => {
      const servicePortNumber = Number(text);
      return (own[servicePortNumber] || service.ports[servicePortNumber]) === port;
    });
    if (isTarget) byPort = service;
  }
  return byPort;
}

/** A pod is asked for its own ip; an application tunnel for any; a waypoint for what it is the waypoint of. */
function mayAsk(view: MeshView, request: InboundRequest, ip: string): boolean {
  const { localIp, workload, network } = request;
  if (ip === localIp || workload.applicationTunnel !== undefined) return true;
  const address = view.lookupAddress(network, ip);
  if (address === undefined) return false;
  const gateways = address.kind === "workload"
    ? [address.workload.waypoint]
    : [address.service.waypoint, ...weightedWaypoints(address.service)];
  for (const gateway of gateways) {
    if (gateway === undefined) continue;
    for (const member of gatewayMembers(view, gateway, undefined)) {
      if (member.uid === workload.uid || member.workloadIps.includes(localIp)) return true;
    }
  }
  return false;
}

function weightedWaypoints(service: Service) {
  return service.weightedWaypoints.filter(({ weight }) => weight > 0).map(({ destination }) => destination);
}

function servicePort(view: MeshView, service: Service, port: number, workload: Workload): number | undefined {
  const own = view.endpointsOf(service).entries.find((entry) => entry.workload.uid === workload.uid);
  return own?.endpoint.port[port] || service.ports[port] || undefined;
}

/** Of the pod's network first, then IPv4. */
function vipOf(service: Service | undefined, network: string, port: number): SocketAddress | undefined {
  let best: { readonly ip: string; readonly rank: number } | undefined;
  for (const vip of service?.vips ?? []) {
    const ip = vip.slice(vip.indexOf("/") + 1);
    const rank = vip === networkAddress(network, ip) ? (isIpv6(ip) ? 1 : 2) : 0;
    if (best === undefined || rank > best.rank) best = { ip, rank };
  }
  return best === undefined ? undefined : { ip: best.ip, port };
}

function rejected(status: 400 | 503, code: RejectionCode, message: string, hint: string): Inbound {
  return { kind: "rejected", status, code, message, hint };
}

/** How an authority reads in logs. */
export function describeAuthority(authority: Authority): string {
  switch (authority.kind) {
    case "address":
      return formatSocketAddress(authority);
    case "hostname":
      return `${authority.hostname}:${authority.port}`;
    case "invalid":
      return authority.message;
  }
}
