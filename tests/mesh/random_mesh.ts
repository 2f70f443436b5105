/** Small random meshes in which everything collides: few ips, names, namespaces and networks. */
import fc from "fast-check";
import {
  createService,
  createWorkload,
  type GatewayAddress,
  type NetworkAddress,
  type Service,
  type ServiceKey,
  type Workload,
  workloadUid,
} from "../../src/mesh/mod.ts";

const NAMESPACES = ["a", "b"];
const NETWORKS = ["", "", "", "far"];
const IPS = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "2001:db8::1"];
const HOSTNAMES = ["one", "two", "three"];
const CIDRS = ["10.0.0.0/30", "10.0.0.0/8", "2001:db8::/32"];

const namespace = fc.constantFrom(...NAMESPACES);
const network = fc.constantFrom(...NETWORKS);
const ip = fc.constantFrom(...IPS);
const hostname = fc.constantFrom(...HOSTNAMES);
const address = fc.tuple(network, ip).map(([net, text]) => `${net}/${text}` as NetworkAddress);
const serviceName = fc.tuple(namespace, hostname).map(([ns, host]) => `${ns}/${host}` as ServiceKey);

const gateway: fc.Arbitrary<GatewayAddress> = fc.record({
  destination: fc.oneof<fc.Arbitrary<string>[]>(address, serviceName),
  hboneMtlsPort: fc.constantFrom(80, 15008),
});
const maybeGateway = fc.option(gateway, { nil: undefined, freq: 2 });
const ports = fc.constantFrom<Record<number, number>>({ 80: 8080, 15008: 15008 }, { 80: 0 }, {}, { 80: 80 });

export const workload: fc.Arbitrary<Workload> = fc.record({
  uid: fc.nat(5).map((index) => workloadUid(index < 3 ? `c//Pod/a/${index}` : `c/other/${index}`)),
  name: fc.constantFrom("w1", "w2"),
  namespace,
  workloadIps: fc.uniqueArray(ip, { maxLength: 2 }),
  network,
  protocol: fc.constantFrom("HBONE", "TCP"),
  networkMode: fc.constantFrom("Standard", "Standard", "Standard", "HostNetwork"),
  serviceAccount: fc.constantFrom("s1", "s2"),
  waypoint: maybeGateway,
  networkGateway: maybeGateway,
  hostname: fc.constantFrom("", ...HOSTNAMES),
  applicationTunnel: fc.constantFrom(undefined, undefined, { protocol: "PROXY", port: 15088 }),
  status: fc.constantFrom("Healthy", "Healthy", "Unhealthy"),
  locality: fc.record({ region: fc.constantFrom("", "r"), zone: fc.constant(""), subzone: fc.constant("") }),
  services: fc.dictionary(serviceName, ports, { maxKeys: 3 }),
  capacity: fc.constantFrom(1, 1, 2, 0),
}).map((fields) => createWorkload(fields as Partial<Workload> & { name: string; namespace: string }));

export const service: fc.Arbitrary<Service> = fc.record({
  name: hostname,
  namespace,
  hostname,
  vips: fc.uniqueArray(address, { maxLength: 2 }),
  cidrVips: fc.array(fc.record({ network, cidr: fc.constantFrom(...CIDRS) }), { maxLength: 1 }),
  ports,
  subjectAltNames: fc.constantFrom([], ["spiffe://td/ns/a/sa/x"]),
  waypoint: maybeGateway,
  weightedWaypoints: fc.array(fc.record({ destination: gateway, weight: fc.nat(2) }), { maxLength: 2 }),
  loadBalancer: fc.option(
    fc.record({
      mode: fc.constantFrom("Standard", "Strict", "Failover", "Passthrough"),
      routingPreferences: fc.constantFrom([], ["Network", "Region"], ["Region"]),
      healthPolicy: fc.constantFrom("OnlyHealthy", "AllowAll"),
    }),
    { nil: undefined },
  ),
  ipFamilies: fc.constantFrom(undefined, undefined, "IPv4", "IPv6"),
  canonical: fc.boolean(),
  visibility: fc.constantFrom("Public", "Public", "Namespace"),
}).map((fields) => createService(fields as Service));

export const resources = fc.record({
  workloads: fc.uniqueArray(workload, { maxLength: 8, selector: (found) => found.uid }),
  services: fc.uniqueArray(service, { maxLength: 6, selector: (found) => `${found.namespace}/${found.hostname}` }),
  policies: fc.constant([]),
});

export const destination = fc.record({ ip, port: fc.constantFrom(80, 81, 15008) });
export const clientWorkload = workload.map((found) => ({ ...found, network: "" }));
export const namespaces = namespace;
export const ips = ip;
export const hostnames = hostname;
