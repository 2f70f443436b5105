/**
 * The main thread's side of SOCK_SEQPACKET conversations (worker_links.ts): the first worker that runs watches them. When it is lost
 * its conversations have ended, and what listens is watched by another one.
 */
import type { LinkEvent, LinkOrder } from "./messages.ts";

export interface LinkHandler {
  /** `uid`: whose process the other end is; -1: unknown. */
  connected?(uid: number): void;
  /** The handler owns the descriptors. `damage` says what of the message is lost. */
  message(bytes: Uint8Array, fds: readonly number[], damage: string | undefined): void;
  /** Once, unless `close` was called. */
  closed(reason: string): void;
}

export interface Link {
  /** The descriptors stay the caller's, who closes none of them before the workers have settled. */
  send(bytes: Uint8Array, fds?: readonly number[]): void;
  close(): void;
}

export interface LinkWorkers {
  /** The worker to use; undefined when none runs. */
  readonly first: () => number | undefined;
  readonly send: (worker: number, order: LinkOrder) => void;
  readonly closeDescriptor: (fd: number) => void;
}

interface Entry {
  readonly worker: number;
  readonly handler: LinkHandler;
}

interface Listening {
  readonly fd: number;
  readonly accepted: (link: Link, uid: number) => LinkHandler;
  worker: number;
}

export class Links {
  readonly #workers: LinkWorkers;
  readonly #entries = new Map<number, Entry>();
  readonly #listening = new Map<number, Listening>();
  #next = 1;

  constructor(workers: LinkWorkers) {
    this.#workers = workers;
  }

  /** Connects; `handler` is told how it went, in a later turn. */
  connect(path: string, handler: LinkHandler): Link {
    const number = this.#next++;
    const worker = this.#workers.first();
    if (worker === undefined) {
      queueMicrotask(() => handler.closed("no worker is running"));
      return { send() {}, close() {} };
    }
    this.#entries.set(number, { worker, handler });
    this.#workers.send(worker, { do: "connect", link: number, path });
    return this.#link(number, worker);
  }

  /** Has connections to a listening descriptor accepted, which stays the caller's. The result ends that. */
  serve(fd: number, accepted: (link: Link, uid: number) => LinkHandler): () => void {
    const number = this.#next++;
    const listening: Listening = { fd, accepted, worker: -1 };
    this.#listening.set(number, listening);
    this.#watch(number, listening);
    return () => {
      if (this.#listening.delete(number) && listening.worker !== -1) {
        this.#workers.send(listening.worker, { do: "close", link: number });
      }
    };
  }

  received(worker: number, event: LinkEvent): void {
    if (event.event === "accepted") return this.#accepted(worker, event);
    const entry = this.#entries.get(event.link);
    if (event.event === "message") {
      if (entry !== undefined) return entry.handler.message(event.bytes, event.fds, event.damage);
      // Closed here meanwhile.
      for (const fd of event.fds) this.#workers.closeDescriptor(fd);
      return;
    }
    if (entry === undefined) return;
    if (event.event === "connected") return entry.handler.connected?.(event.uid);
    this.#entries.delete(event.link);
    entry.handler.closed(event.reason);
  }

  /** The worker is gone, and with it its connections. */
  lost(worker: number): void {
    for (const [number, entry] of [...this.#entries]) {
      if (entry.worker !== worker) continue;
      this.#entries.delete(number);
      entry.handler.closed("the worker that watched it was lost");
    }
    for (const listening of this.#listening.values()) if (listening.worker === worker) listening.worker = -1;
    this.retry();
  }

  /** A worker was started: what nobody watches may be watched again. */
  retry(): void {
    for (const [number, listening] of this.#listening) {
      if (listening.worker === -1) this.#watch(number, listening);
    }
  }

  #watch(number: number, listening: Listening): void {
    const worker = this.#workers.first();
    if (worker === undefined) return;
    listening.worker = worker;
    this.#workers.send(worker, { do: "accept", link: number, fd: listening.fd });
  }

  #accepted(worker: number, { link: number, listener, uid }: Extract<LinkEvent, { event: "accepted" }>): void {
    const link = this.#link(number, worker);
    const listening = this.#listening.get(listener);
    if (listening === undefined) return link.close();
    this.#entries.set(number, { worker, handler: { message() {}, closed() {} } });
    const handler = listening.accepted(link, uid);
    if (this.#entries.has(number)) this.#entries.set(number, { worker, handler });
  }

  #link(number: number, worker: number): Link {
    // A message may be under way to a worker that takes another one's place: it knows no such link.
    const open = () => this.#entries.has(number);
    return {
      send: (bytes, fds = []) => {
        if (open()) this.#workers.send(worker, { do: "send", link: number, bytes, fds });
      },
      close: () => {
        this.#entries.delete(number);
        this.#workers.send(worker, { do: "close", link: number });
      },
    };
  }
}
