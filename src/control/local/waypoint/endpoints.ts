/** Endpoints of a port of a service, as they are dialled: through their ztunnel's tunnel, or plain (waypoint.md 2.8). */
import type { JsonObject } from "@bufbuild/protobuf";
import { isIpv6 } from "../../../mesh/ip.ts";
import { type MeshResources, type Service, serviceKey, type Workload } from "../../../mesh/types.ts";
import { CLUSTER_ID, ORIGINAL_DST } from "./names.ts";
import { TUNNELLED } from "./transports.ts";

/** `tag`: endpoints say themselves whether they are reached through a tunnel, for a cluster that has both. */
export function endpointsOf(
  cluster: string,
  service: Service,
  port: number,
  { workloads }: MeshResources,
  tag: boolean,
): JsonObject {
  const localities = new Map<string, { locality: JsonObject; lb_endpoints: JsonObject[] }>();
  const key = serviceKey(service.namespace, service.hostname);
  for (const workload of workloads) {
    const ports = workload.services[key];
    const [ip] = workload.workloadIps;
    if (ports === undefined || ip === undefined || workload.capacity === 0) continue;
    const target = ports[port] ?? service.ports[port];
    // 0: a named port that this endpoint does not have.
    if (target === undefined || target === 0) continue;
    const { region, zone, subzone } = workload.locality;
    const place = JSON.stringify([region, zone, subzone]);
    const locality = localities.get(place) ?? {
      locality: text({ region, zone, sub_zone: subzone }),
      lb_endpoints: [],
    };
    localities.set(place, locality);
    locality.lb_endpoints.push(endpoint(workload, ip, target, tag));
  }
  return {
    cluster_name: cluster,
    endpoints: [...localities.values()].map(({ locality, lb_endpoints }) => ({
      locality,
      load_balancing_weight: lb_endpoints.length,
      lb_endpoints,
    })),
  };
}

function endpoint(workload: Workload, ip: string, port: number, tag: boolean): JsonObject {
  const { workloadName, namespace, canonicalName, canonicalRevision, status, capacity, protocol } = workload;
  const isTunnelled = protocol === "HBONE";
  const socket = isIpv6(ip) ? `[${ip}]:${port}` : `${ip}:${port}`;
  return {
    endpoint: {
      address: isTunnelled ? TUNNELLED(socket) : { socket_address: { address: ip, port_value: port } },
    },
    health_status: status === "Healthy" ? "HEALTHY" : "UNHEALTHY",
    load_balancing_weight: Math.max(1, capacity),
    metadata: {
      filter_metadata: {
        ...(isTunnelled ? { [ORIGINAL_DST]: { local: socket } } : {}),
        ...(isTunnelled && tag ? { "envoy.transport_socket_match": { tunnel: "http" } } : {}),
        istio: { workload: [workloadName, namespace, canonicalName, canonicalRevision, CLUSTER_ID].join(";") },
      },
    },
  };
}

/** Without what is empty. */
function text(fields: Readonly<Record<string, string>>): JsonObject {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== ""));
}
