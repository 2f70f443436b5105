/** istio.workload.Workload to what telemetry says of a peer, waypoint.md appendix F. */
import { formatIp } from "../../mesh/ip.ts";
import { type Workload, WorkloadType } from "../../gen/istio/workload/workload_pb.ts";
import type { WorkloadSpec } from "../spec/mod.ts";

const TYPES: Readonly<Record<WorkloadType, string>> = {
  [WorkloadType.DEPLOYMENT]: "deployment",
  [WorkloadType.CRONJOB]: "cronjob",
  [WorkloadType.POD]: "pod",
  [WorkloadType.JOB]: "job",
};

export function workloadSpec(workload: Workload): WorkloadSpec {
  const namespace = workload.namespace || "default";
  const trustDomain = workload.trustDomain || "cluster.local";
  return {
    uid: workload.uid,
    addresses: workload.addresses.map(formatIp),
    name: workload.name,
    namespace,
    workloadName: workload.workloadName,
    workloadType: TYPES[workload.workloadType] ?? "",
    canonicalName: workload.canonicalName,
    canonicalRevision: workload.canonicalRevision,
    clusterId: workload.clusterId,
    identity: `spiffe://${trustDomain}/ns/${namespace}/sa/${workload.serviceAccount || "default"}`,
    region: workload.locality?.region ?? "",
    zone: workload.locality?.zone ?? "",
  };
}
