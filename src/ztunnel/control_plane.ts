/**
 * The main thread of ztunnel: it keeps the mesh, the certificates and the pods, and tells the workers.
 *
 * Every accepted change is an epoch: it is acknowledged to whoever pushed it when all workers have it in force.
 */
import type { CertificateStore } from "../identity/certificate_store.ts";
import { type MeshChange, type MeshResources, MeshStore } from "../mesh/mod.ts";
import { closeDescriptor, setResetOnClose } from "../platform/socket.ts";
import type { TlsMaterial } from "../platform/tls_context.ts";
import type { Limits } from "../telemetry/limits.ts";
import type { Log } from "../telemetry/log.ts";
import type { ProcessMetrics } from "../telemetry/process_metrics.ts";
import type { Registry } from "../telemetry/registry.ts";
import { takeCpuProfile, type WorkerProfile } from "./cpu_profile.ts";
import { MeshService } from "./mesh_service.ts";
import { MeshUpdates, withStatic } from "./mesh_updates.ts";
import type { ConnectionView, FromWorker, ListenerKind, WorkerSettings } from "./messages.ts";
import type { OnDemandMesh } from "./on_demand.ts";
import type { PodListeners } from "./pod_listeners.ts";
import { type PodInfo, Pods } from "./pods.ts";
import { Links } from "./links.ts";
import { WorkerGroup } from "./worker_group.ts";

export interface ControlPlaneOptions {
  readonly workerEntry: URL;
  readonly workers: number;
  /** So many are started at once, the others by `startAllWorkers`. Default: all. */
  readonly workersAtFirst?: number;
  readonly settings: WorkerSettings;
  readonly nodeName: string | undefined;
  readonly certificates: CertificateStore;
  /** Fetch certificates of this node's workloads before their pods are announced. A dedicated proxy may have its own alone. Default true. */
  readonly prefetchCertificates?: boolean;
  readonly openListeners: (info: PodInfo) => Promise<PodListeners>;
  /** Pods became pending, or are not any more. */
  readonly podsChanged?: () => void;
  readonly registry: Registry;
  readonly processMetrics: ProcessMetrics;
  readonly limits?: Limits;
  readonly log: Log;
  readonly schedule: (task: () => void, delayMs: number) => () => void;
}

/** A worker that hangs while nothing changes is found, and replaced, by this. */
const HEARTBEAT_MS = 10_000;
/** A worker cuts its connections and writes their log lines within a turn; more are not waited for. */
const LAST_LINES_MS = 500;
/** A scrape does not wait longer for a worker; its counts come with the next one. */
const REPORT_TIMEOUT_MS = 1_000;
/** To put a profile of five minutes together takes a worker less. */
const PROFILE_TIMEOUT_MS = 10_000;

interface PendingReport {
  readonly waiting: Set<number>;
  readonly connections: ConnectionView[];
  readonly done: () => void;
}

export class ControlPlane {
  readonly store: MeshStore;
  readonly pods: Pods;
  /** Conversations over sockets that only a reactor can watch. */
  readonly links: Links;
  /** Fetches what a question is about; undefined: all there is has been sent unasked. */
  onDemand: OnDemandMesh | undefined;
  /** Whether another process has the sockets of a pod, and serves what is left in their queues. */
  inherited: (uid: string) => boolean = () => false;
  readonly #options: ControlPlaneOptions;
  readonly #mesh: MeshService;
  readonly #updates: MeshUpdates;
  #staticConfig: MeshResources | undefined;
  #revocations: readonly string[] = [];
  readonly #workers: WorkerGroup;
  readonly #reports = new Map<number, PendingReport>();
  #nextReport = 1;
  #drained = new Set<number>();
  #drainDone: (() => void) | undefined;
  #profiled: ((worker: number, answer: WorkerProfile) => void) | undefined;
  #cancelBeat: () => void = () => {};

