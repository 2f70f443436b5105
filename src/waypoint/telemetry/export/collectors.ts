/**
 * Where collectors are, by the names of their clusters. Telemetry leaves the waypoint in plain text, straight to the endpoint: a pod of the mesh gets it
 * by its ztunnel, as from any client outside. A cluster that asks for TLS is not reached yet, and said so.
 *
 * The way through a worker's upstream, with HBONE and TLS, fits behind `ResolveCollector` and the two senders.
 */
import { withoutPort } from "../../format/peer.ts";
import type { ClusterSpec, EndpointSpec, EndpointsSpec } from "../../spec/mod.ts";

export interface CollectorAddress {
  readonly host: string;
  readonly port: number;
  /** What the request calls it. */
  readonly authority: string;
}

/** In the order in which they are tried. */
export type ResolvedCollector =
  | { readonly kind: "found"; readonly addresses: readonly CollectorAddress[] }
  | { readonly kind: "none"; readonly reason: string };

export type ResolveCollector = (cluster: string) => ResolvedCollector;

/** The configuration as it is in force (admin/config_view.ts). */
export interface KnownClusters {
  readonly clusters: ReadonlyMap<string, ClusterSpec>;
  readonly endpoints: ReadonlyMap<string, EndpointsSpec>;
}

export function createCollectorResolver(known: KnownClusters): ResolveCollector {
  return (name) => {
    const cluster = known.clusters.get(name);
    if (cluster === undefined) return { kind: "none", reason: `the cluster ${name} is not known` };
    const { discovery, transport, service } = cluster;
    if (transport.kind !== "raw") {
      return { kind: "none", reason: `the cluster ${name} asks for TLS, which telemetry does not speak yet` };
    }
    const endpoints = discovery.kind === "eds"
      ? known.endpoints.get(discovery.name)
      : discovery.kind === "static" || discovery.kind === "dns"
      ? discovery.endpoints
      : undefined;
    const addresses = [...endpoints?.localities ?? []]
      .sort((a, b) => a.priority - b.priority)
      .flatMap(({ endpoints }) => endpoints)
      .filter(({ health }) => health === "healthy" || health === "degraded")
      .flatMap((endpoint) => addressOf(endpoint) ?? [])
      .map(({ host, port }) => ({ host, port, authority: `${service?.host || bracketed(host)}:${port}` }));
    if (addresses.length === 0) return { kind: "none", reason: `the cluster ${name} has no endpoint that is healthy` };
    return { kind: "found", addresses };
  };
}

function addressOf({ reach }: EndpointSpec): { readonly host: string; readonly port: number } | undefined {
  if (reach.kind === "direct") return { host: reach.host, port: reach.port };
  if (reach.kind === "gateway") return undefined;
  const port = Number(/:(\d+)$/.exec(reach.target)?.[1] ?? 0);
  return port === 0 ? undefined : { host: withoutPort(reach.target), port };
}

function bracketed(host: string): string {
  return host.includes(":") ? `[${host}]` : host;
}
