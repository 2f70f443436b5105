/**
 * The mesh model: workloads, services and L4 policies as plain readonly data, in the vocabulary of ztunnel's
 * config dump and local file (istio.workload and istio.security protobufs, in camelCase with enums as text).
 * IP addresses are canonical text (see ip.ts), ports are numbers, `network` is "" by default. A value here is
 * structured-cloneable and survives JSON: `parseMesh(JSON.parse(JSON.stringify(x)))` gives it back.
 */

declare const brand: unique symbol;
type Branded<Name extends string> = string & { readonly [brand]: Name };

/** A workload's identity in the control plane, such as `cluster1//Pod/default/web-1`. */
export type WorkloadUid = Branded<"WorkloadUid">;
/** `namespace/hostname`, what a service is known by. */
export type ServiceKey = Branded<"ServiceKey">;
/** `namespace/name`, what a policy is known by and what workloads list. */
export type PolicyKey = Branded<"PolicyKey">;
/** `network/ip`. The network may be empty. */
export type NetworkAddress = Branded<"NetworkAddress">;
/** `spiffe://trust-domain/ns/namespace/sa/service-account`. */
export type SpiffeId = Branded<"SpiffeId">;

export const workloadUid = (text: string): WorkloadUid => text as WorkloadUid;
export const serviceKey = (namespace: string, hostname: string): ServiceKey => `${namespace}/${hostname}` as ServiceKey;
export const policyKey = (namespace: string, name: string): PolicyKey => `${namespace}/${name}` as PolicyKey;
/** `ip` must be canonical text. */
export const networkAddress = (network: string, ip: string): NetworkAddress => `${network}/${ip}` as NetworkAddress;

/** An address and port; `ip` is canonical text. */
export interface SocketAddress {
  readonly ip: string;
  readonly port: number;
}

/** Service port to target port. Target 0: the port is named, each endpoint says which it is. */
export type PortMap = Readonly<Record<number, number>>;

/** Reference to a waypoint or a network gateway. */
export interface GatewayAddress {
  /** `network/ip`, or `namespace/hostname` of a service or of a workload. */
  readonly destination: string;
  /** Where it takes HBONE; for a service the service port. */
  readonly hboneMtlsPort: number;
}

export type TunnelProtocol = "HBONE" | "TCP";
export type NetworkMode = "Standard" | "HostNetwork";
export type HealthStatus = "Healthy" | "Unhealthy";

export interface ApplicationTunnel {
  readonly protocol: "PROXY" | "NONE";
  /** Replaces the port of the request. */
  readonly port: number | undefined;
}

export interface Locality {
  readonly region: string;
  readonly zone: string;
  readonly subzone: string;
}

/** istio.workload.Workload. Absent text is "". */
export interface Workload {
  readonly uid: WorkloadUid;
  readonly name: string;
  readonly namespace: string;
  readonly workloadIps: readonly string[];
  readonly network: string;
  readonly protocol: TunnelProtocol;
  readonly networkMode: NetworkMode;
  readonly trustDomain: string;
  readonly serviceAccount: string;
  readonly waypoint: GatewayAddress | undefined;
  readonly networkGateway: GatewayAddress | undefined;
  readonly workloadName: string;
  /** `deployment`, `cronjob`, `pod` or `job`. */
  readonly workloadType: string;
  readonly canonicalName: string;
  readonly canonicalRevision: string;
  /** Resolved by DNS when there is no ip; also a name that gateway references may use. */
  readonly hostname: string;
  readonly node: string;
  readonly nativeTunnel: boolean;
  readonly applicationTunnel: ApplicationTunnel | undefined;
  /** Policies of scope WorkloadSelector that apply to it. */
  readonly authorizationPolicies: readonly PolicyKey[];
  readonly status: HealthStatus;
  readonly clusterId: string;
  readonly locality: Locality;
  /** The services it is an endpoint of, each with the ports that this endpoint maps itself. */
  readonly services: Readonly<Record<ServiceKey, PortMap>>;
  /** Weight in load balancing; 0 gets no traffic. */
  readonly capacity: number;
}