  constructor(options: ControlPlaneOptions) {
    this.#options = options;
    const { nodeName, certificates, prefetchCertificates = true } = options;
    this.store = new MeshStore(nodeName);
    this.#mesh = new MeshService(this.store, nodeName === undefined ? undefined : { nodeName, random: Math.random });
    this.#updates = new MeshUpdates({
      store: this.store,
      service: this.#mesh,
      nodeName,
      send: (worker, message) => this.#workers.send(worker, message),
      broadcast: (message) => this.#workers.broadcast(message),
      podsConcerned: (concerned) => this.pods.meshChanged(concerned),
      identityNeeded: (identity) => prefetchCertificates && certificates.prefetch(identity),
      identityUnused: (identity) => prefetchCertificates && certificates.forget(identity),
    });
    this.pods = new Pods({
      store: this.store,
      nodeName: options.nodeName,
      openListeners: options.openListeners,
      acquireCertificate: (identity) => options.certificates.acquire(identity),
      releaseCertificate: (identity) => options.certificates.release(identity),
      broadcast: (message) => this.#workers.broadcast(message),
      settle: () => this.#workers.settle(),
      schedule: options.schedule,
      started: () => options.processMetrics.proxyStarted(),
      stopped: () => options.processMetrics.proxyStopped(),
      changed: () => {
        options.processMetrics.setProxyCounts(this.pods.active, this.pods.pending);
        options.podsChanged?.();
      },
      log: (level, message, { uid, namespace, name }, error) => {
        options.log.log(level, "inpod", message, {
          pod: `${namespace}/${name}`,
          uid,
          ...(error === undefined ? {} : { error }),
        });
      },
    });
    this.links = new Links({
      first: () => this.#workers?.first(),
      send: (worker, order) => this.#workers.send(worker, { type: "link", order }),
      closeDescriptor,
    });
    this.#workers = new WorkerGroup({
      entry: options.workerEntry,
      count: options.workers,
      atFirst: options.workersAtFirst,
      settings: options.settings,
      directives: () => options.log.directives,
      // The lists come first: no pod is served without them.
      replay: () => [{ type: "revocations", lists: this.#revocations }, ...this.pods.replay()],
      received: (worker, message) => this.#received(worker, message),
      lost: (worker, generation, reason, closed) => this.#lost(worker, generation, reason, closed),
      started: () => this.links.retry(),
      schedule: options.schedule,
    });
    this.#beat();
    options.processMetrics.setWorkers(options.workers);
  }

  /** Makes the mesh exactly this, and resolves when it is in force everywhere. */
  async applyMesh(resources: MeshResources): Promise<void> {
    this.#updates.replaceAll(withStatic(resources, this.#staticConfig));
    if (this.#updates.flush()) await this.#workers.settle();
  }

  /** Begins the mesh with what a local file says (LOCAL_XDS); istiod's own resources come on top. */
  loadStatic(resources: MeshResources): void {
    this.#staticConfig = resources;
    this.apply({ upsert: resources });
    this.flush();
  }

  /** What a local file adds to the mesh. */
  get staticConfig(): MeshResources | undefined {
    return this.#staticConfig;
  }

  /** Takes a part of a push into the mesh (xds/intake). `flush` tells whom it concerns, in the same turn. */
  apply(change: MeshChange): void {
    this.#updates.apply(change);
  }

  flush(): void {
    this.#updates.flush();
  }

  /** Answers what workers have asked by now. */
  attend(): void {
    this.#workers.take();
  }

  /** Resolves when all that was flushed is in force in every worker. */
  settle(): Promise<void> {
    return this.#workers.settle();
  }

  /** Certificate revocation lists in PEM, one a text, for new handshakes and live tunnels. */
  revocationsChanged(lists: readonly string[]): void {
    this.#revocations = lists;
    this.#workers.broadcast({ type: "revocations", lists });
  }

  certificateChanged(identity: string, material: TlsMaterial): void {
    this.pods.certificateChanged(identity, material);
  }

  /** Starts those that wait for it; they begin with everything that is in force. Nothing in a drain. */
  startAllWorkers(): void {
    if (this.#drainDone === undefined) this.#workers.startRest();
  }

  /** Has the workers' counts merged into the registry, and lists open connections if asked to. */
  report(withConnections: boolean): Promise<readonly ConnectionView[]> {
    const id = this.#nextReport++;
    const connections: ConnectionView[] = [];
    return new Promise((resolve) => {
      const waiting = new Set(Array.from({ length: this.#workers.count }, (_, index) => index));
      const finish = () => {
        cancel();
        this.#reports.delete(id);
        resolve(connections);
      };
      const cancel = this.#options.schedule(() => {
        this.#options.limits?.reached("worker_report", { workers: [...waiting].join(", ") });
        finish();
      }, REPORT_TIMEOUT_MS);
      this.#reports.set(id, { waiting, connections, done: finish });
      this.#workers.broadcast({ type: "report", id, connections: withConnections });
    });
  }

  /** Another process that accepted at the same sockets has ended. */
  sweep(): void {
    this.#workers.broadcast({ type: "sweep" });
  }

  /** A CPU profile of every thread as pprof, not compressed. One at a time. */
  async profile(seconds: number, frequencyHz: number): Promise<Uint8Array> {
    const answers = new Map<number, WorkerProfile>();
    const { schedule } = this.#options;
    return await takeCpuProfile({
      seconds,
      frequencyHz,
      startWorkers: (intervalUs) => this.#workers.broadcast({ type: "profile", order: { do: "start", intervalUs } }),
      stopWorkers: () =>
        new Promise((resolve) => {
          const finish = () => {
            cancel();
            this.#profiled = undefined;
            resolve(answers);
          };
          const cancel = schedule(finish, PROFILE_TIMEOUT_MS);
          this.#profiled = (worker, answer) => {
            answers.set(worker, answer);
            if (answers.size === this.#workers.count) finish();
          };
          this.#workers.broadcast({ type: "profile", order: { do: "stop" } });
        }),
      schedule,
      nowMs: Date.now,
    });
  }

  changeLog(directives: string): void {
    this.#workers.broadcast({ type: "log", directives });
  }

  /** Stops accepting, lets connections finish, and resolves when none is left or the deadline has come. */
  async drain(deadlineMs: number): Promise<"finished" | "deadline"> {
    const finished = new Promise<"finished">((resolve) => {
      this.#drainDone = () => resolve("finished");
    });
    let cancel = () => {};
    const deadline = new Promise<"deadline">((resolve) => {
      cancel = this.#options.schedule(() => resolve("deadline"), deadlineMs);
    });
    this.#workers.broadcast({ type: "drain" });
    // The workers stop watching first: a connection that is in the queue by then has been accepted and is served.
    const served = this.#workers.settle().then(() => {
      this.pods.stopListening((uid, listener, fd) => this.#handOver(0, uid, listener, fd), this.inherited);
      this.#workers.broadcast({ type: "finish" });
      return finished;
    });
    const outcome = await Promise.race([served, deadline]);
    cancel();
    if (outcome === "deadline") {
      this.#workers.broadcast({ type: "cut", reason: "connection closed due to connection drain" });
      const enough = new Promise<void>((resolve) => {
        cancel = this.#options.schedule(resolve, LAST_LINES_MS);
      });
      await Promise.race([finished, enough]);
      cancel();
    }
    return outcome;
  }

  close(): void {
    this.#cancelBeat();
    this.#workers.close();
    this.pods.closeListeners();
  }

  /** Each worker confirms, or is replaced. */
  #beat(): void {
    this.#cancelBeat = this.#options.schedule(() => {
      void this.#workers.settle().then(() => this.#beat());
    }, HEARTBEAT_MS);
  }

  #received(worker: number, message: FromWorker): void {
    switch (message.type) {
      case "link":
        if (message.event.event === "message") { for (const fd of message.event.fds) this.#workers.claim(fd); }
        return this.links.received(worker, message.event);
      case "lookup": {
        const wait = this.onDemand?.complete(message.query);
        if (wait === undefined) return this.#answer(worker, message);
        const generation = this.#workers.generation(worker);
        return void wait.then((complete) => {
          if (complete && this.#workers.generation(worker) === generation) this.#answer(worker, message);
        });
      }
      case "forget":
        return this.#mesh.forget(worker, message.keys);
      case "pass":
        return this.#handOver(message.worker, message.uid, message.listener, message.fd);
      case "report": {
        this.#options.registry.merge(message.metrics);
        const report = this.#reports.get(message.id);
        if (report === undefined) return;
        report.waiting.delete(worker);
        if (report.waiting.size === 0) report.done();
        return;
      }
      case "connections":
        for (const connection of message.connections) this.#reports.get(message.id)?.connections.push(connection);
        return;
      case "profile":
        return this.#profiled?.(worker, message.answer);
      case "drained":
        return this.#noteDrained(worker);
      case "started":
      case "confirmed":
        return;
    }
  }

  #answer(worker: number, { key, query }: Extract<FromWorker, { readonly type: "lookup" }>): void {
    const { resources, sampled = false } = this.#mesh.answer(worker, key, query);
    this.#workers.send(worker, { type: "answer", key, resources, sampled });
  }

  /** A connection for a worker that is just being replaced is refused: nobody would serve or close it. */
  #handOver(worker: number, uid: string, listener: ListenerKind, fd: number): void {
    if (this.#workers.handOver(worker, { type: "adopt", uid, listener, fd })) return;
    setResetOnClose(fd);
    closeDescriptor(fd);
  }

  #noteDrained(worker: number): void {
    this.#drained.add(worker);
    if (this.#drained.size === this.#workers.count) this.#drainDone?.();
  }

  #lost(worker: number, generation: number, reason: string, closed: number): void {
    this.#mesh.forgetWorker(worker);
    this.links.lost(worker);
    // In a drain its connections are gone, and none comes to the one that replaces it.
    if (this.#drainDone !== undefined) this.#noteDrained(worker);
    this.#options.registry.forget(`worker-${generation}`);
    this.#options.processMetrics.workerRestarted();
    this.#options.log.log(
      "error",
      "worker",
      "a data-plane worker was lost; its connections are closed and it is replaced",
      {
        worker,
        descriptors: closed,
        error: reason,
      },
    );
  }
}
