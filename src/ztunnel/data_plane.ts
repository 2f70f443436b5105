/**
 * A data-plane worker: the pods it serves, and its conversation with the main thread. Messages are handled whole and in order, between
 * events, so a connection never sees half of a change; an epoch is confirmed when all of it is in force.
 */
import { peerAddress } from "../platform/socket.ts";
import { ownerNumber } from "../platform/ownership.ts";
import { releaseMemory, releaseStartupCode } from "../platform/process.ts";
import type { ThreadPort } from "../platform/thread.ts";
import { createIoContext, type IoContext } from "../net/io_context.ts";
import { Reactor, Timer } from "../net/reactor.ts";
import { type AccessLog, createAccessLog, type Log, Registry } from "../telemetry/mod.ts";
import { createTrafficMetrics } from "../telemetry/traffic_metrics.ts";
import type { ConnectionRecord, RecordKeeper } from "./connection_record.ts";
import { MeshCache } from "./mesh_cache.ts";
import type { ConnectionView, FromWorker, ListenerKind, ToWorker, WorkerStart } from "./messages.ts";
import { type PodEnvironment, PodProxy } from "./pod_proxy.ts";
import { socketTuning } from "./settings.ts";

/** Idle buffers are given back, and the end of a drain is looked for, this often. */
const HOUSEKEEPING_MS = 1_000;
const DRAIN_CHECK_MS = 50;
/** Connections beginning or ending: fewer leave no garbage worth a collection. */
const BURST_CHANGES = 500;
/** Turns between two looks below which a worker has nothing to do. */
const QUIET_TURNS = 50;
/** A worker may have this many connections more than its share, and a quarter on top, before it passes new ones on. */
const BALANCE_SLACK = 4;

export interface DataPlaneOptions {
  readonly port: ThreadPort;
  readonly start: WorkerStart;
  readonly log: Log;
  /** Writes what the log still holds. */
  readonly flushLog: () => void;
}

export class DataPlane {
  readonly #port: ThreadPort;
  readonly #start: WorkerStart;
  readonly #log: Log;
  readonly #flushLog: () => void;
  readonly #reactor: Reactor;
  readonly #io: IoContext;
  readonly #mesh: MeshCache;
  readonly #registry = new Registry({ nowMs: () => performance.now(), retainMs: 0 });
  readonly #records = new Set<ConnectionRecord>();
  readonly #pods = new Map<string, PodProxy>();
  readonly #env: PodEnvironment;
  readonly #load: Int32Array<SharedArrayBuffer>;
  readonly #housekeeping: Timer;
  /** Connections that began or ended since memory was given back. */
  #churn = 0;
  #turnsSeen = 0;
  #finishing = false;
  #drained = false;

