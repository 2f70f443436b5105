/**
 * Pushes of a mesh's resources from istiod, decoded and applied in slices, so that whatever else the main thread has to do waits two
 * milliseconds at most: lookups of workers, the node agent, probes.
 *
 * Workloads come first, then services, policies and last removals, so that the mesh is valid after every slice. A resource that cannot be
 * used is refused by name and changes nothing; of a policy the last version that could be read stays in force, and one that
 * never could be read counts as missing wherever it would apply, because nobody knows what it denies.
 */
import type {
  MeshChange,
  MeshResources,
  MeshStore,
  PolicyKey,
  PolicyPlace,
  ServiceKey,
  Workload,
  WorkloadUid,
} from "../../../mesh/mod.ts";
import { keyOfPolicy, keyOfService } from "../../../mesh/mod.ts";
import { createYield } from "../../../platform/yield_turn.ts";
import type { Rejection, XdsPush, XdsSink } from "../push.ts";
import { AddressDecoder } from "./address.ts";
import { Envelope } from "./envelope.ts";
import { decodePolicy, policyScope } from "./policy.ts";
import { StaticLayer } from "./static_layer.ts";

export const ADDRESS_TYPE = "type.googleapis.com/istio.workload.Address";
export const AUTHORIZATION_TYPE = "type.googleapis.com/istio.security.Authorization";

/** What takes the mesh: the control plane of ztunnel. */
export interface MeshTarget {
  readonly store: Pick<MeshStore, "workloadByUid">;
  /** What a local file adds to the mesh; a resource that istiod sends comes before one of the same name. */
  readonly staticConfig: MeshResources | undefined;
  /** Takes a part of a push; nobody is told before `flush`, which comes in the same turn. */
  apply(change: MeshChange): void;
  flush(): void;
  /** Answers what workers have asked meanwhile; comes after each `flush`, and may come at any time between two of them. */
  attend(): void;
  /** Resolves when everything that was flushed is in force in every worker. */
  settle(): Promise<void>;
}

export interface MeshSinkOptions {
  /** Milliseconds, from any beginning. */
  readonly nowMs?: () => number;
  /** Lets everything else that is ready run, then resolves. */
  readonly yieldTurn?: () => Promise<void>;
}

/** The main thread's promise to everybody else is 2 ms; what a slice began and whom it concerns comes on top. */
const SLICE_MS = 1.5;
/** Workers need not wait for a timeout between slices: `attend` takes what they ask, which by events alone waited 28 to 49 ms on Deno. */
const IMMEDIATES = 2;
/** So many workloads are decoded before they are applied, and the clock is read. */
const BATCH = 8;

export function createMeshSink(target: MeshTarget, options: MeshSinkOptions = {}): XdsSink {
  const nowMs = options.nowMs ?? (() => performance.now());
  const yieldTurn = options.yieldTurn ?? createYield(IMMEDIATES);
  const addresses = new AddressDecoder();
  const staticLayer = new StaticLayer(target.staticConfig);
  /** Pushes are taken in one after the other, whoever calls. */
  let last: Promise<unknown> = Promise.resolve();

  async function take(push: XdsPush, accepted: (name: string, version: string) => void): Promise<Rejection[]> {
    const intake = new Intake({ push, target, addresses, staticLayer, accepted });
    let endMs = nowMs() + SLICE_MS;
    for (const _ of intake.batches()) {
      if (nowMs() < endMs) continue;
      target.flush();
      target.attend();
      await yieldTurn();
      target.attend();
      endMs = nowMs() + SLICE_MS;
    }
    target.flush();
    // The message may be 50 MB.
    addresses.reader.release();
    return intake.rejections;
  }

  return {
    async apply(push, accepted) {
      const taken = last.then(() => take(push, accepted));
      last = taken.catch(() => {});
      const rejections = await taken;
      await target.settle();
      return rejections;
    },
  };
}

interface IntakeOptions {
  readonly push: XdsPush;
  readonly target: MeshTarget;
  readonly addresses: AddressDecoder;
  readonly staticLayer: StaticLayer;
  readonly accepted: (name: string, version: string) => void;
}

/** One push on its way in. */
class Intake {
  readonly rejections: Rejection[] = [];
  readonly #options: IntakeOptions;
  readonly #envelope: Envelope;

  constructor(options: IntakeOptions) {
    this.#options = options;
    this.#envelope = new Envelope(options.addresses.reader);
  }

  /** Takes the push in; between two results the mesh is valid and anything else may run. */
  *batches(): Generator<void> {
    const { push } = this.#options;
    if (push.typeUrl === ADDRESS_TYPE) {
      const services: number[] = [];
      yield* this.#workloads(services);
      yield* this.#services(services);
      yield* this.#removed((name) => this.#removeAddress(name));
    } else if (push.typeUrl === AUTHORIZATION_TYPE) {
      yield* this.#policies();
      yield* this.#removed((name) => this.#removePolicy(name as PolicyKey));
    }
  }

