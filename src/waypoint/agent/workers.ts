/**
 * The data-plane workers as the main thread sees them: told everything in the same order, asked for confirmation, replaced when one of them dies or
 * does not answer. A new one is told all that is in force before it may accept.
 */
import { WorkerLoad } from "../../net/worker_load.ts";
import { closeOwned, createOwnershipTable, ownerNumber, seizeOwned } from "../../platform/ownership.ts";
import { closeDescriptor, setResetOnClose } from "../../platform/socket.ts";
import { startThread, type Thread } from "../../platform/thread.ts";
import type { CrlMetrics } from "../../telemetry/crl_metrics.ts";
import type { TokenQuestion } from "../filters/jwt_questions.ts";
import type { TokenVerdict } from "../filters/jwt_verdict.ts";
import { metricsSource, type TelemetryMessage } from "../telemetry/messages.ts";
import type { DnsAnswer, DnsQuestion } from "../upstream/resolver.ts";
import type { CollectorCall, CollectorOutcome } from "../worker/collector_calls.ts";
import type { FromWorker, ToWorker, WorkerReport, WorkerSettings, WorkerStart } from "../worker/messages.ts";
import { CollectorCallQueue } from "./collector_calls.ts";

export interface WorkersOptions {
  readonly entry: URL;
  readonly count: number;
  readonly settings: WorkerSettings;
  readonly directives: () => string;
  /** Everything that a new worker must be told to be as the others are. */
  readonly replay: () => readonly ToWorker[];
  readonly lost: (worker: number, reason: string, closedDescriptors: number) => void;
  /** Looks a name up, for a worker that cannot. */
  readonly resolve: (question: DnsQuestion, answered: (answer: DnsAnswer) => void) => void;
  /** Finds out who signed a token. */
  readonly judge: (question: TokenQuestion, answered: (verdict: TokenVerdict) => void) => void;
  /** Revoked peers, as workers meet them. */
  readonly revocations?: CrlMetrics;
  /** What workers count and record. */
  readonly telemetry?: {
    received(message: TelemetryMessage): void;
    /** The worker whose metrics have this name is no more. */
    lost(source: string): void;
  };
  readonly schedule: (task: () => void, delayMs: number) => () => void;
}

/** A worker answers within a turn; compiling the first configuration of thousands of services takes it a second. */
const CONFIRM_TIMEOUT_MS = 10_000;
const START_TIMEOUT_MS = 30_000;
/** A worker that dies again and again is started ever more slowly. */
const RESTART_MS = 100;
const MAX_RESTART_MS = 10_000;
/** One that ran this long was in order: its death is the first again. */
const STEADY_MS = 60_000;
/** A scrape does not wait longer for a worker. */
const REPORT_TIMEOUT_MS = 1_000;
/** A worker cuts its connections and writes their log lines within a turn. */
const LAST_LINES_MS = 500;
const HEARTBEAT_MS = 10_000;

interface Slot {
  thread: Thread | undefined;
  generation: number;
  /** The latest epoch it has in force; -1 before the first. */
  confirmed: number;
  failures: number;
  cancelTimer: () => void;
  ended: boolean;
}

interface PendingReport {
  readonly reports: WorkerReport[];
  readonly waiting: Set<number>;
  readonly done: () => void;
}

export class Workers {
  readonly #options: WorkersOptions;
  readonly #slots: Slot[] = [];
  readonly #load: WorkerLoad;
  readonly #ownership = createOwnershipTable();
  readonly #reports = new Map<number, PendingReport>();
  readonly #calls = new CollectorCallQueue();
  #nextReport = 1;
  #generations = 0;
  #epoch = 0;
  #waiters: { readonly epoch: number; readonly resolve: () => void; readonly cancel: () => void }[] = [];
  #closed = false;
  #cancelBeat: () => void = () => {};

