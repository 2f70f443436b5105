/**
 * What a waypoint must be told to get from one compiled configuration to the next, in an order in which no request meets a
 * reference that leads nowhere: what is named comes before what names it, and goes after it.
 */
import type { CompiledResource } from "./waypoint/world.ts";

export type ResourceId = Pick<CompiledResource, "typeUrl" | "name">;

/** One message: of one type. */
export interface ResourcePush {
  readonly typeUrl: string;
  readonly resources: readonly CompiledResource[];
  readonly removed: readonly string[];
}

const PREFIX = "type.googleapis.com/";
const CLUSTERS = `${PREFIX}envoy.config.cluster.v3.Cluster`;
const ENDPOINTS = `${PREFIX}envoy.config.endpoint.v3.ClusterLoadAssignment`;
const LISTENERS = `${PREFIX}envoy.config.listener.v3.Listener`;
const WORKLOADS = `${PREFIX}istio.workload.Workload`;

/** istiod's own (reference waypoint.md 2.1). */
const ORDER: readonly string[] = [CLUSTERS, ENDPOINTS, LISTENERS, WORKLOADS];
/** A waypoint keeps the endpoints of a cluster that it still needs, but only once it knows that the cluster is to go. */
const REMOVAL_ORDER: readonly string[] = [LISTENERS, CLUSTERS, ENDPOINTS];

/** What differs. Nothing differs: no push. */
export function pushChanges(
  before: readonly CompiledResource[],
  after: readonly CompiledResource[],
): ResourcePush[] {
  const versions = new Map(before.map((resource) => [idOf(resource), resource.version]));
  const changed = after.filter((resource) => versions.get(idOf(resource)) !== resource.version);
  return inOrder(changed, gone(before, after)).filter(({ resources, removed }) =>
    resources.length + removed.length > 0
  );
}

/** All of it, and every type, also one of which there is nothing; for a waypoint that may still have `known`. */
export function pushWhole(after: readonly CompiledResource[], known: readonly ResourceId[]): ResourcePush[] {
  const pushes = inOrder(after, gone(known, after));
  return pushes.filter(({ removed }, index) => index < ORDER.length || removed.length > 0);
}

/** Of the same resource. */
export function idOf({ typeUrl, name }: ResourceId): string {
  return `${typeUrl} ${name}`;
}

function gone(before: readonly ResourceId[], after: readonly ResourceId[]): readonly ResourceId[] {
  const stay = new Set(after.map(idOf));
  return before.filter((resource) => !stay.has(idOf(resource)));
}

function inOrder(resources: readonly CompiledResource[], gone: readonly ResourceId[]): ResourcePush[] {
  for (const { typeUrl } of [...resources, ...gone]) {
    if (!ORDER.includes(typeUrl)) throw new Error(`no waypoint was asked for ${typeUrl}`);
  }
  const removed = (type: string) => gone.filter(({ typeUrl }) => typeUrl === type).map(({ name }) => name);
  return [
    ...ORDER.map((type) => ({
      typeUrl: type,
      resources: resources.filter(({ typeUrl }) => typeUrl === type),
      // Nothing names a workload, and an address may move from one to another.
      removed: type === WORKLOADS ? removed(type) : [],
    })),
    ...REMOVAL_ORDER.map((type) => ({ typeUrl: type, resources: [], removed: removed(type) })),
  ];
}
