/** Every workload of the mesh, by which a waypoint knows who is behind an address (waypoint.md 3.8, appendix F). */
import { Buffer } from "node:buffer";
import type { JsonObject } from "@bufbuild/protobuf";
import { parseIp } from "../../../mesh/ip.ts";
import type { Workload } from "../../../mesh/types.ts";
import { CLUSTER_ID } from "./names.ts";

export function workloadResource(workload: Workload): JsonObject {
  const { uid, name, namespace, workloadIps, serviceAccount, canonicalName, canonicalRevision, node } = workload;
  const { workloadName, workloadType, trustDomain, protocol, locality: { region, zone, subzone } } = workload;
  return {
    uid,
    name,
    namespace,
    addresses: workloadIps.map((ip) => Buffer.from(parseIp(ip) ?? []).toString("base64")),
    service_account: serviceAccount,
    canonical_name: canonicalName,
    canonical_revision: canonicalRevision,
    workload_name: workloadName,
    workload_type: TYPES[workloadType] ?? "POD",
    cluster_id: CLUSTER_ID,
    node,
    trust_domain: trustDomain,
    tunnel_protocol: protocol === "HBONE" ? "HBONE" : "NONE",
    locality: { region, zone, subzone },
  };
}

const TYPES: Readonly<Record<string, string>> = {
  deployment: "DEPLOYMENT",
  cronjob: "CRONJOB",
  job: "JOB",
  pod: "POD",
};