  constructor(options: WorkersOptions) {
    this.#options = options;
    this.#load = WorkerLoad.create(options.count);
    for (let i = 0; i < options.count; i++) {
      this.#slots.push({
        thread: undefined,
        generation: 0,
        confirmed: -1,
        failures: 0,
        cancelTimer: () => {},
        ended: false,
      });
      this.#start(i);
    }
    this.#beat();
  }

  get count(): number {
    return this.#slots.length;
  }

  /** Tunnels open in all workers. */
  get connections(): number {
    return this.#load.total;
  }

  /** For the next message that is to be confirmed. */
  nextEpoch(): number {
    return ++this.#epoch;
  }

  broadcast(message: ToWorker): void {
    for (const slot of this.#slots) slot.thread?.post(message);
  }

  /** Resolves when every worker has confirmed the epoch; one that does not in time is replaced. */
  confirmed(epoch: number): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.#options.schedule(() => this.#replaceSilent(epoch), CONFIRM_TIMEOUT_MS);
      this.#waiters.push({ epoch, resolve, cancel });
      this.#resolveWaiters();
    });
  }

  settle(): Promise<void> {
    const epoch = this.nextEpoch();
    this.broadcast({ type: "epoch", epoch });
    return this.confirmed(epoch);
  }

  /** Counts of every worker that answers in time, in parts; all of them are summed. */
  report(): Promise<readonly WorkerReport[]> {
    const id = this.#nextReport++;
    return new Promise((resolve) => {
      const reports: WorkerReport[] = [];
      const done = () => {
        cancel();
        this.#reports.delete(id);
        resolve(reports);
      };
      const cancel = this.#options.schedule(done, REPORT_TIMEOUT_MS);
      this.#reports.set(id, { reports, waiting: new Set(this.#slots.keys()), done });
      this.broadcast({ type: "report", id });
    });
  }

  /** Sends or gets something through a worker's clusters. Never rejects. */
  call(call: CollectorCall): Promise<CollectorOutcome> {
    for (const [index, { thread, confirmed }] of this.#slots.entries()) {
      if (thread !== undefined && confirmed !== -1) {
        return this.#calls.start(index, call, (message) => thread.post(message));
      }
    }
    return Promise.resolve({ failure: "no worker is up" });
  }

  /** Cuts what is left; resolves when the workers have written their last lines, or had time enough. */
  async cut(reason: string): Promise<void> {
    this.broadcast({ type: "cut", reason });
    await new Promise<void>((resolve) => {
      const enough = this.#options.schedule(resolve, LAST_LINES_MS);
      const check = () => {
        if (!this.#slots.every(({ ended, thread }) => ended || thread === undefined)) return;
        enough();
        resolve();
      };
      this.#onEnded = check;
      check();
    });
  }

  #onEnded: () => void = () => {};

  close(): void {
    this.#closed = true;
    this.#cancelBeat();
    for (const slot of this.#slots) {
      slot.cancelTimer();
      slot.thread?.terminate();
    }
    this.#calls.close();
    for (const waiter of this.#waiters) waiter.cancel();
    this.#waiters = [];
  }

  /** A worker that hangs while nothing changes is found by this. */
  #beat(): void {
    this.#cancelBeat = this.#options.schedule(() => {
      void this.settle().then(() => this.#closed ? undefined : this.#beat());
    }, HEARTBEAT_MS);
  }

  #start(index: number): void {
    const slot = this.#slots[index];
    let generation = ++this.#generations;
    // Owner numbers come round: this must not be that of a worker that lives.
    while (this.#slots.some((other) => other.thread !== undefined && sameOwner(other.generation, generation))) {
      generation = ++this.#generations;
    }
    slot.generation = generation;
    slot.confirmed = -1;
    slot.ended = false;
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
      load: this.#load.buffer,
      ownership: this.#ownership.buffer,
    };
    slot.thread = startThread(entry, start, {
      message: (message) => {
        if (slot.generation === generation) this.#received(index, message as FromWorker);
      },
      ended: (error) => this.#ended(index, generation, error?.stack ?? error?.message ?? "it ended by itself"),
    });
    for (const message of this.#options.replay()) slot.thread.post(message);
    slot.thread.post({ type: "epoch", epoch: this.#epoch } satisfies ToWorker);
  }

  #received(index: number, message: FromWorker): void {
    const slot = this.#slots[index];
    switch (message.type) {
      case "started":
        return slot.thread?.setWakeFd(message.wakeFd);
      case "confirmed":
        if (slot.confirmed === -1) {
          this.#load.up(index);
          slot.cancelTimer();
          slot.cancelTimer = this.#options.schedule(() => void (slot.failures = 0), STEADY_MS);
        }
        slot.confirmed = Math.max(slot.confirmed, message.epoch);
        return this.#resolveWaiters();
      case "revocation":
        return this.#options.revocations?.[message.event](message.reporter);
      case "telemetry":
        return this.#options.telemetry?.received(message.message);
      case "called":
        return this.#calls.ended(message.id, message.outcome);
      case "pass":
        return this.#pass(message.worker, message.fd);
      case "resolve": {
        const { question } = message;
        const { generation } = slot;
        return this.#options.resolve(question, (answer) => {
          if (slot.generation !== generation) return;
          slot.thread?.post({ type: "resolved", id: question.id, answer } satisfies ToWorker);
        });
      }
      case "judge": {
        const { question } = message;
        const { generation } = slot;
        return this.#options.judge(question, (verdict) => {
          if (slot.generation !== generation) return;
          slot.thread?.post({ type: "judged", id: question.id, verdict } satisfies ToWorker);
        });
      }
      case "report": {
        const pending = this.#reports.get(message.id);
        if (pending === undefined || !pending.waiting.has(index)) return;
        pending.reports.push(message.report);
        if (message.isLast) pending.waiting.delete(index);
        if (pending.waiting.size === 0) pending.done();
        return;
      }
      case "ended":
        slot.ended = true;
        return this.#onEnded();
    }
  }

  /** Noted at once as the other worker's: it is closed with it, whether the message was read by then or not. */
  #pass(worker: number, fd: number): void {
    const slot = this.#slots[worker];
    if (slot?.thread === undefined) {
      this.#ownership[fd] = 0;
      setResetOnClose(fd);
      closeDescriptor(fd);
      return;
    }
    this.#ownership[fd] = ownerNumber(slot.generation);
    slot.thread.post({ type: "adopt", fd } satisfies ToWorker);
  }

  #resolveWaiters(): void {
    const reached = Math.min(...this.#slots.map(({ confirmed }) => confirmed));
    const done = this.#waiters.filter(({ epoch }) => epoch <= reached);
    if (done.length === 0) return;
    this.#waiters = this.#waiters.filter(({ epoch }) => epoch > reached);
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

  /** Deno cannot stop a thread that runs or waits in the kernel, so what it had is taken from it. */
  #replace(index: number, reason: string): void {
    const { generation, thread } = this.#slots[index];
    this.#ended(index, generation, reason, seizeOwned);
    thread?.terminate();
  }

  #ended(index: number, generation: number, reason: string, close = closeOwned): void {
    const slot = this.#slots[index];
    if (slot.generation !== generation || slot.thread === undefined || this.#closed) return;
    slot.thread = undefined;
    slot.cancelTimer();
    this.#load.down(index);
    const closed = close(this.#ownership, ownerNumber(generation));
    this.#options.lost(index, reason, closed);
    this.#calls.lost(index);
    this.#options.telemetry?.lost(metricsSource(generation));
    this.#onEnded();
    const delayMs = Math.min(MAX_RESTART_MS, RESTART_MS * 2 ** slot.failures++);
    slot.cancelTimer = this.#options.schedule(() => {
      if (!this.#closed) this.#start(index);
    }, delayMs);
  }
}

function sameOwner(a: number, b: number): boolean {
  return ownerNumber(a) === ownerNumber(b);
}
