/** What the compiler of a waypoint's configuration takes and gives. */
import type { MeshResources, ServiceKey, WorkloadUid } from "../../../mesh/types.ts";
import type { FieldProblem } from "../field_reader.ts";
import type { KubeObjects, WaypointGateway } from "../kube/objects.ts";

export interface WaypointWorld {
  readonly gateway: WaypointGateway;
  /** Of every service and workload, as the ztunnels get them. */
  readonly mesh: MeshResources;
  readonly kube: KubeObjects;
  /** Services whose traffic passes this waypoint. */
  readonly services: ReadonlySet<ServiceKey>;
  /** Workloads whose traffic passes it when they are called by their own address. */
  readonly workloads: ReadonlySet<WorkloadUid>;
}

/** As it travels in a delta push. */
export interface CompiledResource {
  readonly typeUrl: string;
  readonly name: string;
  /** Changes with the content, and with nothing else. */
  readonly version: string;
  /** A serialized envoy.service.discovery.v3.Resource. */
  readonly bytes: Uint8Array;
}

export interface CompiledWaypoint {
  readonly resources: readonly CompiledResource[];
  /** References that lead nowhere, and what this mesh cannot do, at their places in the file. */
  readonly problems: readonly FieldProblem[];
}
