/**
 * The workers of this process as the main thread sees them: told everything in the same order, asked for confirmation, replaced when one
 * of them dies or does not answer.
 *
 * A new worker is told the whole state before anything else, so it never serves with less than the current epoch.
 */
import { WorkerLoad } from "../net/worker_load.ts";
import { closeOwned, createOwnershipTable, ownerNumber, seizeOwned } from "../platform/ownership.ts";
import { startThread, type Thread } from "../platform/thread.ts";
import type { FromWorker, ToWorker, WorkerSettings, WorkerStart } from "./messages.ts";

export interface WorkerGroupOptions {
  readonly entry: URL;
  readonly count: number;
  /** So many are started at once, the others by `startRest`. Default: all. */
  readonly atFirst?: number;
  readonly settings: WorkerSettings;
  readonly directives: () => string;
  /** Everything a new worker must be told to be as the others are. */
  readonly replay: () => readonly ToWorker[];
  /** A message that is not about the group itself. */
  readonly received: (worker: number, message: FromWorker) => void;
  /** A worker died or was ended; another one takes its place. */
  readonly lost: (worker: number, generation: number, reason: string, closedDescriptors: number) => void;
  /** A worker was started, and has been told everything. */
  readonly started?: (worker: number) => void;
  /** Runs `task` after a delay; the result cancels it. */
  readonly schedule: (task: () => void, delayMs: number) => () => void;
}

/** A worker answers within a turn; one that does not within this long is replaced. */
const CONFIRM_TIMEOUT_MS = 5_000;
/** A worker is up within a second even on a busy machine; one that is not by then never will be. */
const START_TIMEOUT_MS = 30_000;
/** A worker that dies again and again is started ever more slowly. */
const RESTART_MS = 100;
const MAX_RESTART_MS = 10_000;
/** One that ran this long was in order: its death is the first again. */
const STEADY_MS = 60_000;

interface Slot {
  thread: Thread | undefined;
  generation: number;
  started: boolean;
  /** The latest epoch it has in force; -1 before the first. */
  confirmed: number;
  failures: number;
  cancelTimer: () => void;
}

export class WorkerGroup {
  /** Connections of each, as the workers themselves see them. */
  readonly load: WorkerLoad;
  readonly #options: WorkerGroupOptions;
  readonly #slots: Slot[] = [];
  readonly #ownership = createOwnershipTable();
  #generations = 0;
  #epoch = 0;
  #waiters: { readonly epoch: number; readonly resolve: () => void; readonly cancel: () => void }[] = [];
  #closed = false;

  constructor(options: WorkerGroupOptions) {
    this.#options = options;
    this.load = WorkerLoad.create(options.count);
    this.#startUpTo(options.atFirst ?? options.count);
  }

