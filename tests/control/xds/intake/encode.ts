/** The model back into istiod's messages, for tests that begin with a mesh. */
import { type GatewayAddress, parseCidr, parseIp, type Service, type Workload } from "../../../../src/mesh/mod.ts";
import { gatewayTarget } from "../../../../src/mesh/view.ts";
import { serviceBytes, workloadBytes } from "./messages.ts";

const SCOPES = ["", "Region", "Zone", "Subzone", "Node", "Cluster", "Network"];

function gateway(found: GatewayAddress | undefined) {
  if (found === undefined) return undefined;
  const target = gatewayTarget(found);
  const destination = target.kind === "address"
    ? { case: "address", value: { network: target.network, address: parseIp(target.ip)! } } as const
    : { case: "hostname", value: { namespace: target.namespace, hostname: target.hostname } } as const;
  return { destination, hboneMtlsPort: found.hboneMtlsPort };
}

const portList = (ports: Readonly<Record<number, number>>) =>
  Object.entries(ports).map(([servicePort, targetPort]) => ({ servicePort: Number(servicePort), targetPort }));

export function encodeWorkload(workload: Workload): Uint8Array {
  const { protocol, networkMode, status, workloadType, applicationTunnel: tunnel } = workload;
  return workloadBytes({
    ...workload,
    addresses: workload.workloadIps.map((ip) => parseIp(ip)!),
    tunnelProtocol: protocol === "HBONE" ? 1 : 0,
    networkMode: networkMode === "HostNetwork" ? 1 : 0,
    status: status === "Unhealthy" ? 1 : 0,
    workloadType: ["deployment", "cronjob", "pod", "job"].indexOf(workloadType === "" ? "deployment" : workloadType),
    waypoint: gateway(workload.waypoint),
    networkGateway: gateway(workload.networkGateway),
    applicationTunnel: tunnel && { protocol: tunnel.protocol === "PROXY" ? 1 : 0, port: tunnel.port ?? 0 },
    authorizationPolicies: [...workload.authorizationPolicies],
    services: Object.fromEntries(
      Object.entries(workload.services).map(([key, ports]) => [key, { ports: portList(ports) }]),
    ),
    locality: workload.locality,
  });
}

export function encodeService(service: Service): Uint8Array {
  const lb = service.loadBalancer;
  return serviceBytes({
    ...service,
    addresses: [
      ...service.vips.map((vip) => {
        const slash = vip.indexOf("/");
        return { network: vip.slice(0, slash), address: parseIp(vip.slice(slash + 1))! };
      }),
      ...service.cidrVips.map(({ network, cidr }) => {
        const range = parseCidr(cidr)!;
        return { network, address: range.bytes, length: range.prefixLength };
      }),
    ],
    ports: portList(service.ports),
    subjectAltNames: [...service.subjectAltNames],
    waypoint: gateway(service.waypoint),
    weightedWaypoints: service.weightedWaypoints.map(({ destination, weight }) => ({
      destination: gateway(destination),
      weight,
    })),
    loadBalancing: lb && {
      routingPreference: lb.routingPreferences.map((scope) => SCOPES.indexOf(scope)),
      mode: ["Standard", "Strict", "Failover", "Passthrough"].indexOf(lb.mode),
      healthPolicy: lb.healthPolicy === "AllowAll" ? 1 : 0,
    },
    ipFamilies: service.ipFamilies === undefined ? 0 : ["", "IPv4", "IPv6", "Dual"].indexOf(service.ipFamilies),
    visibility: service.visibility === "Namespace" ? 1 : 0,
  });
}
