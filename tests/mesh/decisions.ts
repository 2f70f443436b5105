/** Outbound decisions in one line each, and tables of them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  formatSocketAddress,
  type MeshStore,
  type Outbound,
  type OutboundRequest,
  resolveOutbound,
  type Service,
  type Workload,
} from "../../src/mesh/mod.ts";
import { client, mesh } from "./builders.ts";

/** A decision in one line. */
function shown(outbound: Outbound): string {
  switch (outbound.kind) {
    case "passthrough":
      return `passthrough ${formatSocketAddress(outbound.to)}`;
    case "tcp":
      return `tcp ${formatSocketAddress(outbound.to)} ${outbound.workload.name}`;
    case "hbone":
      return `${outbound.via} ${
        formatSocketAddress(outbound.tunnelTo)
      } for ${outbound.authority} by ${outbound.workload.name}`;
    case "doubleHbone":
      return `double ${formatSocketAddress(outbound.tunnelTo)} for ${outbound.authority} by ${outbound.workload.name}`;
    case "needsDns":
      return `dns ${outbound.hostname} then ${shown(outbound.withAddress("192.0.2.1"))}`;
    case "refused":
      return `refused ${outbound.code}`;
  }
}

export function decide(store: MeshStore, wanted: OutboundRequest, random: () => number = () => 0): string {
  return shown(resolveOutbound(store, wanted, random));
}

export type Row = readonly [name: string, wanted: OutboundRequest, expected: string];

export function table(workloads: readonly Workload[], services: readonly Service[], rows: readonly Row[]): void {
  const store = mesh([client, ...workloads], services);
  for (const [name, wanted, expected] of rows) {
    test(`resolve: ${name}`, () => assert.equal(decide(store, wanted), expected));
  }
}
