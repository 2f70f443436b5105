/**
 * A data-plane worker: the pods it serves, and its conversation with the main thread. Messages are handled whole and in order, between
 * events, so a connection never sees half of a change; an epoch is confirmed when all of it is in force.
 */
import { peerAddress } from "../platform/socket.ts";
import { ownerNumber } from "../platform/ownership.ts";
import { releaseMemory } from "../platform/process.ts";
import { releaseStartupCode } from "../platform/startup_pages.ts";
import type { ThreadPort } from "../platform/thread.ts";
import { createIoContext, type IoContext } from "../net/io_context.ts";
import { type Deferred, Reactor, Timer } from "../net/reactor.ts";
import { WorkerLoad } from "../net/worker_load.ts";
import { type AccessLog, createAccessLog, type Log, Registry } from "../telemetry/mod.ts";
import { createWorkerMetrics, type WorkerMetrics } from "../telemetry/worker_metrics.ts";
import type { ConnectionRecord, RecordKeeper } from "./connection_record.ts";
import { createWorkerDns, MAX_DNS_NAMES } from "./dns/worker_dns.ts";
import { randomHex } from "./entropy.ts";
import { DNS_KEY, MeshCache } from "./mesh_cache.ts";
import type { FromWorker, ListenerKind, ToWorker, WorkerStart } from "./messages.ts";
import { type PodEnvironment, PodProxy } from "./pod_proxy.ts";
import { WaitingPod } from "./pod_waiting.ts";
import { WorkerLinks } from "./worker_links.ts";
import { RevocationSweep, WorkerRevocations } from "../hbone/revocation_sweep.ts";
import { socketTuning } from "./settings.ts";
import { ConnectionListing } from "./connection_listing.ts";
import { WorkerProfiler } from "./worker_profiler.ts";

/** Idle buffers are given back, and the end of a drain is looked for, this often. */
const HOUSEKEEPING_MS = 1_000;
const DRAIN_CHECK_MS = 50;
/** Connections beginning or ending: fewer leave no garbage worth a collection. */
const BURST_CHANGES = 500;
/** Turns between two looks below which a worker has nothing to do. */
const QUIET_TURNS = 50;
/** Connections above its share that a worker keeps. */
const BALANCE_SLACK = 4;

export interface DataPlaneOptions {
  readonly port: ThreadPort;
  readonly start: WorkerStart;
  readonly log: Log;
  /** Lines the log has dropped so far. */
  readonly droppedLines: () => number;
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
  /** Answers about domain names: whoever asks for ever new ones does not crowd out the destinations of connections. */
  readonly #names: MeshCache;
  readonly #registry = new Registry({ nowMs: () => performance.now(), retainMs: 0 });
  readonly #metrics: WorkerMetrics;
  readonly #droppedLines: () => number;
  #droppedSeen = 0;
  readonly #records = new Set<ConnectionRecord>();
  readonly #pods = new Map<string, PodProxy>();
  /** Pods that cannot be served yet. */
  readonly #waiting = new Map<string, WaitingPod>();
  readonly #links: WorkerLinks;
  readonly #profiler = new WorkerProfiler((answer) => this.#post({ type: "profile", answer }));
  readonly #revocations = new WorkerRevocations();
  readonly #env: PodEnvironment;
  readonly #load: WorkerLoad;
  readonly #housekeeping: Timer;
  /** Connections that began or ended since memory was given back. */
  #churn = 0;
  #started = false;
  #turnsSeen = 0;
  #draining = false;
  #finishing = false;
  #drained = false;

