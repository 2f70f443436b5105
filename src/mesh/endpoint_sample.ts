/**
 * A few endpoints that stand for all of a service's, for the part of the mesh that a worker gets: 10,000 workloads would take it and
 * the main thread far longer to copy than any connection may wait.
 *
 * Endpoints are put in classes by everything that balancing asks of one (balance.ts): ports, reachability, families, network and
 * locality. Each class is represented, and its representatives share its whole capacity, so every filter and rank decides as it would with
 * all, and every endpoint is as probable as it would be, over many samples. Endpoints of the own node are always there
 * as they are: they may be asked for by name.
 */
import type { Random } from "./balance.ts";
import { sameData } from "./equal.ts";
import { isIpv6 } from "./ip.ts";
import type { PortMap, ServiceKey, Workload } from "./types.ts";

/** Services with at most this many endpoints are given whole: measured, copying so many costs about 2 ms on either side. */
export const WHOLE_ENDPOINTS = 256;
/** Representatives of a service with more. A node spreads its connections over these until the next sample. */
const SAMPLE_SIZE = 128;
/** Of each class, however small its share. */
const LEAST_OF_CLASS = 4;
/** Mixed beyond all measure: what comes after these classes is sampled as one. */
const MAX_CLASSES = 48;

interface EndpointClass {
  /** What all members have. */
  readonly like: Workload;
  readonly ports: PortMap;
  readonly families: number;
  readonly members: Workload[];
  /** Of all members. */
  capacity: number;
  sameCapacity: boolean;
}

/** `key`: of the service. `isLocal`: whether a workload is on the own node. */
export function sampleEndpoints(
  endpoints: Iterable<Workload>,
  key: ServiceKey,
  isLocal: (workload: Workload) => boolean,
  random: Random,
): Workload[] {
  const sample: Workload[] = [];
  const classes: EndpointClass[] = [];
  let count = 0;
  for (const workload of endpoints) {
    if (isLocal(workload)) {
      sample.push(workload);
      continue;
    }
    count++;
    addTo(classes, workload, key);
  }
  for (const found of classes) {
    const size = Math.max(LEAST_OF_CLASS, Math.round(SAMPLE_SIZE * found.members.length / count));
    represent(found, size, random, sample);
  }
  return sample;
}

function addTo(classes: EndpointClass[], workload: Workload, key: ServiceKey): void {
  const ports = workload.services[key];
  const families = familiesOf(workload);
  let found: EndpointClass | undefined;
  for (const known of classes) {
    if (known.families !== families || !isLike(known.like, workload) || !sameData(known.ports, ports)) continue;
    found = known;
    break;
  }
  if (found === undefined && classes.length >= MAX_CLASSES) found = classes[MAX_CLASSES - 1];
  if (found === undefined) {
    found = { like: workload, ports, families, members: [], capacity: 0, sameCapacity: true };
    classes.push(found);
  }
  found.members.push(workload);
  found.capacity += workload.capacity;
  found.sameCapacity &&= workload.capacity === found.like.capacity;
}

/** What balancing distinguishes besides ports and families. Nodes do not count: those of others are all alike. */
function isLike(a: Workload, b: Workload): boolean {
  return a.network === b.network && a.clusterId === b.clusterId && sameData(a.locality, b.locality) &&
    (a.capacity > 0) === (b.capacity > 0) && (a.hostname !== "") === (b.hostname !== "") &&
    sameData(a.networkGateway, b.networkGateway) && sameData(a.applicationTunnel, b.applicationTunnel);
}

/** Bit 0: has an IPv4 address, bit 1: an IPv6 one. */
function familiesOf(workload: Workload): number {
  let families = 0;
  for (const ip of workload.workloadIps) families |= isIpv6(ip) ? 2 : 1;
  return families;
}

function represent(found: EndpointClass, size: number, random: Random, sample: Workload[]): void {
  const { members, capacity } = found;
  if (members.length <= size) {
    for (const member of members) sample.push(member);
    return;
  }
  const share = capacity / size;
  if (found.sameCapacity) {
    // A partial shuffle: nobody twice.
    for (let i = 0; i < size; i++) {
      const other = i + Math.floor(random() * (members.length - i));
      const chosen = members[other];
      members[other] = members[i];
      sample.push({ ...chosen, capacity: share });
    }
    return;
  }
  // By capacity, in equal steps from a chance beginning: whoever has more than a step is met more than once.
  const start = random();
  let sum = 0;
  let step = 0;
  for (const member of members) {
    sum += member.capacity;
    let times = 0;
    while (step < size && (step + start) * share < sum) {
      times++;
      step++;
    }
    if (times > 0) sample.push({ ...member, capacity: share * times });
  }
}