export type RoutingScope = "Region" | "Zone" | "Subzone" | "Node" | "Cluster" | "Network";

export interface LoadBalancer {
  readonly routingPreferences: readonly RoutingScope[];
  readonly mode: "Standard" | "Strict" | "Failover" | "Passthrough";
  readonly healthPolicy: "OnlyHealthy" | "AllowAll";
}

export interface CidrVip {
  readonly network: string;
  /** `ip/prefix length`, host bits zero. */
  readonly cidr: string;
}

export interface WeightedWaypoint {
  readonly destination: GatewayAddress;
  readonly weight: number;
}

export type IpFamilies = "IPv4" | "IPv6" | "Dual";

/** istio.workload.Service. Its endpoints are derived from the workloads that name it. */
export interface Service {
  readonly name: string;
  readonly namespace: string;
  readonly hostname: string;
  readonly vips: readonly NetworkAddress[];
  readonly cidrVips: readonly CidrVip[];
  readonly ports: PortMap;
  /** Identities any endpoint may present, besides its own. */
  readonly subjectAltNames: readonly string[];
  readonly waypoint: GatewayAddress | undefined;
  readonly weightedWaypoints: readonly WeightedWaypoint[];
  readonly loadBalancer: LoadBalancer | undefined;
  /** Undefined: any. */
  readonly ipFamilies: IpFamilies | undefined;
  readonly canonical: boolean;
  /** `Namespace`: exists only for clients of its own namespace. */
  readonly visibility: "Public" | "Namespace";
}

/** A workload as an endpoint of one service. */
export interface Endpoint {
  readonly workloadUid: WorkloadUid;
  readonly port: PortMap;
  readonly status: HealthStatus;
}

export type StringMatch =
  | { readonly Exact: string }
  | { readonly Prefix: string }
  | { readonly Suffix: string }
  | { readonly Presence: readonly [] };

export interface ServiceAccountMatch {
  readonly namespace: string;
  readonly serviceAccount: string;
}

/** Every field that is present must hold. An empty list is the same as an absent one. */
export interface Match {
  readonly namespaces?: readonly StringMatch[];
  readonly notNamespaces?: readonly StringMatch[];
  readonly serviceAccounts?: readonly ServiceAccountMatch[];
  readonly notServiceAccounts?: readonly ServiceAccountMatch[];
  readonly principals?: readonly StringMatch[];
  readonly notPrincipals?: readonly StringMatch[];
  /** CIDR text. */
  readonly sourceIps?: readonly string[];
  readonly notSourceIps?: readonly string[];
  readonly destinationIps?: readonly string[];
  readonly notDestinationIps?: readonly string[];
  readonly destinationPorts?: readonly number[];
  readonly notDestinationPorts?: readonly number[];
}

/** Any of the matches. */
export type Clause = readonly Match[];
/** All of the clauses. */
export type Rule = readonly Clause[];

/** istio.security.Authorization. */
export interface Authorization {
  readonly name: string;
  readonly namespace: string;
  readonly scope: "Global" | "Namespace" | "WorkloadSelector";
  readonly action: "Allow" | "Deny";
  /** Any of the rules; none never matches. */
  readonly rules: readonly Rule[];
  /** Evaluated and reported, never enforced. */
  readonly dryRun: boolean;
}

/** A whole mesh, or a part of one. */
export interface MeshResources {
  readonly workloads: readonly Workload[];
  readonly services: readonly Service[];
  readonly policies: readonly Authorization[];
}

export const keyOfService = (service: Service): ServiceKey => serviceKey(service.namespace, service.hostname);
export const keyOfPolicy = (policy: Authorization): PolicyKey => policyKey(policy.namespace, policy.name);
