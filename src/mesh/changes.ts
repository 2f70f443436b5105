/** What is done to a mesh, and what that touches: by tokens, by which holders of answers (closure.ts) know whether theirs may have changed. */
import type { PolicyPlace } from "./policy_index.ts";
import {
  keyOfService,
  type MeshResources,
  networkAddress,
  type PolicyKey,
  type Service,
  type ServiceKey,
  type Workload,
  type WorkloadUid,
} from "./types.ts";

/** Upserts are applied before removals, as in one xDS response. */
export interface MeshChange {
  readonly upsert?: Partial<MeshResources>;
  /** Policies that exist, but of which this version cannot be read. The last one that could stays in force. */
  readonly unreadable?: readonly PolicyPlace[];
  readonly remove?: {
    readonly workloads?: readonly WorkloadUid[];
    readonly services?: readonly ServiceKey[];
    readonly policies?: readonly PolicyKey[];
  };
}

/** What changed. A resource that is replaced by its equal changes nothing. */
export interface ChangeSet {
  /** Workloads as they were: replaced or removed. */
  readonly workloadsBefore: readonly Workload[];
  /** Workloads as they are: new, or in the place of an older version. */
  readonly workloadsAfter: readonly Workload[];
  /** Services that changed: old and new versions. */
  readonly services: readonly Service[];
  /** Where policies changed: old and new versions, readable or not. */
  readonly policies: readonly PolicyPlace[];
  readonly isEmpty: boolean;
  /**
   * The same as tokens: `w:<uid>`, `s:<ns/host>` (the service, or one of its endpoints), `a:<network>/<ip>` (a workload's ip or an
   * exact VIP), `h:<hostname>` (a service or workload of this name), `wildcard` (any service named `*.…`), `cidr` (any range VIP),
   * `p:<policy key>`. Made when asked for: TokenIndex finds who holds one without them.
   */
  readonly tokens: ReadonlySet<string>;
}

/** Gathers what several changes touch. */
export class Changes implements ChangeSet {
  readonly workloadsBefore: Workload[] = [];
  readonly workloadsAfter: Workload[] = [];
  readonly services: Service[] = [];
  readonly policies: PolicyPlace[] = [];

  get isEmpty(): boolean {
    return this.workloadsBefore.length + this.workloadsAfter.length + this.services.length + this.policies.length === 0;
  }

  get tokens(): ReadonlySet<string> {
    const tokens = new Set<string>();
    for (const workload of this.workloadsBefore) addWorkloadTokens(workload, tokens);
    for (const workload of this.workloadsAfter) addWorkloadTokens(workload, tokens);
    for (const service of this.services) addServiceTokens(service, tokens);
    for (const { key } of this.policies) tokens.add(`p:${key}`);
    return tokens;
  }
}

function addWorkloadTokens(workload: Workload, tokens: Set<string>): void {
  tokens.add(`w:${workload.uid}`);
  if (isFoundByIp(workload)) {
    for (const ip of workload.workloadIps) tokens.add(`a:${networkAddress(workload.network, ip)}`);
  }
  if (workload.hostname !== "") tokens.add(`h:${workload.hostname}`);
  for (const key in workload.services) tokens.add(`s:${key}`);
}

function addServiceTokens(service: Service, tokens: Set<string>): void {
  tokens.add(`s:${keyOfService(service)}`);
  tokens.add(`h:${service.hostname}`);
  if (service.hostname.startsWith("*.")) tokens.add("wildcard");
  for (const vip of service.vips) tokens.add(`a:${vip}`);
  if (service.cidrVips.length > 0) tokens.add("cidr");
}

/** A host-network pod is not to be found by its node's ip. */
export function isFoundByIp(workload: Workload): boolean {
  return workload.networkMode !== "HostNetwork";
}
