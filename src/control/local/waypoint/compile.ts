/**
 * What istiod would send one waypoint for a mesh file: clusters with their endpoints, listeners with every chain, and the workloads. The waypoint
 * takes it in as it takes istiod's.
 */
import type { JsonObject } from "@bufbuild/protobuf";
import { type Service, serviceKey, type Workload } from "../../../mesh/types.ts";
import { policiesOf } from "./attached.ts";
import { httpChain, tcpChain } from "./chains.ts";
import { inboundCluster, outboundCluster, ownClusters } from "./clusters.ts";
import { endpointsOf } from "./endpoints.ts";
import { jwtFilters } from "./jwt.ts";
import { connectOriginate, connectTerminate, mainInternal } from "./listeners.ts";
import { ENCAP, inboundName, outboundName, type Protocol, protocolsOf } from "./names.ts";
import { rbacFilters } from "./rbac.ts";
import { References } from "./references.ts";
import { defaultRoute, serviceRoutes } from "./routes.ts";
import { workloadResource } from "./workloads.ts";
import type { CompiledResource, CompiledWaypoint, WaypointWorld } from "./world.ts";
import { type ResourceKind, xdsResource } from "./xds_resource.ts";

/** Of pods that name no other. */
const TRUST_DOMAIN = "cluster.local";

/** Pure; the same world gives the same bytes. */
export function compileWaypoint(world: WaypointWorld): CompiledWaypoint {
  const { mesh } = world;
  const references = new References(mesh, world.services);
  const services = mesh.services.filter((service) => world.services.has(keyOf(service)));
  const workloads = mesh.workloads.filter(({ uid }) => world.workloads.has(uid));
  const chains = [
    ...services.flatMap((service) => serviceChains(service, world, references)),
    ...directChains(world, references),
  ];
  const resources: CompiledResource[] = [];
  const add = (kind: ResourceKind, name: string, json: JsonObject) =>
    void resources.push(xdsResource(kind, name, json));
  const trustDomains = trustDomainsOf(mesh.workloads);
  for (const cluster of ownClusters(trustDomains)) add("cluster", cluster.name as string, cluster);
  for (const service of services) {
    for (const port of portsOf(service)) {
      for (const protocol of protocolsOf(port)) {
        const name = inboundName(port, protocol, service);
        add("cluster", name, inboundCluster(service, port, protocol));
        add("endpoints", name, endpointsOf(name, service, port, mesh, false));
      }
    }
  }
  for (const { service, port } of references.outbound) {
    const name = outboundName(port, service);
    add("cluster", name, outboundCluster(service, port));
    add("endpoints", name, endpointsOf(name, service, port, mesh, true));
  }
  for (const listener of [connectTerminate(trustDomains), connectOriginate()]) {
    add("listener", listener.name as string, listener);
  }
  const main = mainInternal({ services, addresses: addressesOf(workloads), filterChains: chains });
  add("listener", main.name as string, main);
  for (const workload of mesh.workloads) add("workload", workload.uid, workloadResource(workload));
  return { resources, problems: references.problems };
}

function serviceChains(
  service: Service,
  world: WaypointWorld,
  references: References,
): readonly JsonObject[] {
  const { policies, authentications } = policiesOf(world, service);
  const tokens = jwtFilters(authentications, references);
  return portsOf(service).flatMap((port) => {
    const name = (protocol: Protocol) => inboundName(port, protocol, service);
    const chains = {
      http: () =>
        httpChain({
          name: name("http"),
          statPrefix: `inbound_0.0.0.0_${port};`,
          virtualHost: `inbound|http|${port}`,
          routes: serviceRoutes(service, port, world.kube.routes, references),
          policies: [...tokens, ...rbacFilters(policies, "http")],
          byAddress: false,
        }),
      tcp: () =>
        tcpChain({ name: name("tcp"), cluster: name("tcp"), policies: rbacFilters(policies, "tcp"), byAddress: false }),
    };
    return protocolsOf(port).map((protocol) => chains[protocol]());
  });
}

/** For workloads that are called by their own address: on to that address. */
function directChains(world: WaypointWorld, references: References): readonly JsonObject[] {
  const { policies, authentications } = policiesOf(world, undefined);
  return [
    tcpChain({ name: "direct-tcp", cluster: ENCAP, policies: rbacFilters(policies, "tcp"), byAddress: true }),
    httpChain({
      name: "direct-http",
      statPrefix: "inbound_0.0.0.0_0;",
      virtualHost: "inbound|http|0",
      routes: [defaultRoute(ENCAP, ":0/*")],
      policies: [...jwtFilters(authentications, references), ...rbacFilters(policies, "http")],
      byAddress: true,
    }),
  ];
}

function keyOf({ namespace, hostname }: Service) {
  return serviceKey(namespace, hostname);
}

function portsOf({ ports }: Service): readonly number[] {
  return Object.keys(ports).map(Number);
}

/** All that the file's pods belong to: one authority signs for them, so that each is an alias of the other. */
function trustDomainsOf(workloads: readonly Workload[]): readonly string[] {
  const others = workloads.map(({ trustDomain }) => trustDomain).filter((name) => name !== "").sort();
  return [...new Set([TRUST_DOMAIN, ...others])];
}

function addressesOf(workloads: readonly Workload[]): readonly string[] {
  return workloads.flatMap(({ workloadIps }) => workloadIps);
}
