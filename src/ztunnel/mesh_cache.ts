/**
 * A worker's view of the mesh: the answers it asked the main thread for, one small mesh per destination.
 *
 * An answer stays until the main thread says that it may have changed, or until nobody used it for five minutes. Asking
 * registers the interest before the answer is made, on the same ordered channel, so no change is missed.
 */
import type { Limits } from "../telemetry/limits.ts";
import { type MeshResources, MeshStore } from "../mesh/mod.ts";
import { type Reactor, Timer, type TimerTarget } from "../net/reactor.ts";
import type { MeshQuery } from "./messages.ts";

/** Somebody waiting for an answer. Called once, unless cancelled. */
export interface MeshWaiter {
  /** `undefined`: the main thread did not answer in time. */
  meshAnswered(mesh: MeshStore | undefined): void;
}

export interface MeshCacheOptions {
  readonly reactor: Reactor;
  /** Asks the main thread; it answers through `answer`. */
  readonly ask: (key: string, query: MeshQuery) => void;
  readonly forget: (keys: readonly string[]) => void;
  readonly limits?: Limits;
  /** Above this many answers the least used are dropped early. */
  readonly maxEntries?: number;
}

const MAX_ENTRIES = 16_384;
const UNUSED_MS = 5 * 60_000;
const SWEEP_MS = 30_000;
/** By then an answer with some of a large service's endpoints makes way for one with others. */
const SAMPLE_MS = 60_000;
/** The main thread answers within milliseconds; silence this long means that it is stuck. */
const ANSWER_TIMEOUT_MS = 5_000;

interface Entry {
  mesh: MeshStore | undefined;
  waiters: MeshWaiter[];
  usedMs: number;
  askedMs: number;
  /** When the answer stops being good enough; Infinity: when it is told so. */
  staleMs: number;
}

export class MeshCache implements TimerTarget {
  readonly #options: MeshCacheOptions;
  readonly #maxEntries: number;
  readonly #entries = new Map<string, Entry>();
  readonly #sweep = new Timer(this);
  #waiting = 0;

  constructor(options: MeshCacheOptions) {
    this.#options = options;
    this.#maxEntries = options.maxEntries ?? MAX_ENTRIES;
    options.reactor.setTimer(this.#sweep, SWEEP_MS);
  }

  get size(): number {
    return this.#entries.size;
  }

  /**
   * The part of the mesh that a query is about, at once if it is cached, else through the waiter. `key` is for who asks the same often
   * and has its `meshKey` at hand.
   */
  lookup(query: MeshQuery, waiter: MeshWaiter, key = meshKey(query)): MeshStore | undefined {
    const nowMs = this.#options.reactor.nowMs;
    let entry = this.#entries.get(key);
    if (entry === undefined) {
      if (this.#entries.size >= this.#maxEntries) this.#makeRoom();
      entry = { mesh: undefined, waiters: [], usedMs: nowMs, askedMs: nowMs, staleMs: Infinity };
      this.#entries.set(key, entry);
      this.#options.ask(key, query);
    }
    entry.usedMs = nowMs;
    if (entry.mesh !== undefined) return entry.mesh;
    // After a timeout the question still stands, but who comes now has the whole time again.
    if (entry.waiters.length === 0) entry.askedMs = nowMs;
    entry.waiters.push(waiter);
    // While somebody waits the sweep looks more often, so that a stuck main thread is noticed.
    if (this.#waiting++ === 0) this.#options.reactor.setTimer(this.#sweep, ANSWER_TIMEOUT_MS);
    return undefined;
  }

  /** `sampled`: it holds only some endpoints of a large service, and is asked for anew after a while. */
  answer(key: string, resources: MeshResources, sampled = false): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    entry.staleMs = sampled ? this.#options.reactor.nowMs + SAMPLE_MS : Infinity;
    entry.mesh = isEmpty(resources) ? EMPTY_MESH : MeshStore.fromResources(resources);
    this.#release(entry, entry.mesh);
  }

  /** Drops answers; who still waits for one of them gets the answer that is on its way, and the next asks again. */
  invalidate(keys: readonly string[]): void {
    for (const key of keys) {
      const entry = this.#entries.get(key);
      if (entry === undefined) continue;
      if (entry.waiters.length === 0) this.#entries.delete(key);
      else entry.mesh = undefined;
    }
  }

  expired(nowMs: number): void {
    for (const entry of this.#entries.values()) {
      if (entry.waiters.length === 0 || nowMs - entry.askedMs < ANSWER_TIMEOUT_MS) continue;
      this.#options.limits?.reached("mesh_answer");
      this.#release(entry, undefined);
    }
    this.#evict(nowMs, UNUSED_MS);
    this.#options.reactor.setTimer(this.#sweep, this.#waiting > 0 ? ANSWER_TIMEOUT_MS : SWEEP_MS);
  }

  #release(entry: Entry, mesh: MeshStore | undefined): void {
    const waiters = entry.waiters;
    entry.waiters = [];
    this.#waiting -= waiters.length;
    for (const waiter of waiters) waiter.meshAnswered(mesh);
  }

  #evict(nowMs: number, unusedMs: number): void {
    const keys: string[] = [];
    for (const [key, entry] of this.#entries) {
      if (entry.waiters.length > 0) continue;
      if (nowMs - entry.usedMs >= unusedMs || nowMs >= entry.staleMs) keys.push(key);
    }
    this.#drop(keys);
  }

  /** Drops those that were not used for longest, many at once: whoever asks for ever new addresses pays a walk only now and then. */
  #makeRoom(): void {
    const idle = [...this.#entries].filter(([, entry]) => entry.waiters.length === 0);
    idle.sort(([, a], [, b]) => a.usedMs - b.usedMs);
    this.#options.limits?.reached("mesh_cache", { entries: this.#maxEntries });
    this.#drop(idle.slice(0, this.#maxEntries >> 3).map(([key]) => key));
  }

  #drop(keys: readonly string[]): void {
    if (keys.length === 0) return;
    for (const key of keys) this.#entries.delete(key);
    this.#options.forget(keys);
  }
}

/** What the keys of answers about domain names begin with. */
export const DNS_KEY = "d|";

/** Most names that pods ask the DNS for are none of the mesh's: all of them share this. */
const EMPTY_MESH = MeshStore.fromResources({ workloads: [], services: [], policies: [] });

function isEmpty({ workloads, services, policies }: MeshResources): boolean {
  return workloads.length === 0 && services.length === 0 && policies.length === 0;
}

/** Under what an answer is cached. */
export function meshKey(query: MeshQuery): string {
  switch (query.kind) {
    case "address":
      return `a|${query.namespace ?? "*"}|${query.network}|${query.ip}`;
    case "hostname":
      return `h|${query.uid}|${query.hostname}`;
    case "workload":
      return `w|${query.uid}`;
    case "dns":
      return `${DNS_KEY}${query.scope.namespace}|${query.scope.search?.join(",") ?? ""}|${query.name}`;
  }
}
