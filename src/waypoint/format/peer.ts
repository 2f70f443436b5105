/** Who stands at the upstream end, by the endpoint's address or by what istiod wrote into the endpoint itself (waypoint.md 3.8). */
import type { EndpointSpec, WorkloadSpec } from "../spec/mod.ts";
import type { UpstreamHost } from "../upstream/upstream.ts";
import type { FormatEnvironment } from "./environment.ts";
import type { FormatFacts } from "./facts.ts";

export const withPort = ({ ip, port }: { readonly ip: string; readonly port: number }): string =>
  ip.includes(":") ? `[${ip}]:${port}` : `${ip}:${port}`;

/** `ip` of `ip:port` and `[ip]:port`. */
export function withoutPort(address: string): string {
  const colon = address.lastIndexOf(":");
  const host = colon < 0 || address.endsWith("]") ? address : address.slice(0, colon);
  return host.startsWith("[") ? host.slice(1, host.endsWith("]") ? -1 : undefined) : host;
}

/** The pod behind an endpoint, not the gateway or waypoint in front of it. */
export function endpointIp({ reach }: EndpointSpec): string {
  return reach.kind === "direct" ? reach.host : withoutPort(reach.target);
}

/** `name;namespace;canonical name;canonical revision;cluster`, Istio's own text on an endpoint. Undefined: it says nothing. */
export function workloadOfText(text: string): WorkloadSpec | undefined {
  const [name = "", namespace = "", canonicalName = "", canonicalRevision = "", clusterId = ""] = text.split(";");
  if (name === "" && canonicalName === "") return undefined;
  return {
    uid: "",
    addresses: [],
    name: "",
    namespace,
    workloadName: name,
    workloadType: "",
    canonicalName,
    canonicalRevision,
    clusterId,
    identity: "",
    region: "",
    zone: "",
  };
}

export function upstreamPeer(
  host: UpstreamHost | undefined,
  peers: FormatEnvironment["peers"],
): WorkloadSpec | undefined {
  if (host === undefined) return undefined;
  return peers?.(endpointIp(host.endpoint)) ?? workloadOfText(host.endpoint.workload);
}

/** The host that a request, or a connection, went to. */
export function hostOfFacts({ request, host }: FormatFacts): UpstreamHost | undefined {
  return request?.facts.host ?? host;
}

/** Fields as Istio's peer metadata names them. */
export const PEER_FIELDS: Readonly<Record<string, (peer: WorkloadSpec) => string>> = {
  workload: ({ workloadName }) => workloadName,
  namespace: ({ namespace }) => namespace,
  cluster: ({ clusterId }) => clusterId,
  service: ({ canonicalName }) => canonicalName,
  revision: ({ canonicalRevision }) => canonicalRevision,
  app: ({ canonicalName }) => canonicalName,
  version: ({ canonicalRevision }) => canonicalRevision,
  type: ({ workloadType }) => workloadType,
  name: ({ name }) => name,
  identity: ({ identity }) => identity,
  region: ({ region }) => region,
  availability_zone: ({ zone }) => zone,
};

/** All fields that are known, as one object. */
export function peerRecord(peer: WorkloadSpec): Readonly<Record<string, string>> {
  const record: Record<string, string> = {};
  for (const [name, read] of Object.entries(PEER_FIELDS)) {
    const value = read(peer);
    if (value !== "") record[name] = value;
  }
  return record;
}
