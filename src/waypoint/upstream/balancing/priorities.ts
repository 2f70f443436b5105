/**
 * Which priority gets how much, by the health of each: Envoy's rules, waypoint.md 4.6. A priority of which 72 % is well takes all of its load
 * (overprovisioning 140 %); what it cannot take goes to the next. Below the panic threshold health does not count.
 */
import type { Host } from "../host.ts";

/** Hosts of one locality within one priority. */
export interface LocalityHosts {
  readonly all: readonly Host[];
  readonly healthy: readonly Host[];
  readonly degraded: readonly Host[];
  readonly weight: number;
}

export interface PriorityHosts {
  readonly all: readonly Host[];
  readonly healthy: readonly Host[];
  readonly degraded: readonly Host[];
  readonly localities: readonly LocalityHosts[];
}

/** Per cent, by priority. Both together are 100. */
export interface PriorityLoads {
  readonly healthy: readonly number[];
  readonly degraded: readonly number[];
  /** Priorities that use all of their hosts. */
  readonly panic: readonly boolean[];
}

export function isWell(host: Host): boolean {
  return host.endpoint.health === "healthy" && !host.isEjected;
}

export function isDegraded(host: Host): boolean {
  return host.endpoint.health === "degraded" && !host.isEjected;
}

interface Availability {
  readonly healthy: readonly number[];
  readonly degraded: readonly number[];
  /** Of both, in all priorities, 100 at most. */
  readonly total: number;
}

export function priorityLoads(
  priorities: readonly PriorityHosts[],
  overprovisioning: number,
  panicPercent: number,
): PriorityLoads {
  const availability = availabilityOf(priorities, overprovisioning, () => false);
  const { total } = availability;
  const none = priorities.map(() => 0);
  if (total === 0 && panicPercent === 0) return { healthy: none, degraded: none, panic: priorities.map(() => false) };
  const panic = priorities.map(({ all, healthy, degraded }) => {
    const percent = all.length === 0 ? 0 : 100 * (healthy.length + degraded.length) / all.length;
    return total < 100 && percent < panicPercent;
  });
  if (panic.every((panics) => panics)) return { healthy: loadsByCount(priorities), degraded: none, panic };
  return { ...distribute(availability), panic };
}

/**
 * Loads for another try: without the priorities that were tried, as long as another one has hosts that are well. Undefined: the usual ones.
 */
export function retryLoads(
  priorities: readonly PriorityHosts[],
  overprovisioning: number,
  isTried: (priority: number) => boolean,
): Omit<PriorityLoads, "panic"> | undefined {
  const availability = availabilityOf(priorities, overprovisioning, isTried);
  return availability.total === 0 ? undefined : distribute(availability);
}

function availabilityOf(
  priorities: readonly PriorityHosts[],
  overprovisioning: number,
  isExcluded: (priority: number) => boolean,
): Availability {
  const percent = (part: number, { all }: PriorityHosts, priority: number): number =>
    all.length === 0 || isExcluded(priority) ? 0 : Math.min(100, Math.floor(overprovisioning * part / all.length));
  const healthy = priorities.map((hosts, i) => percent(hosts.healthy.length, hosts, i));
  const degraded = priorities.map((hosts, i) => percent(hosts.degraded.length, hosts, i));
  return { healthy, degraded, total: Math.min(100, sum(healthy) + sum(degraded)) };
}

/** To the healthy from the first priority on, then to the degraded; what rounding leaves goes to the first that has any. */
function distribute({ healthy, degraded, total }: Availability): { healthy: number[]; degraded: number[] } {
  let left = 100;
  const take = (available: number): number => {
    const load = Math.min(left, Math.floor(available * 100 / total));
    left -= load;
    return load;
  };
  const loads = { healthy: healthy.map(take), degraded: degraded.map(take) };
  if (left === 0) return loads;
  const first = healthy.findIndex((available) => available > 0);
  if (first >= 0) loads.healthy[first] += left;
  else loads.degraded[degraded.findIndex((available) => available > 0)] += left;
  return loads;
}

/** Everybody panics: by the number of hosts, whatever their health. */
function loadsByCount(priorities: readonly PriorityHosts[]): number[] {
  const total = sum(priorities.map(({ all }) => all.length));
  if (total === 0) return priorities.map((_, i) => i === 0 ? 100 : 0);
  const loads = priorities.map(({ all }) => Math.floor(100 * all.length / total));
  loads[priorities.findIndex(({ all }) => all.length > 0)] += 100 - sum(loads);
  return loads;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
