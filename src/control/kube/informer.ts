/**
 * A copy of the API server's objects that follows it: a list in pages, then a watch from there on.
 *
 * The watch is resumed where it ended, however it ended. When the server has forgotten that place (410), everything is listed again
 * and the difference is told as if it had been watched. Failures are told and tried again, 0.5 s to 30 s apart, for ever.
 */
import { KubeError } from "./client.ts";
import type { KubeClient } from "./client.ts";
import { asStatus } from "./kube_error.ts";
import { listAll, type ListQuery, queryText } from "./list.ts";
import { ObjectStore, type StoreEvents } from "./object_store.ts";
import { type Schedule, systemSchedule } from "./schedule.ts";
import type { KubeObject } from "./types.ts";
import { WatchLineError, WatchLines, type WatchStep } from "./watch_lines.ts";

export interface InformerEvents<T> extends StoreEvents<T> {
  /** The first list has been told. */
  synced(): void;
  /** For the log: what went wrong, and when it is tried again. */
  problem(text: string): void;
}

export interface Informer<T> {
  /** Rejects when it is stopped before. */
  readonly synced: Promise<void>;
  /** `namespace/name`, or `name` of what has no namespace. */
  get(key: string): T | undefined;
  list(): readonly T[];
  /** Nothing is told from now on. */
  stop(): void;
}

export type InformerQuery = ListQuery;

/** For tests. */
export interface InformerSettings {
  readonly schedule?: Schedule;
  /** A clock that only moves forward. */
  readonly nowMs?: () => number;
  /** Gives [0, 1). */
  readonly random?: () => number;
}

const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 30_000;
/** A watch that held for so long has done its work: the next may begin at once. */
const WORTHWHILE_MS = 5_000;
/** The server ends a watch by then, so that watches spread over the servers again. With half as much on top by chance. */
const WATCH_SECONDS = 240;
/** Over what the server was asked for. */
const OVERTIME_MS = 15_000;
/** A server that sends bookmarks sends one a minute, give or take a quarter: two and a half in a row do not get lost. */
const BOOKMARK_SILENCE_MS = 150_000;
/** An error that is not about the place in the history is not cured by trying the same place for ever. */
const MAX_FAILED_RESUMES = 4;

/** @param path of the collection: `/api/v1/pods` */
export function startInformer<T extends KubeObject>(
  client: KubeClient,
  path: string,
  query: InformerQuery,
  events: InformerEvents<T>,
  settings: InformerSettings = {},
): Informer<T> {
  return new Follower(client, path, query, events, settings);
}

class Follower<T extends KubeObject> implements Informer<T> {
  readonly synced: Promise<void>;
  readonly #client: KubeClient;
  readonly #path: string;
  readonly #query: InformerQuery;
  readonly #events: InformerEvents<T>;
  readonly #store: ObjectStore<T>;
  readonly #stop = new AbortController();
  readonly #schedule: Schedule;
  readonly #nowMs: () => number;
  readonly #random: () => number;
  #failures = 0;
  /** Watches in a row that ended badly at one place. */
  #failedResumes = 0;
  #hasBookmarks = false;
  /** Where the next watch begins; undefined: list first. */
  #version: string | undefined;
  /** Of the last list or watch; a list must not be older. */
  #lastVersion = "0";

