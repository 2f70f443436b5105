/**
 * Changes of the mesh on their way to everybody they concern: workers that hold an answer, pods of this node, certificates of its
 * identities, metrics of owners that are gone. What a change costs depends on the change, never on the size of the mesh.
 *
 * Who pushes applies any number of parts, each of which leaves the mesh valid, and flushes in between as often as it likes: from then on the
 * parts are on their way to the workers, in order.
 */
import {
  Changes,
  type ChangeSet,
  identityOf,
  keyOfPolicy,
  keyOfService,
  type MeshChange,
  type MeshResources,
  type MeshStore,
  type Workload,
} from "../mesh/mod.ts";
import { policyOwner } from "../telemetry/authorization_metrics.ts";
import type { MeshService } from "./mesh_service.ts";
import type { ToWorker } from "./messages.ts";

export interface MeshUpdatesOptions {
  readonly store: MeshStore;
  readonly service: MeshService;
  readonly nodeName: string | undefined;
  readonly send: (worker: number, message: ToWorker) => void;
  readonly broadcast: (message: ToWorker) => void;
  /** Some of these may be about pods of this node. Called once a flush. */
  readonly podsConcerned: (change: PodsConcerned) => void;
  /** The first workload of this node with this identity has come, or the last one has gone. */
  readonly identityNeeded: (identity: string) => void;
  readonly identityUnused: (identity: string) => void;
}

/** What about pods of this node may have changed. */
export interface PodsConcerned {
  /** `namespace/name` of pods whose record came, changed or went. */
  readonly names: ReadonlySet<string>;
  /** Policies that came, changed or went. */
  readonly policies: ChangeSet["policies"];
}

/** Whether a change may be about a pod. `workload`: its record, as far as it is known. */
export function concernsPod(
  { names, policies }: PodsConcerned,
  pod: { readonly namespace: string; readonly name: string },
  workload: Workload | undefined,
): boolean {
  if (names.has(`${pod.namespace}/${pod.name}`)) return true;
  if (workload === undefined) return false;
  return policies.some(({ key, namespace, scope }) =>
    scope === "Global" || (scope === "Namespace" && namespace === workload.namespace) ||
    // Whatever its scope: it may have been missing until now.
    workload.authorizationPolicies.includes(key)
  );
}

export class MeshUpdates {
  readonly #options: MeshUpdatesOptions;
  /** Workloads by the namespace and name of what owns them. */
  readonly #owners = new Map<string, Map<string, number>>();
  /** Workloads of this node by the identity they need a certificate for. */
  readonly #identities = new Map<string, number>();
  #changes = new Changes();

  constructor(options: MeshUpdatesOptions) {
    this.#options = options;
  }

  /** Takes a part of a change into the mesh. Nobody is told before `flush`, which must come in the same turn. */
  apply(change: MeshChange): void {
    this.#options.store.apply(change, this.#changes);
  }

  /** The same, for the whole mesh at once. */
  replaceAll(resources: MeshResources): void {
    this.#options.store.replaceAll(resources, this.#changes);
  }

  /** Tells everybody concerned. False when nothing has changed. */
  flush(): boolean {
    const changes = this.#changes;
    if (changes.isEmpty) return false;
    this.#changes = new Changes();
    const { service, send } = this.#options;
    for (const [worker, keys] of service.changed(changes)) send(worker, { type: "invalidate", keys });
    this.#tellPods(changes);
    this.#countIdentities(changes);
    this.#countOwners(changes);
    this.#evictPolicies(changes);
    return true;
  }

  #tellPods(changes: ChangeSet): void {
    const names = new Set<string>();
    for (const list of [changes.workloadsBefore, changes.workloadsAfter]) {
      for (const workload of list) {
        if (this.#isLocal(workload)) names.add(`${workload.namespace}/${workload.name}`);
      }
    }
    if (names.size === 0 && changes.policies.length === 0) return;
    this.#options.podsConcerned({ names, policies: changes.policies });
  }

  /** As ztunnel does: a certificate is fetched before the pod needs it. */
  #countIdentities(changes: ChangeSet): void {
    const { nodeName, identityNeeded, identityUnused } = this.#options;
    if (nodeName === undefined) return;
    const before = new Map<string, number>();
    const count = (workload: Workload, by: number) => {
      if (workload.node !== nodeName || (workload.protocol !== "HBONE" && !workload.nativeTunnel)) return;
      const identity = identityOf(workload);
      const known = this.#identities.get(identity) ?? 0;
      if (!before.has(identity)) before.set(identity, known);
      this.#identities.set(identity, known + by);
    };
    for (const workload of changes.workloadsAfter) count(workload, 1);
    for (const workload of changes.workloadsBefore) count(workload, -1);
    for (const [identity, old] of before) {
      const now = this.#identities.get(identity) ?? 0;
      if (now === 0) this.#identities.delete(identity);
      if (old === 0 && now > 0) identityNeeded(identity);
      else if (old > 0 && now === 0) identityUnused(identity);
    }
  }

  /** The metrics of an owner end with its last workload. */
  #countOwners(changes: ChangeSet): void {
    for (const { namespace, workloadName } of changes.workloadsAfter) {
      if (workloadName === "") continue;
      let counts = this.#owners.get(namespace);
      if (counts === undefined) this.#owners.set(namespace, counts = new Map());
      counts.set(workloadName, (counts.get(workloadName) ?? 0) + 1);
    }
    const gone: string[] = [];
    for (const { namespace, workloadName } of changes.workloadsBefore) {
      const counts = this.#owners.get(namespace);
      const count = counts?.get(workloadName);
      if (counts === undefined || count === undefined) continue;
      if (count > 1) {
        counts.set(workloadName, count - 1);
        continue;
      }
      counts.delete(workloadName);
      if (counts.size === 0) this.#owners.delete(namespace);
      gone.push(`${namespace}/${workloadName}`);
    }
    if (gone.length > 0) this.#options.broadcast({ type: "evict", owners: gone });
  }

  /** The metrics of what a policy refused end with it. */
  #evictPolicies(changes: ChangeSet): void {
    const gone = changes.policies.filter(({ key }) => this.#options.store.policy(key) === undefined);
    if (gone.length === 0) return;
    this.#options.broadcast({ type: "evict", owners: gone.map(({ key }) => policyOwner(key)) });
  }

  #isLocal(workload: Workload): boolean {
    return this.#options.nodeName === undefined || workload.node === this.#options.nodeName;
  }
}

/** A mesh and what a local file adds to it: of two resources of one name the mesh's own counts. */
export function withStatic(resources: MeshResources, added: MeshResources | undefined): MeshResources {
  if (added === undefined) return resources;
  const [workloads, services, policies] = [
    new Set(resources.workloads.map(({ uid }) => uid)),
    new Set(resources.services.map(keyOfService)),
    new Set(resources.policies.map(keyOfPolicy)),
  ];
  return {
    workloads: [...resources.workloads, ...added.workloads.filter(({ uid }) => !workloads.has(uid))],
    services: [...resources.services, ...added.services.filter((service) => !services.has(keyOfService(service)))],
    policies: [...resources.policies, ...added.policies.filter((policy) => !policies.has(keyOfPolicy(policy)))],
  };
}