  constructor(options: DataPlaneOptions) {
    this.#port = options.port;
    this.#start = options.start;
    this.#load = new WorkerLoad(options.start.load);
    this.#log = options.log;
    this.#droppedLines = options.droppedLines;
    this.#metrics = createWorkerMetrics(this.#registry, options.log, () => performance.now());
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
      limits: this.#metrics.limits,
    });
    this.#names = new MeshCache({
      reactor: this.#reactor,
      ask: (key, query) => this.#post({ type: "lookup", key, query }),
      forget: (keys) => this.#post({ type: "forget", keys }),
      limits: this.#metrics.limits,
      maxEntries: MAX_DNS_NAMES,
    });
    this.#env = this.#createEnvironment();
    this.#links = new WorkerLinks(this.#reactor, options.start.generation, (event) => {
      this.#post({ type: "link", event });
    });
    this.#housekeeping = new Timer({ expired: () => this.#keepHouse() });
    this.#reactor.setTimer(this.#housekeeping, HOUSEKEEPING_MS);
  }

  /**
   * Serves until the process ends, or until `rest` is due. An exception that escapes is a bug; the main thread replaces this worker.
   */
  run(): void {
    if (!this.#started) this.#post({ type: "started", wakeFd: this.#reactor.wakeFd });
    this.#started = true;
    this.#reactor.run();
  }

  /** What only the runtime's own event loop can do: to begin and end a CPU profile. Then `run` goes on. */
  rest(): Promise<void> {
    return this.#profiler.run();
  }

  /** The worker fails: the lines of its connections, which are closed with it. */
  lastWords(): void {
    for (const record of [...this.#records]) {
      record.end("CONNECT", "connection lost: the part of this proxy that served it failed");
    }
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
      case "pod_wait":
        return this.#podWaits(message);
      case "pod_up":
        return this.#podUp(message);
      case "pod_down":
        this.#waiting.get(message.uid)?.close();
        this.#waiting.delete(message.uid);
        this.#pods.get(message.uid)?.close("the pod is gone");
        this.#pods.delete(message.uid);
        return;
      case "link":
        return this.#links.handle(message.order);
      case "pod_state":
        this.#pods.get(message.uid)?.applyState(message.state);
        return;
      case "certificate":
        for (const pod of this.#pods.values()) {
          if (pod.identity === message.identity) pod.applyCertificate(message.tls);
        }
        return;
      case "revocations":
        return this.#revoke(message.lists);
      case "invalidate":
        this.#mesh.invalidate(message.keys);
        return this.#names.invalidate(message.keys);
      case "answer":
        return (message.key.startsWith(DNS_KEY) ? this.#names : this.#mesh)
          .answer(message.key, message.resources, message.sampled);
      case "epoch":
        return this.#post({ type: "confirmed", epoch: message.epoch });
      case "adopt":
        return this.#adopt(message.uid, message.listener, message.fd);
      case "evict":
        for (const owner of message.owners) this.#env.keeper.traffic.evict(owner);
        return;
      case "report":
        return message.connections ? this.#list(message.id) : this.#report(message.id);
      case "log":
        return this.#log.adopt(message.directives);
      case "profile":
        this.#profiler.order(message.order);
        return this.#reactor.stop();
      case "sweep":
        for (const waiting of this.#waiting.values()) waiting.sweep();
        for (const pod of this.#pods.values()) pod.sweep();
        return;
      case "drain":
        this.#draining = true;
        for (const waiting of this.#waiting.values()) waiting.drain();
        for (const pod of this.#pods.values()) pod.drain();
        return;
      case "cut":
        return this.#cutAll(message.reason);
      case "finish":
        this.#finishing = true;
        this.#reactor.setTimer(this.#housekeeping, DRAIN_CHECK_MS);
        return;
    }
  }

  #revoke(lists: readonly string[]): void {
    this.#revocations.replace(lists);
    const tunnels = [...this.#pods.values()].flatMap((pod) => pod.tunnels());
    if (lists.length === 0 || tunnels.length === 0) return;
    const defer = (work: Deferred) => this.#reactor.defer(work);
    defer(new RevocationSweep(tunnels, { revocations: this.#revocations, metrics: this.#metrics.crl, defer }));
  }

  #cutAll(reason: string): void {
    for (const waiting of this.#waiting.values()) waiting.close();
    for (const pod of this.#pods.values()) pod.close(reason);
    if (!this.#drained) this.#sayDrained();
  }

  #podWaits({ pod, reason }: Extract<ToWorker, { readonly type: "pod_wait" }>): void {
    const known = this.#waiting.get(pod.uid);
    if (known !== undefined) return known.explain(reason);
    const waiting = new WaitingPod(this.#env, pod, reason);
    if (this.#draining) waiting.drain();
    this.#waiting.set(pod.uid, waiting);
  }

  #podUp({ pod, state, tls }: Extract<ToWorker, { readonly type: "pod_up" }>): void {
    this.#pods.get(pod.uid)?.close("the pod was replaced");
    // Its listeners can be watched once only.
    const held = this.#waiting.get(pod.uid)?.end() ?? [];
    this.#waiting.delete(pod.uid);
    const proxy = new PodProxy(this.#env, pod, state, tls);
    this.#pods.set(pod.uid, proxy);
    for (const { kind, fd, peer } of held) proxy.serve(kind, fd, peer);
    if (this.#draining) proxy.drain();
  }

  #createEnvironment(): PodEnvironment {
    const { settings } = this.#start;
    const access: AccessLog = createAccessLog(this.#log);
    const metrics = this.#metrics;
    const keeper: RecordKeeper = {
      registry: this.#registry,
      traffic: metrics.traffic,
      access,
      log: this.#log,
      records: this.#records,
      nowMs: () => performance.now(),
    };
    return {
      io: this.#io,
      settings,
      mesh: this.#mesh,
      names: this.#names,
      ...createWorkerDns({
        io: this.#io,
        settings,
        names: this.#names,
        metrics,
        log: this.#log,
        worked: () => this.#churn++,
      }),
      keeper,
      metrics,
      revocations: this.#revocations,
      access,
      log: this.#log,
      tuning: socketTuning(settings),
      random: Math.random,
      randomHex,
      connectionsChanged: (change) => {
        this.#churn++;
        this.#load.add(this.#start.index, change);
      },
      passOn: (uid, listener, fd) => this.#passOn(uid, listener, fd),
    };
  }

  #passOn(uid: string, listener: ListenerKind, fd: number): boolean {
    const worker = this.#load.receiver(this.#start.index, BALANCE_SLACK);
    if (worker === undefined) return false;
    // On its way it is closed with this worker, then with the other one.
    this.#reactor.own(fd);
    this.#post({ type: "pass", worker, uid, listener, fd });
    return true;
  }

  #adopt(uid: string, listener: ListenerKind, fd: number): void {
    const peer = peerAddress(fd);
    const pod = this.#pods.get(uid);
    const waiting = this.#waiting.get(uid);
    if (peer !== undefined && pod !== undefined) pod.serve(listener, fd, peer);
    else if (peer !== undefined && waiting !== undefined) waiting.hold(listener, fd, peer);
    else this.#reactor.close(fd);
  }

  /** The report comes when all connections have been told. */
  #list(id: number): void {
    const listing = new ConnectionListing(this.#records, {
      listed: (connections, last) => {
        this.#post({ type: "connections", id, connections });
        if (last) this.#report(id);
      },
      defer: (work) => this.#reactor.defer(work),
    });
    this.#reactor.defer(listing);
  }

  #report(id: number): void {
    const dropped = this.#droppedLines();
    this.#metrics.limits.count("log_lines", dropped - this.#droppedSeen);
    this.#droppedSeen = dropped;
    for (const record of this.#records) record.flush();
    this.#post({
      type: "report",
      id,
      metrics: this.#registry.snapshot(`worker-${this.#start.generation}`),
    });
  }

  #keepHouse(): void {
    this.#io.pool.shrink();
    this.#tidy();
    if (this.#finishing && !this.#drained && !this.#busy() && this.#dnsFinished()) this.#sayDrained();
    this.#reactor.setTimer(this.#housekeeping, this.#finishing && !this.#drained ? DRAIN_CHECK_MS : HOUSEKEEPING_MS);
  }

  #sayDrained(): void {
    this.#drained = true;
    this.#report(0);
    this.#flushLog();
    this.#post({ type: "drained" });
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

  #dnsFinished(): boolean {
    return [...this.#pods.values()].map((pod) => pod.finishDns()).every((finished) => finished);
  }

  #busy(): boolean {
    for (const waiting of this.#waiting.values()) {
      if (waiting.held > 0) return true;
    }
    for (const pod of this.#pods.values()) {
      if (pod.busy) return true;
    }
    return false;
  }
}
