/** Resources of a local file (LOCAL_XDS) by name: what comes back when istiod removes its own version. */
import {
  type Authorization,
  keyOfPolicy,
  keyOfService,
  type MeshResources,
  type PolicyKey,
  type Service,
  type ServiceKey,
  type Workload,
  type WorkloadUid,
} from "../../../mesh/mod.ts";

export class StaticLayer {
  readonly workloads: ReadonlyMap<WorkloadUid, Workload>;
  readonly services: ReadonlyMap<ServiceKey, Service>;
  readonly policies: ReadonlyMap<PolicyKey, Authorization>;

  constructor(resources: MeshResources | undefined) {
    this.workloads = new Map(resources?.workloads.map((workload) => [workload.uid, workload]));
    this.services = new Map(resources?.services.map((service) => [keyOfService(service), service]));
    this.policies = new Map(resources?.policies.map((policy) => [keyOfPolicy(policy), policy]));
  }
}
