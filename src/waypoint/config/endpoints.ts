/** ClusterLoadAssignments to endpoints: how each is reached stands in its address and metadata, waypoint.md 2.8 and appendix D. */
import type { JsonObject } from "@bufbuild/protobuf";
import type { Address } from "../../gen/envoy/config/core/v3/address_pb.ts";
import type { Metadata } from "../../gen/envoy/config/core/v3/base_pb.ts";
import { HealthStatus } from "../../gen/envoy/config/core/v3/health_check_pb.ts";
import {
  type Endpoint,
  type LbEndpoint,
  LbEndpointSchema,
  type LocalityLbEndpoints,
  LocalityLbEndpointsSchema,
} from "../../gen/envoy/config/endpoint/v3/endpoint_components_pb.ts";
import {
  type ClusterLoadAssignment,
  ClusterLoadAssignmentSchema,
} from "../../gen/envoy/config/endpoint/v3/endpoint_pb.ts";
import type { EndpointReach, EndpointSpec, EndpointsSpec, EndpointTag, LocalityEndpointsSpec } from "../spec/mod.ts";
import { expectUnderstood, understand, Unsupported } from "./guard.ts";

const ORIGINAL_DST = "envoy.filters.listener.original_dst";
const TRANSPORT_MATCH = "envoy.transport_socket_match";
/** Envoy's default, per cent. */
const OVERPROVISIONING = 140;

const ASSIGNMENT = understand(ClusterLoadAssignmentSchema, "cluster_name endpoints policy");

/** @throws Unsupported */
export function endpointsSpec(assignment: ClusterLoadAssignment): EndpointsSpec {
  expectUnderstood(ASSIGNMENT, assignment);
  const { policy } = assignment;
  if (policy !== undefined && policy.dropOverloads.length > 0) throw new Unsupported("drop_overloads is not supported");
  return {
    name: assignment.clusterName,
    localities: assignment.endpoints.map(locality),
    overprovisioning: policy?.overprovisioningFactor ?? OVERPROVISIONING,
  };
}

const LOCALITY = understand(
  LocalityLbEndpointsSchema,
  "locality lb_endpoints load_balancing_weight priority",
  "proximity metadata",
);

function locality(message: LocalityLbEndpoints): LocalityEndpointsSpec {
  expectUnderstood(LOCALITY, message);
  return {
    region: message.locality?.region ?? "",
    zone: message.locality?.zone ?? "",
    subzone: message.locality?.subZone ?? "",
    priority: message.priority,
    weight: message.loadBalancingWeight ?? 0,
    endpoints: message.lbEndpoints.map(endpoint),
  };
}

const ENDPOINT = understand(LbEndpointSchema, "endpoint health_status metadata load_balancing_weight");
const HEALTH: Readonly<Record<HealthStatus, EndpointSpec["health"]>> = {
  [HealthStatus.UNKNOWN]: "healthy",
  [HealthStatus.HEALTHY]: "healthy",
  [HealthStatus.UNHEALTHY]: "unhealthy",
  [HealthStatus.DRAINING]: "draining",
  [HealthStatus.TIMEOUT]: "unhealthy",
  [HealthStatus.DEGRADED]: "degraded",
};

function endpoint(message: LbEndpoint): EndpointSpec {
  expectUnderstood(ENDPOINT, message);
  if (message.hostIdentifier.case !== "endpoint") throw new Unsupported("an endpoint by name is not supported");
  const { value } = message.hostIdentifier;
  const { id, reach } = reachOf(value, message.metadata);
  return {
    id,
    reach,
    health: HEALTH[message.healthStatus] ?? "unhealthy",
    weight: message.loadBalancingWeight ?? 1,
    tag: tagOf(message.metadata, reach),
    workload: textOf(message.metadata?.filterMetadata["istio"], "workload"),
  };
}

function reachOf(
  endpoint: Endpoint,
  metadata: Metadata | undefined,
): { readonly id: string; readonly reach: EndpointReach } {
  const address = endpoint.address?.address;
  if (address?.case === "socketAddress") {
    const { host, port } = socketAddress(endpoint.address);
    const others = endpoint.additionalAddresses.map(({ address }) => socketAddress(address));
    return { id: `${bracketed(host)}:${port}`, reach: { kind: "direct", host, port, others } };
  }
  if (address?.case !== "envoyInternalAddress") {
    throw new Unsupported(`an endpoint at a ${address?.case ?? "missing address"} is not supported`);
  }
  const { addressNameSpecifier: specifier, endpointId } = address.value;
  const original = metadata?.filterMetadata[ORIGINAL_DST];
  const local = textOf(original, "local");
  switch (specifier.case === "serverListenerName" ? specifier.value : "") {
    case "connect_originate": {
      if (local === "") throw new Unsupported("a tunneled endpoint does not say where it is");
      return {
        id: endpointId || local,
        reach: { kind: "hbone", target: local, via: textOf(original, "waypoint") || undefined },
      };
    }
    case "inner_connect_originate": {
      const target = textOf(
        metadata?.filterMetadata["istio"]?.["double_hbone"] as JsonObject | undefined,
        "hbone_target_address",
      );
      return { id: endpointId || target, reach: { kind: "gateway", gateway: local, target } };
    }
    default:
      throw new Unsupported(`an endpoint behind the listener ${specifier.value} is not supported`);
  }
}

function socketAddress(address: Address | undefined): { readonly host: string; readonly port: number } {
  if (address?.address.case !== "socketAddress") {
    throw new Unsupported("an endpoint without an IP address is not supported");
  }
  const { address: host, portSpecifier } = address.address.value;
  if (portSpecifier.case !== "portValue") throw new Unsupported("a named port is not supported");
  return { host, port: portSpecifier.value };
}

function bracketed(host: string): string {
  return host.includes(":") ? `[${host}]` : host;
}

function tagOf(metadata: Metadata | undefined, reach: EndpointReach): EndpointTag {
  const match = metadata?.filterMetadata[TRANSPORT_MATCH];
  if (reach.kind !== "direct" || textOf(match, "tunnel") === "http") return "tunnel";
  return textOf(match, "tlsMode") === "istio" ? "istio tls" : "plain";
}

function textOf(values: JsonObject | undefined, key: string): string {
  const value = values?.[key];
  return typeof value === "string" ? value : "";
}