  /** Starts those that wait for it (`atFirst`). */
  startRest(): void {
    if (!this.#closed) this.#startUpTo(this.#options.count);
  }

  /** Workers that were started: those that have to answer. */
  get count(): number {
    return this.#slots.length;
  }

  /** Which generation a worker's metrics carry, by worker. */
  generation(worker: number): number {
    return this.#slots[worker].generation;
  }

  send(worker: number, message: ToWorker): void {
    this.#slots[worker].thread?.post(message);
  }

  /** The first worker that is there; undefined when all are being replaced. */
  first(): number | undefined {
    const index = this.#slots.findIndex(({ thread }) => thread !== undefined);
    return index === -1 ? undefined : index;
  }

  /** Takes a descriptor that a worker handed over: it is not closed with that worker any more. */
  claim(fd: number): void {
    this.#ownership[fd] = 0;
  }

  /** Gives a connection to a worker. False when it is being replaced: the descriptor stays the caller's. */
  handOver(worker: number, message: Extract<ToWorker, { readonly type: "adopt" }>): boolean {
    const slot = this.#slots[worker];
    if (slot.thread === undefined) {
      this.#ownership[message.fd] = 0;
      return false;
    }
    // Noted at once: it is closed with this worker, whether the message was read by then or not.
    this.#ownership[message.fd] = ownerNumber(slot.generation);
    slot.thread.post(message);
    return true;
  }

  broadcast(message: ToWorker): void {
    for (const slot of this.#slots) slot.thread?.post(message);
  }

  /** Handles what workers have asked and told meanwhile: long work calls it between its parts. */
  take(): void {
    for (const slot of this.#slots) slot.thread?.take();
  }

  /** Resolves when every worker has handled all that was broadcast before; one that does not in time is replaced. */
  settle(): Promise<void> {
    const epoch = ++this.#epoch;
    this.broadcast({ type: "epoch", epoch });
    return new Promise((resolve) => {
      const cancel = this.#options.schedule(() => this.#replaceSilent(epoch), CONFIRM_TIMEOUT_MS);
      this.#waiters.push({ epoch, resolve, cancel });
    });
  }

  close(): void {
    this.#closed = true;
    for (const slot of this.#slots) {
      slot.cancelTimer();
      slot.thread?.terminate();
    }
    for (const waiter of this.#waiters) waiter.cancel();
    this.#waiters = [];
  }

  #startUpTo(count: number): void {
    while (this.#slots.length < count) {
      this.#slots.push({
        thread: undefined,
        generation: 0,
        started: false,
        confirmed: -1,
        failures: 0,
        cancelTimer: () => {},
      });
      this.#start(this.#slots.length - 1);
    }
  }

  #start(index: number): void {
    const slot = this.#slots[index];
    let generation = ++this.#generations;
    // Owner numbers come round: this must not be that of a worker that lives.
    while (this.#slots.some((other) => other.thread !== undefined && sameOwner(other.generation, generation))) {
      generation = ++this.#generations;
    }
    slot.generation = generation;
    slot.started = false;
    slot.confirmed = -1;
    slot.cancelTimer = this.#options.schedule(
      () => this.#replace(index, `it did not start within ${START_TIMEOUT_MS / 1000} s`),
      START_TIMEOUT_MS,
    );
    const { settings, directives, entry } = this.#options;
    const start: WorkerStart = {
      index,
      generation,
      settings,
      directives: directives(),
      load: this.load.buffer,
      ownership: this.#ownership.buffer,
    };
    const thread = startThread(entry, start, {
      message: (message) => {
        if (slot.generation === generation) this.#received(index, message as FromWorker);
      },
      ended: (error) => this.#ended(index, generation, error?.stack ?? error?.message ?? "it ended by itself"),
    });
    slot.thread = thread;
    for (const message of this.#options.replay()) thread.post(message);
    thread.post({ type: "epoch", epoch: this.#epoch } satisfies ToWorker);
    this.#options.started?.(index);
  }

  #received(index: number, message: FromWorker): void {
    const slot = this.#slots[index];
    if (message.type === "started") {
      slot.started = true;
      slot.thread?.setWakeFd(message.wakeFd);
    } else if (message.type === "confirmed") {
      if (slot.confirmed === -1) {
        this.load.up(index);
        slot.cancelTimer();
        slot.cancelTimer = this.#options.schedule(() => {
          slot.failures = 0;
        }, STEADY_MS);
      }
      slot.confirmed = Math.max(slot.confirmed, message.epoch);
      this.#resolveWaiters();
    } else {
      this.#options.received(index, message);
    }
  }

  #resolveWaiters(): void {
    const reached = Math.min(...this.#slots.map((slot) => slot.confirmed));
    const done = this.#waiters.filter((waiter) => waiter.epoch <= reached);
    if (done.length === 0) return;
    this.#waiters = this.#waiters.filter((waiter) => waiter.epoch > reached);
    for (const waiter of done) {
      waiter.cancel();
      waiter.resolve();
    }
  }

  #replaceSilent(epoch: number): void {
    for (let i = 0; i < this.#slots.length; i++) {
      // One that only starts has its own time for that, and begins with the present epoch.
      if (this.#slots[i].confirmed >= epoch || this.#slots[i].confirmed === -1) continue;
      this.#replace(i, `it did not confirm a change within ${CONFIRM_TIMEOUT_MS / 1000} s`);
    }
  }

  /** Ends a worker that hangs. Deno cannot stop a thread that runs or waits in the kernel, so what it had is taken from it. */
  #replace(index: number, reason: string): void {
    const { generation, thread } = this.#slots[index];
    // In this order: Deno reports the thread's end from within `terminate`, though it may run on.
    this.#ended(index, generation, reason, seizeOwned);
    thread?.terminate();
  }

  #ended(index: number, generation: number, reason: string, close = closeOwned): void {
    const slot = this.#slots[index];
    if (slot.generation !== generation || slot.thread === undefined || this.#closed) return;
    slot.thread = undefined;
    slot.cancelTimer();
    const delayMs = Math.min(MAX_RESTART_MS, RESTART_MS * 2 ** slot.failures++);
    this.load.down(index);
    const closed = close(this.#ownership, ownerNumber(generation));
    this.#options.lost(index, generation, reason, closed);
    slot.cancelTimer = this.#options.schedule(() => {
      if (!this.#closed) this.#start(index);
    }, delayMs);
  }
}

function sameOwner(a: number, b: number): boolean {
  return ownerNumber(a) === ownerNumber(b);
}