  constructor(
    client: KubeClient,
    path: string,
    query: InformerQuery,
    events: InformerEvents<T>,
    settings: InformerSettings,
  ) {
    this.#client = client;
    this.#path = path;
    this.#query = query;
    this.#events = events;
    this.#schedule = settings.schedule ?? systemSchedule;
    this.#nowMs = settings.nowMs ?? (() => performance.now());
    this.#random = settings.random ?? Math.random;
    this.#store = new ObjectStore<T>({
      added: (object) => this.#tell(() => events.added(object)),
      updated: (before, after) => this.#tell(() => events.updated(before, after)),
      deleted: (last) => this.#tell(() => events.deleted(last)),
    });
    this.synced = this.#run();
    // Whoever does not wait for it is not told that it was stopped.
    this.synced.catch(() => {});
  }

  get(key: string): T | undefined {
    return this.#store.get(key);
  }

  list(): readonly T[] {
    return this.#store.list();
  }

  stop(): void {
    this.#stop.abort(new Error(`the informer of ${this.#path} was stopped`));
  }

  get #stopped(): boolean {
    return this.#stop.signal.aborted;
  }

  /** Resolves with the first list; goes on until it is stopped. */
  async #run(): Promise<void> {
    while (!await this.#list());
    if (this.#stopped) throw this.#stop.signal.reason;
    this.#tell(() => this.#events.synced());
    void this.#follow();
  }

  async #follow(): Promise<void> {
    while (!this.#stopped) {
      if (this.#version === undefined) await this.#list();
      else await this.#watch(this.#version);
    }
  }

  /** True: it is done, or nobody wants it any more. */
  async #list(): Promise<boolean> {
    try {
      const { items, resourceVersion } = await listAll<T>(
        this.#client,
        this.#path,
        this.#query,
        this.#lastVersion,
        this.#stop.signal,
      );
      if (this.#stopped) return true;
      this.#store.replace(items);
      this.#moveTo(resourceVersion);
      this.#failedResumes = 0;
      return true;
    } catch (error) {
      if (this.#stopped) return true;
      // The server does not know this version (any more, or yet): whatever is true now is good.
      if (isGone(error) || isFuture(error)) this.#lastVersion = "";
      await this.#failed(`cannot list ${this.#path}`, error);
      return false;
    }
  }

  async #watch(from: string): Promise<void> {
    const seconds = Math.floor(WATCH_SECONDS * (1 + this.#random() / 2));
    const path = `${this.#path}?${
      queryText(this.#query, {
        watch: "1",
        allowWatchBookmarks: "true",
        resourceVersion: from,
        timeoutSeconds: String(seconds),
      })
    }`;
    const startMs = this.#nowMs();
    const lines = new WatchLines();
    let steps = 0;
    const take = (step: WatchStep) => {
      if (this.#stopped) return;
      this.#take(step);
      steps++;
    };
    const endMs = startMs + seconds * 1000 + OVERTIME_MS;
    const silenceMs = () => {
      const leftMs = Math.max(1, endMs - this.#nowMs());
      return this.#hasBookmarks ? Math.min(leftMs, BOOKMARK_SILENCE_MS) : leftMs;
    };
    let failure: unknown;
    try {
      await this.#client.stream(
        path,
        { signal: this.#stop.signal, accept: this.#query.accept, silenceMs },
        (chunk) => lines.push(chunk, take),
      );
      if (lines.isInLine) failure = new WatchLineError("the watch ended in the middle of a line");
    } catch (error) {
      failure = error;
    }
    if (this.#stopped) return;
    const wasWorthwhile = this.#nowMs() - startMs >= WORTHWHILE_MS;
    if (steps > 0 || wasWorthwhile) this.#failures = this.#failedResumes = 0;
    if (failure !== undefined && this.#mustList(failure)) this.#version = undefined;
    if (wasWorthwhile && (failure === undefined || isGone(failure))) return;
    await this.#failed(`the watch of ${this.#path} broke`, failure ?? new Error("it ended at once"));
  }

  /** Told step by step, so that the place is right wherever the watch ends. @throws KubeError for an event that is one */
  #take(step: WatchStep): void {
    switch (step.kind) {
      case "error":
        throw watchError(step.status);
      case "bookmark":
        this.#hasBookmarks = true;
        this.#moveTo(step.resourceVersion);
        return;
      case "added":
      case "modified":
      case "deleted":
        this.#store.apply(step);
        this.#moveTo(step.object.metadata.resourceVersion ?? "");
    }
  }

  #moveTo(version: string): void {
    this.#version = this.#lastVersion = version;
  }

  #mustList(failure: unknown): boolean {
    if (isGone(failure)) return true;
    return !isPassing(failure) && ++this.#failedResumes >= MAX_FAILED_RESUMES;
  }

  async #failed(what: string, error: unknown): Promise<void> {
    const upperMs = Math.min(LAST_RETRY_MS, 2 * FIRST_RETRY_MS * 2 ** Math.min(this.#failures++, 20));
    const backoffMs = upperMs / 2 * (1 + this.#random());
    const askedMs = error instanceof KubeError ? error.retryAfterMs ?? 0 : 0;
    const delayMs = Math.max(backoffMs, askedMs);
    const text = error instanceof Error ? error.message : String(error);
    this.#tell(() => this.#events.problem(`${what}: ${text}; trying again in ${(delayMs / 1000).toFixed(1)} s`));
    await this.#sleep(delayMs);
  }

  /** Also over when it is stopped. */
  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      if (this.#stopped) return resolve();
      const stopped = () => {
        cancel();
        resolve();
      };
      const cancel = this.#schedule(() => {
        this.#stop.signal.removeEventListener("abort", stopped);
        resolve();
      }, ms);
      this.#stop.signal.addEventListener("abort", stopped, { once: true });
    });
  }

  /** What a handler throws is a bug of the handler, and must not stop the others from being told. */
  #tell(tell: () => void): void {
    if (this.#stopped) return;
    try {
      tell();
    } catch (error) {
      const text = error instanceof Error ? error.stack ?? error.message : String(error);
      queueMicrotask(() => {
        if (!this.#stopped) this.#events.problem(`bug in a handler of ${this.#path}: ${text}`);
      });
    }
  }
}

function watchError(value: unknown): KubeError {
  const status = asStatus(value);
  const message = status?.message ?? "no reason given";
  const reason = status?.reason ?? "";
  return new KubeError(
    `the API server ended it: ${message}`,
    status?.code ?? (reason === "Expired" ? 410 : 500),
    reason,
  );
}

function isGone(error: unknown): boolean {
  return error instanceof KubeError && (error.status === 410 || error.reason === "Expired" || error.reason === "Gone");
}

/** A server that has not caught up with the one that was asked before. */
function isFuture(error: unknown): boolean {
  return error instanceof KubeError && error.status === 504 && /resource version/i.test(error.message);
}

/** It says nothing about the place in the history. */
function isPassing(error: unknown): boolean {
  return error instanceof KubeError && [0, 401, 403, 429, 503].includes(error.status);
}
