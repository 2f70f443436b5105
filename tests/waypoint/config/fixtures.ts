/** What a real istiod sent to waypoints (tests/fixtures/waypoint), as pushes. */
import { fromBinary } from "@bufbuild/protobuf";
import { existsSync, readFileSync } from "node:fs";
import { DeltaDiscoveryResponseSchema, ResourceSchema } from "../../../src/gen/xds/delta_discovery_pb.ts";
import { type ResourcePush, TYPES, WaypointIntake } from "../../../src/waypoint/config/mod.ts";
import type { ChainSpec, ClusterSpec, ConfigUpdate } from "../../../src/waypoint/spec/mod.ts";

/** File and type, in the order in which a waypoint asks. */
const FILES = [
  ["cds", TYPES.clusters],
  ["eds", TYPES.endpoints],
  ["lds", TYPES.listeners],
  ["ecds", TYPES.filters],
  ["workload", TYPES.workloads],
] as const;

export const SCENARIOS = [
  "plain",
  "routes",
  "authz",
  "traffic",
  "forall",
  "benchlog",
  "benchl7",
  "telemetry",
  "envoyfilter",
] as const;
export type Scenario = typeof SCENARIOS[number];

export function pushes(scenario: Scenario): ResourcePush[] {
  return FILES.flatMap(([file, type]) => {
    const url = new URL(`../../fixtures/waypoint/${scenario}/${file}.binpb`, import.meta.url);
    if (!existsSync(url)) return [];
    const response = fromBinary(DeltaDiscoveryResponseSchema, readFileSync(url));
    const resources = response.resources.map((bytes) => {
      const { name, resource } = fromBinary(ResourceSchema, bytes);
      if (resource === undefined) throw new Error(`${scenario}/${file}: a resource without content`);
      return { name, resource };
    });
    return [{ type, resources, removed: response.removedResources }];
  });
}

/** Everything of a scenario taken in. */
export interface Replayed {
  readonly intake: WaypointIntake;
  readonly updates: readonly Partial<ConfigUpdate>[];
  readonly rejections: readonly string[];
  readonly warnings: readonly string[];
  chain(name: string): ChainSpec;
  cluster(name: string): ClusterSpec;
}

export function replay(scenario: Scenario): Replayed {
  const warnings: string[] = [];
  const intake = new WaypointIntake((text) => warnings.push(text));
  const updates: Partial<ConfigUpdate>[] = [];
  const rejections: string[] = [];
  for (const push of pushes(scenario)) {
    const result = intake.apply(push);
    if (result.update !== undefined) updates.push(result.update);
    rejections.push(...result.rejections.map(({ name, reason }) => `${name}: ${reason}`));
  }
  const find = <T extends { readonly name: string }>(lists: readonly (readonly T[] | undefined)[], name: string): T => {
    const found = lists.flatMap((list) => list ?? []).findLast((item) => item.name === name);
    if (found === undefined) throw new Error(`${scenario} has no ${name}`);
    return found;
  };
  return {
    intake,
    updates,
    rejections,
    warnings,
    chain: (name) => find(updates.map(({ chains }) => chains), name),
    cluster: (name) => find(updates.map(({ clusters }) => clusters), name),
  };
}
