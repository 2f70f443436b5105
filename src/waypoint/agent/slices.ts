/**
 * A large change in parts, each a fraction of a millisecond's work for a worker, so that requests go on between them. They come in an order in which every
 * prefix is a configuration that can be served: what is new before what leads to it, and what leads somewhere away before that is gone.
 */
import type { SelectionSpec } from "../spec/mod.ts";
import type { Change } from "./live_config.ts";

/** Compiled by a worker in about 0.1 ms each; a chain with many routes is as many times that, and not cut. */
const CHAINS = 4;
const CLUSTERS = 8;
const ENDPOINTS = 32;
const WORKLOADS = 100;
const RANGES = 32;

export function slices(change: Change): readonly Change[] {
  const { clusters = [], endpoints = [], chains = [], workloads = [] } = change;
  const { removedChains, removedClusters, removedEndpoints, removedWorkloads } = change;
  if (
    chains.length <= CHAINS && clusters.length <= CLUSTERS && endpoints.length <= ENDPOINTS &&
    workloads.length <= WORKLOADS && (change.selection?.ranges.length ?? 0) <= RANGES
  ) return [change];
  const parts: Change[] = [];
  const { secrets, terminate, selection } = change;
  // An address may move from one workload to another within a push: what is gone goes first.
  if (secrets !== undefined || removedWorkloads !== undefined) parts.push(defined({ secrets, removedWorkloads }));
  for (const part of cut(workloads, WORKLOADS)) parts.push({ workloads: part });
  const sent = new Set<string>();
  const own = new Map(endpoints.map((each) => [each.name, each]));
  for (const part of cut(clusters, CLUSTERS)) {
    // A cluster comes with its endpoints, or it would have none for a moment.
    const theirs = part.flatMap(({ discovery }) => {
      const found = discovery.kind === "eds" ? own.get(discovery.name) : undefined;
      return found === undefined ? [] : [found];
    });
    parts.push(theirs.length === 0 ? { clusters: part } : { clusters: part, endpoints: theirs });
    for (const { name } of theirs) sent.add(name);
  }
  for (const part of cut(endpoints.filter(({ name }) => !sent.has(name)), ENDPOINTS)) parts.push({ endpoints: part });
  for (const part of cut(chains, CHAINS)) parts.push({ chains: part });
  if (terminate !== undefined) parts.push({ terminate });
  if (selection !== undefined) parts.push(...selectionParts(selection));
  const last = defined({ removedChains, removedClusters, removedEndpoints });
  if (Object.keys(last).length > 0) parts.push(last);
  return parts;
}

function selectionParts(selection: SelectionSpec): Change[] {
  const all = [...cut(selection.ranges, RANGES)];
  const last = all.pop() ?? [];
  const parts = all.map((ranges, i): Change => ({ selectionPart: { at: i * RANGES, ranges } }));
  return [...parts, { selection: { ...selection, ranges: last }, selectionAt: all.length * RANGES }];
}

function* cut<T>(items: readonly T[], size: number): Iterable<readonly T[]> {
  for (let at = 0; at < items.length; at += size) yield items.slice(at, at + size);
}

function defined(change: { readonly [K in keyof Change]: Change[K] | undefined }): Change {
  return Object.fromEntries(Object.entries(change).filter(([, value]) => value !== undefined));
}