  constructor(options: DataPlaneOptions) {
    this.#port = options.port;
    this.#start = options.start;
    this.#load = new Int32Array(options.start.load);
    this.#log = options.log;
    this.#flushLog = options.flushLog;
    this.#reactor = new Reactor(() => performance.now(), () => this.#takeMessages(), {
      table: new Uint8Array(options.start.ownership),
      owner: ownerNumber(options.start.generation),
    });
    this.#io = createIoContext(this.#reactor);
    this.#mesh = new MeshCache({
      reactor: this.#reactor,
      ask: (key, query) => this.#post({ type: "lookup", key, query }),
      forget: (keys) => this.#post({ type: "forget", keys }),
    });
    this.#env = this.#createEnvironment();
    this.#housekeeping = new Timer({ expired: () => this.#keepHouse() });
    this.#reactor.setTimer(this.#housekeeping, HOUSEKEEPING_MS);
  }

  /** Serves until the process ends. An exception that escapes is a bug; the main thread replaces this worker. */
  run(): void {
    this.#post({ type: "started", wakeFd: this.#reactor.wakeFd });
    this.#reactor.run();
  }

  /** For the log writer: flush at the end of the turn. */
  get reactor(): Reactor {
    return this.#reactor;
  }

  #post(message: FromWorker): void {
    this.#port.post(message);
  }

  #takeMessages(): void {
    for (let taken = this.#port.take(); taken !== undefined; taken = this.#port.take()) {
      this.#handle(taken.message as ToWorker);
    }
  }

  #handle(message: ToWorker): void {
    switch (message.type) {
      case "pod_up":
        this.#pods.get(message.pod.uid)?.close("the pod was replaced");
        this.#pods.set(message.pod.uid, new PodProxy(this.#env, message.pod, message.state, message.tls));
        return;
      case "pod_down":
        this.#pods.get(message.uid)?.close("the pod is gone");
        this.#pods.delete(message.uid);
        return;
      case "pod_state":
        this.#pods.get(message.uid)?.applyState(message.state);
        return;
      case "certificate":
        for (const pod of this.#pods.values()) {
          if (pod.identity === message.identity) pod.applyCertificate(message.tls);
        }
        return;
      case "invalidate":
        return this.#mesh.invalidate(message.keys);
      case "answer":
        return this.#mesh.answer(message.key, message.resources);
      case "epoch":
        return this.#post({ type: "confirmed", epoch: message.epoch });
      case "adopt":
        return this.#adopt(message.uid, message.listener, message.fd);
      case "evict":
        for (const owner of message.owners) this.#env.keeper.traffic.evict(owner);
        return;
      case "report":
        return this.#report(message.id, message.connections);
      case "log":
        return this.#log.adopt(message.directives);
      case "drain":
        for (const pod of this.#pods.values()) pod.drain();
        return;
      case "finish":
        this.#finishing = true;
        this.#reactor.setTimer(this.#housekeeping, DRAIN_CHECK_MS);
        return;
    }
  }

  #createEnvironment(): PodEnvironment {
    const { settings } = this.#start;
    const access: AccessLog = createAccessLog(this.#log);
    const keeper: RecordKeeper = {
      registry: this.#registry,
      traffic: createTrafficMetrics(this.#registry),
      access,
      log: this.#log,
      records: this.#records,
      nowMs: () => performance.now(),
    };
    return {
      io: this.#io,
      settings,
      mesh: this.#mesh,
      keeper,
      access,
      log: this.#log,
      tuning: socketTuning(settings),
      random: Math.random,
      randomHex,
      connectionsChanged: (change) => {
        this.#churn++;
        Atomics.add(this.#load, this.#start.index, change);
      },
      passOn: (uid, listener, fd) => this.#passOn(uid, listener, fd),
    };
  }

  /** EPOLLEXCLUSIVE alone gives a quiet node's connections to one worker; who has clearly more than its share passes new ones on. */
  #passOn(uid: string, listener: ListenerKind, fd: number): boolean {
    const load = this.#load;
    const { index } = this.#start;
    if (load.length === 1) return false;
    let total = 0;
    let least = index;
    for (let i = 0; i < load.length; i++) {
      const count = Atomics.load(load, i);
      total += count;
      if (count < Atomics.load(load, least)) least = i;
    }
    const own = Atomics.load(load, index);
    if (least === index || own <= (total / load.length) * 1.25 + BALANCE_SLACK) return false;
    // On its way it is closed with this worker, then with the other one.
    this.#reactor.own(fd);
    this.#post({ type: "pass", worker: least, uid, listener, fd });
    return true;
  }

  #adopt(uid: string, listener: ListenerKind, fd: number): void {
    const pod = this.#pods.get(uid);
    const peer = pod === undefined ? undefined : peerAddress(fd);
    if (pod === undefined || peer === undefined) this.#reactor.close(fd);
    else pod.serve(listener, fd, peer);
  }

  #report(id: number, withConnections: boolean): void {
    const connections: ConnectionView[] = [];
    for (const record of this.#records) {
      record.flush();
      if (withConnections) connections.push(record.view());
    }
    this.#post({
      type: "report",
      id,
      metrics: this.#registry.snapshot(`worker-${this.#start.generation}`),
      connections,
    });
  }

  #keepHouse(): void {
    this.#io.pool.shrink();
    this.#tidy();
    if (this.#finishing && !this.#drained && !this.#busy()) {
      this.#drained = true;
      this.#report(0, false);
      this.#flushLog();
      this.#post({ type: "drained" });
    }
    this.#reactor.setTimer(this.#housekeeping, this.#finishing && !this.#drained ? DRAIN_CHECK_MS : HOUSEKEEPING_MS);
  }

  /** After a burst, and only when there is nothing to do: its garbage would else stay until the next burst. */
  #tidy(): void {
    const turns = this.#reactor.turns - this.#turnsSeen;
    this.#turnsSeen = this.#reactor.turns;
    if (this.#churn < BURST_CHANGES || turns > QUIET_TURNS) return;
    this.#churn = 0;
    releaseMemory();
    releaseStartupCode();
  }

  #busy(): boolean {
    for (const pod of this.#pods.values()) {
      if (pod.busy) return true;
    }
    return false;
  }
}

/** Random bytes for trace ids, drawn from the system a page at a time. */
const entropy = new Uint8Array(4096);
let entropyUsed = entropy.length;
const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

function randomHex(bytes: number): string {
  if (entropyUsed + bytes > entropy.length) {
    crypto.getRandomValues(entropy);
    entropyUsed = 0;
  }
  let text = "";
  for (let i = 0; i < bytes; i++) text += HEX[entropy[entropyUsed++]];
  return text;
}