  /** All workloads; what is a service is put aside by its index. */
  *#workloads(services: number[]): Generator<void> {
    const { push, target, addresses, accepted } = this.#options;
    const envelope = this.#envelope;
    let batch: Workload[] = [];
    let versions: string[] = [];
    const { length } = push.resources;
    for (let i = 0; i < length; i++) {
      try {
        envelope.read(push.resources[i], ADDRESS_TYPE);
        const { valueStart, valueStop } = envelope;
        if (addresses.kind(valueStart, valueStop) === "service") {
          services.push(i);
        } else {
          const workload = addresses.workload(valueStart, valueStop);
          envelope.expectName(workload.uid, "uid");
          versions.push(envelope.version);
          batch.push(workload);
        }
      } catch (error) {
        this.#refuse(i, error);
      }
      if (i % BATCH !== BATCH - 1 && i !== length - 1) continue;
      target.apply({ upsert: { workloads: batch } });
      // The workload's own text, so that there is one copy of it.
      for (let k = 0; k < batch.length; k++) accepted(batch[k].uid, versions[k]);
      batch = [];
      versions = [];
      yield;
    }
  }

  *#services(indices: readonly number[]): Generator<void> {
    const { push, target, addresses, accepted } = this.#options;
    const envelope = this.#envelope;
    for (const i of indices) {
      try {
        envelope.read(push.resources[i], ADDRESS_TYPE);
        const service = addresses.service(envelope.valueStart, envelope.valueStop);
        const key = keyOfService(service);
        envelope.expectName(key, "namespace and hostname");
        const { version } = envelope;
        target.apply({ upsert: { services: [service] } });
        accepted(key, version);
      } catch (error) {
        this.#refuse(i, error);
      }
      yield;
    }
  }

  *#policies(): Generator<void> {
    const { push, target, accepted } = this.#options;
    const envelope = this.#envelope;
    for (let i = 0; i < push.resources.length; i++) {
      let bytes: Uint8Array | undefined;
      try {
        envelope.read(push.resources[i], AUTHORIZATION_TYPE);
        bytes = push.resources[i].subarray(envelope.valueStart, envelope.valueStop);
        const policy = decodePolicy(bytes);
        const key = keyOfPolicy(policy);
        envelope.expectName(key, "namespace and name");
        const { version } = envelope;
        target.apply({ upsert: { policies: [policy] } });
        accepted(key, version);
      } catch (error) {
        const name = this.#refuse(i, error);
        if (bytes !== undefined) this.#denyInstead(name, bytes);
      }
      yield;
    }
  }

  *#removed(remove: (name: string) => void): Generator<void> {
    for (const name of this.#options.push.removed) {
      remove(name);
      yield;
    }
  }

  /** A workload by its uid, else a service by namespace and hostname. What a file says of it comes back. */
  #removeAddress(name: string): void {
    const { target, staticLayer } = this.#options;
    if (target.store.workloadByUid(name as WorkloadUid) !== undefined) {
      const workload = staticLayer.workloads.get(name as WorkloadUid);
      if (workload === undefined) target.apply({ remove: { workloads: [name as WorkloadUid] } });
      else target.apply({ upsert: { workloads: [workload] } });
    } else {
      const service = staticLayer.services.get(name as ServiceKey);
      if (service === undefined) target.apply({ remove: { services: [name as ServiceKey] } });
      else target.apply({ upsert: { services: [service] } });
    }
  }

  #removePolicy(key: PolicyKey): void {
    const { target, staticLayer } = this.#options;
    const policy = staticLayer.policies.get(key);
    if (policy === undefined) target.apply({ remove: { policies: [key] } });
    else target.apply({ upsert: { policies: [policy] } });
  }

  /** A policy that was never readable counts as missing where it would apply; where there is an older version that stays. */
  #denyInstead(name: string, bytes: Uint8Array): void {
    const slash = name.indexOf("/");
    const { scope, dryRun } = policyScope(bytes);
    if (slash <= 0 || dryRun) return;
    const place: PolicyPlace = { key: name as PolicyKey, namespace: name.slice(0, slash), scope };
    this.#options.target.apply({ unreadable: [place] });
  }

  /** Whatever went wrong, it went wrong with this one. Returns its name. */
  #refuse(index: number, error: unknown): string {
    let name = "";
    try {
      ({ name } = this.#envelope);
    } catch {
      // No text: then only its place says which one it is.
    }
    if (name === "") name = `resource ${index}`;
    this.rejections.push({ name, reason: error instanceof Error ? error.message : String(error) });
    return name;
  }
}
