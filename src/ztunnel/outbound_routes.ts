/**
 * What was decided for the destinations of a pod, so that each further connection to one of them costs a look-up. A decision is kept only
 * where chance had no part in it, and is good for as long as all that it was made of is the very same: the answer about the mesh, the
 * pod's own record, the client's address.
 */
import { formatSocketAddress, type MeshStore, type Outbound, resolveOutbound, type Workload } from "../mesh/mod.ts";
import type { SocketAddress } from "../platform/sockaddr.ts";
import { meshKey } from "./mesh_cache.ts";
import type { MeshQuery, WorkerSettings } from "./messages.ts";
import { PooledTunnels, type Tunnelled } from "./outbound_tunnel.ts";
import type { PodProxy } from "./pod_proxy.ts";

/** Each may hold an answer about the mesh that is out of date. Above this all are forgotten: who is in use is back at once. */
const MAX_ROUTES = 256;

export class OutboundRoute {
  /** For the mesh cache: what is asked about this destination, and under which key. */
  readonly query: MeshQuery;
  readonly key: string;
  /** As text. */
  readonly original: string;
  readonly #target: SocketAddress;
  #mesh: MeshStore | undefined;
  #workload: Workload | undefined;
  #clientIp = "";
  #decision: Outbound | undefined;
  #tunnels: PooledTunnels | undefined;

  constructor(network: string, namespace: string, target: SocketAddress) {
    this.query = { kind: "address", network, ip: target.ip, namespace };
    this.key = meshKey(this.query);
    this.original = formatSocketAddress(target);
    this.#target = target;
  }

  decide(pod: PodProxy, mesh: MeshStore, clientIp: string): Outbound {
    const { workload } = pod;
    if (
      this.#decision !== undefined && this.#mesh === mesh && this.#workload === workload && this.#clientIp === clientIp
    ) return this.#decision;
    const { settings, random } = pod.env;
    let byChance = false;
    const decision = resolveOutbound(
      mesh,
      {
        network: settings.network,
        target: this.#target,
        client: { workload, ip: clientIp },
        ipv6Enabled: settings.ipv6Enabled,
      },
      () => {
        byChance = true;
        return random();
      },
    );
    this.#tunnels = undefined;
    this.#decision = byChance ? undefined : decision;
    this.#mesh = byChance ? undefined : mesh;
    this.#workload = workload;
    this.#clientIp = clientIp;
    return decision;
  }

  /** The tunnels that a decision of this route leads through. */
  tunnels(pod: PodProxy, decision: Tunnelled): PooledTunnels {
    if (decision !== this.#decision) return new PooledTunnels(pod, decision.tunnelTo, decision.expectedIdentities);
    return this.#tunnels ??= new PooledTunnels(pod, decision.tunnelTo, decision.expectedIdentities);
  }
}

export class OutboundRoutes {
  readonly #settings: Pick<WorkerSettings, "network">;
  /** By address, then by port. */
  readonly #routes = new Map<string, Map<number, OutboundRoute>>();
  #size = 0;
  #namespace = "";

  constructor(settings: Pick<WorkerSettings, "network">) {
    this.#settings = settings;
  }

  to(target: SocketAddress, namespace: string): OutboundRoute {
    if (namespace !== this.#namespace || this.#size >= MAX_ROUTES) this.forget();
    this.#namespace = namespace;
    let ports = this.#routes.get(target.ip);
    if (ports === undefined) this.#routes.set(target.ip, ports = new Map());
    let route = ports.get(target.port);
    if (route === undefined) {
      route = new OutboundRoute(this.#settings.network, namespace, target);
      ports.set(target.port, route);
      this.#size++;
    }
    return route;
  }

  /** What is out of date is let go of. */
  forget(): void {
    this.#routes.clear();
    this.#size = 0;
  }
}
