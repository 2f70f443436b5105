/**
 * Which endpoint of a service gets a connection: candidates by port and reachability, ranked by locality where the service
 * wants that, then at random by capacity. What does not depend on chance is computed once per endpoint set, port and
 * client locality, and kept for as long as the endpoint set lives.
 */
import type { LoadBalancer, RoutingScope, Service, Workload } from "./types.ts";
import type { EndpointEntry, EndpointSet, MeshView } from "./view.ts";

/** `waypoint`: an endpoint with an application tunnel needs no port on the service. */
export type BalanceMode = "standard" | "waypoint";

export interface Picked {
  readonly workload: Workload;
  readonly port: number;
}

/** From [0, 1). */
export type Random = () => number;

interface Choice {
  readonly picks: readonly Picked[];
  /** Running sums of the capacities of `picks`. */
  readonly sums: Float64Array;
}

/** Pods of one node share their locality, so a data plane has one client locality and a waypoint mode per port. */
const MAX_CHOICES_PER_SET = 32;
/** A changed service has a new set, so the set stands for the service too. */
const choices = new WeakMap<EndpointSet, Map<string, Choice>>();

/** Undefined: the service has no endpoint for this port and client. `port` is the service's. */
export function balance(
  view: MeshView,
  service: Service,
  port: number,
  client: Workload,
  mode: BalanceMode,
  random: Random,
): Picked | undefined {
  const set = view.endpointsOf(service);
  let known = choices.get(set);
  if (known === undefined) {
    known = new Map();
    choices.set(set, known);
  }
  const key = `${port}/${mode}/${localityKey(service.loadBalancer, client)}`;
  let choice = known.get(key);
  if (choice === undefined) {
    if (known.size >= MAX_CHOICES_PER_SET) known.clear();
    choice = choose(set, service, port, client, mode);
    known.set(key, choice);
  }
  return pickByWeight(choice.picks, choice.sums, random);
}

/** One of `items` with probability in proportion to its weight, given as running sums; undefined if all weigh nothing. */
export function pickByWeight<Item>(items: readonly Item[], sums: Float64Array, random: Random): Item | undefined {
  const total = sums.length === 0 ? 0 : sums[sums.length - 1];
  if (total <= 0) return undefined;
  const point = random() * total;
  let low = 0;
  let high = sums.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (point < sums[middle]) high = middle;
    else low = middle + 1;
  }
  return items[low];
}

export function runningSums(weights: readonly number[]): Float64Array {
  const sums = new Float64Array(weights.length);
  let sum = 0;
  for (let i = 0; i < weights.length; i++) sums[i] = sum += weights[i];
  return sums;
}

/**
 * Where an endpoint takes a service's port: its own map, then the service's target port, then, behind an application
 * tunnel that has its own port, the service port itself. Target port 0 says nothing.
 */
export function targetPort(entry: EndpointEntry, service: Service, port: number): number | undefined {
  const own = entry.endpoint.port[port];
  if (own > 0) return own;
  const common = service.ports[port];
  if (common > 0) return common;
  return entry.workload.applicationTunnel?.port === undefined ? undefined : port;
}

function choose(set: EndpointSet, service: Service, port: number, client: Workload, mode: BalanceMode): Choice {
  const lb = service.loadBalancer;
  const ranked = lb !== undefined && (lb.mode === "Strict" || lb.mode === "Failover");
  let picks: Picked[] = [];
  let bestRank = -1;
  for (const entry of set.entries) {
    const { workload } = entry;
    if (!isReachable(workload, client)) continue;
    if (mode === "standard" && service.ports[port] === undefined) continue;
    const target = targetPort(entry, service, port);
    if (target === undefined) continue;
    const rank = ranked ? rankOf(lb, workload, client) : 0;
    if (rank === undefined || rank < bestRank) continue;
    if (rank > bestRank) picks = [];
    bestRank = rank;
    picks.push({ workload, port: target });
  }
  picks = picks.filter((pick) => pick.workload.capacity > 0);
  return { picks, sums: runningSums(picks.map((pick) => pick.workload.capacity)) };
}

function isReachable(workload: Workload, client: Workload): boolean {
  return workload.workloadIps.length > 0 || workload.hostname !== "" ||
    (workload.network !== client.network && workload.networkGateway !== undefined);
}

/**
 * How many preferences hold, up to the first that does not. If the first one is the network, another network does not end
 * the count, and the same network counts for as much as all the others together, so that it always comes first.
 * Undefined: Strict, and not all hold.
 */
function rankOf(lb: LoadBalancer, workload: Workload, client: Workload): number | undefined {
  const preferences = lb.routingPreferences;
  let holding = 0;
  let bonus = 0;
  for (let i = 0; i < preferences.length; i++) {
    const holds = sameScope(preferences[i], workload, client);
    const isFirstNetwork = i === 0 && preferences[i] === "Network";
    if (holds) {
      holding++;
      if (isFirstNetwork) bonus = preferences.length - 1;
    } else if (!isFirstNetwork) {
      break;
    }
  }
  if (lb.mode === "Strict" && holding < preferences.length) return undefined;
  return holding + bonus;
}

function sameScope(scope: RoutingScope, a: Workload, b: Workload): boolean {
  switch (scope) {
    case "Region":
      return a.locality.region === b.locality.region;
    case "Zone":
      return a.locality.zone === b.locality.zone;
    case "Subzone":
      return a.locality.subzone === b.locality.subzone;
    case "Node":
      return a.node === b.node;
    case "Cluster":
      return a.clusterId === b.clusterId;
    case "Network":
      return a.network === b.network;
  }
}

function localityKey(lb: LoadBalancer | undefined, client: Workload): string {
  if (lb === undefined || lb.routingPreferences.length === 0) return client.network;
  const { region, zone, subzone } = client.locality;
  return JSON.stringify([client.network, region, zone, subzone, client.node, client.clusterId]);
}
