/**
 * Answers the workers' questions about the mesh and tells them when an answer may have changed. Lives on the main thread,
 * beside the one copy of the mesh. A subscription ends with the change it reports: who still needs the answer asks again.
 */
import { closureFor, closureForHostname, closureForWorkload } from "../mesh/closure.ts";
import type { Closure, MeshStore } from "../mesh/mod.ts";
import type { MeshQuery } from "./messages.ts";

interface Subscription {
  readonly worker: number;
  readonly key: string;
  readonly tokens: readonly string[];
}

export class MeshService {
  readonly #store: MeshStore;
  readonly #byToken = new Map<string, Set<Subscription>>();
  readonly #byKey = new Map<string, Subscription>();

  constructor(store: MeshStore) {
    this.#store = store;
  }

  /** The part of the mesh that a worker asked for. From now on `changed` reports when it may have changed. */
  answer(worker: number, key: string, query: MeshQuery): Closure["resources"] {
    const closure = this.#cut(query);
    this.#drop(worker, key);
    const subscription: Subscription = { worker, key, tokens: closure.tokens };
    this.#byKey.set(`${worker}|${key}`, subscription);
    for (const token of closure.tokens) {
      const subscriptions = this.#byToken.get(token);
      if (subscriptions === undefined) this.#byToken.set(token, new Set([subscription]));
      else subscriptions.add(subscription);
    }
    return closure.resources;
  }

  /** Which answers of which workers a change may concern. */
  changed(tokens: ReadonlySet<string>): Map<number, string[]> {
    const affected = new Map<number, string[]>();
    for (const token of tokens) {
      for (const { worker, key } of [...this.#byToken.get(token) ?? []]) {
        this.#drop(worker, key);
        const keys = affected.get(worker);
        if (keys === undefined) affected.set(worker, [key]);
        else keys.push(key);
      }
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
    for (const token of subscription.tokens) {
      const subscriptions = this.#byToken.get(token);
      subscriptions?.delete(subscription);
      if (subscriptions?.size === 0) this.#byToken.delete(token);
    }
  }

  #cut(query: MeshQuery): Closure {
    switch (query.kind) {
      case "address":
        return closureFor(this.#store, query.network, query.ip, query.namespace);
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
