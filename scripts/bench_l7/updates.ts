/**
 * `deno task bench:l7 --updates`: how long a worker with 2,000 services is busy with a change of one service's endpoints, from the message to
 * the last pool. Nothing else runs on that thread meanwhile, so a request waits that long at most.
 *
 * CPU time, not time on the clock: on a shared machine a thread waits for its core longer than all of this takes.
 */
import process from "node:process";
import type { ConfigUpdate } from "../../src/waypoint/spec/mod.ts";
import { clusterSpec, endpoint, endpoints, TestUpstream } from "../../tests/waypoint/upstream/support.ts";

const SERVICES = 2000;
const ENDPOINTS = 10;
const WARM_UP = 2000;
const BATCHES = 200;
/** process.cpuUsage counts in microseconds. */
const BATCH = 10;

interface UpdateFigures {
  /** Milliseconds of CPU for one update. */
  readonly median: number;
  readonly p99: number;
  readonly worst: number;
}

/** Each value is the mean of ten updates in a row. */
export function measureUpdates(): UpdateFigures {
  const upstream = new TestUpstream();
  const names = Array.from({ length: SERVICES }, (_, i) => `inbound-vip|80|http|service-${i}.demo.svc.cluster.local`);
  const assignment = (i: number, first: number) => ({
    ...endpoints(Array.from({ length: ENDPOINTS }, (_, k) => endpoint(`10.${i >> 8}.${i & 255}.${first + k}:8080`))),
    name: names[i]!,
  });
  upstream.clusters.apply({
    clusters: names.map((name) => clusterSpec({ name: name as never, discovery: { kind: "eds", name } })),
    endpoints: names.map((_, i) => assignment(i, 1)),
  });
  // As it comes off the wire between threads: a copy of everything.
  const update = (n: number) => {
    const i = (n * 7) % SERVICES;
    const change: Pick<ConfigUpdate, "endpoints"> = { endpoints: [assignment(i, 1 + n % 3)] };
    return structuredClone(change);
  };
  for (let n = 0; n < WARM_UP; n++) upstream.clusters.apply(structuredClone(update(n)));
  const values: number[] = [];
  for (let batch = 0; batch < BATCHES; batch++) {
    const updates = Array.from({ length: BATCH }, (_, k) => update(batch * BATCH + k));
    const before = process.cpuUsage();
    for (const each of updates) upstream.clusters.apply(structuredClone(each));
    const { user, system } = process.cpuUsage(before);
    values.push((user + system) / 1000 / BATCH);
  }
  values.sort((a, b) => a - b);
  const at = (share: number) => values[Math.min(values.length - 1, Math.floor(values.length * share))]!;
  return { median: at(0.5), p99: at(0.99), worst: at(1) };
}
