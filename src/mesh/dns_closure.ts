/**
 * The part of the mesh that answers one domain name, cut out of the whole, with the tokens of every change that could alter the
 * answer (store.ts). That nothing has the name is an answer too: the tokens tell when something gets it.
 */
import { type Closure, endpointsFor, type Sampling } from "./closure.ts";
import { type DnsScope, findByName, isHeadless } from "./dns.ts";
import type { MeshStore } from "./store.ts";
import { keyOfService, type Workload } from "./types.ts";

/** `findByName` finds in this part what it finds in the whole. */
export function closureForName(store: MeshStore, name: string, scope: DnsScope, sampling?: Sampling): Closure {
  const tokens = new Set<string>();
  const match = findByName(store, name, scope, {
    hostname: (hostname) => tokens.add(`h:${hostname}`),
    wildcards: () => tokens.add("wildcard"),
    // Endpoints come and go without the service's name changing.
    endpoints: (service) => tokens.add(`s:${keyOfService(service)}`),
  });
  // Without the service, or with another address, the name means something else: the tokens of its name tell.
  if (match === undefined) return { resources: { workloads: [], services: [], policies: [] }, tokens: [...tokens] };
  const { service } = match;
  let workloads: readonly Workload[] = [];
  let sampled = false;
  if (isHeadless(service)) {
    tokens.add(`s:${keyOfService(service)}`);
    if (match.kind === "pod") {
      workloads = [match.workload];
    } else {
      // Of thousands no answer holds all.
      const endpoints = endpointsFor(store, service, sampling);
      workloads = [...endpoints.workloads];
      sampled = endpoints.sampled;
    }
  }
  const resources = { workloads, services: [service], policies: [] };
  return { resources, tokens: [...tokens], ...(sampled ? { sampled } : {}) };
}
