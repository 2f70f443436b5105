/**
 * Answers the workers' questions about the mesh and tells them when an answer may have changed. Lives on the main thread,
 * beside the one copy of the mesh. A subscription ends with the change it reports: who still needs the answer asks again.
 */
import { closureFor, closureForHostname, closureForWorkload } from "../mesh/closure.ts";
import { closureForName } from "../mesh/dns_closure.ts";
import type { ChangeSet, Closure, MeshStore, Sampling } from "../mesh/mod.ts";
import { TokenIndex } from "../mesh/token_index.ts";
import type { MeshQuery } from "./messages.ts";

interface Subscription {
  readonly worker: number;
  readonly key: string;
  readonly tokens: readonly string[];
}

export class MeshService {
  readonly #store: MeshStore;
  readonly #sampling: Sampling | undefined;
  readonly #byToken = new TokenIndex<Subscription>();
  readonly #byKey = new Map<string, Subscription>();

  /** With `sampling` an answer about a large service holds only some of its endpoints. */
  constructor(store: MeshStore, sampling?: Sampling) {
    this.#store = store;
    this.#sampling = sampling;
  }

  /** The part of the mesh that a worker asked for. From now on `changed` reports when it may have changed. */
  answer(worker: number, key: string, query: MeshQuery): Closure {
    const closure = this.#cut(query);
    this.#drop(worker, key);
    const subscription: Subscription = { worker, key, tokens: closure.tokens };
    this.#byKey.set(`${worker}|${key}`, subscription);
    for (const token of closure.tokens) this.#byToken.add(token, subscription);
    return closure;
  }

  /** Which answers of which workers a change may concern. */
  changed(changes: ChangeSet): Map<number, string[]> {
    const affected = new Map<number, string[]>();
    for (const { worker, key } of this.#byToken.concerned(changes)) {
      this.#drop(worker, key);
      const keys = affected.get(worker);
      if (keys === undefined) affected.set(worker, [key]);
      else keys.push(key);
    }
    return affected;
  }

  forget(worker: number, keys: readonly string[]): void {
    for (const key of keys) this.#drop(worker, key);
  }

  /** A worker is gone, and its cache with it. */
  forgetWorker(worker: number): void {
    for (const subscription of [...this.#byKey.values()]) {
      if (subscription.worker === worker) this.#drop(worker, subscription.key);
    }
  }

  /** Answers that are subscribed to. */
  get size(): number {
    return this.#byKey.size;
  }

  #drop(worker: number, key: string): void {
    const subscription = this.#byKey.get(`${worker}|${key}`);
    if (subscription === undefined) return;
    this.#byKey.delete(`${worker}|${key}`);
    for (const token of subscription.tokens) this.#byToken.delete(token, subscription);
  }

  #cut(query: MeshQuery): Closure {
    switch (query.kind) {
      case "address":
        return closureFor(this.#store, query.network, query.ip, query.namespace, this.#sampling);
      case "dns":
        return closureForName(this.#store, query.name, query.scope, this.#sampling);
      case "hostname":
      case "workload": {
        const workload = this.#store.workloadByUid(query.uid);
        if (workload === undefined) {
          return { resources: { workloads: [], services: [], policies: [] }, tokens: [`w:${query.uid}`] };
        }
        return query.kind === "hostname"
          ? closureForHostname(this.#store, query.hostname, workload)
          : closureForWorkload(this.#store, workload);
      }
    }
  }
}
