/**
 * The main thread of ztunnel: it keeps the mesh, the certificates and the pods, and tells the workers.
 *
 * Every accepted change is an epoch: it is acknowledged to whoever pushed it when all workers have it in force.
 */
import type { CertificateStore } from "../identity/certificate_store.ts";
import { type MeshResources, MeshStore } from "../mesh/mod.ts";
import { closeDescriptor, setResetOnClose } from "../platform/socket.ts";
import type { TlsMaterial } from "../platform/tls_context.ts";
import type { Log } from "../telemetry/log.ts";
import type { ProcessMetrics } from "../telemetry/process_metrics.ts";
import type { Registry } from "../telemetry/registry.ts";
import { MeshService } from "./mesh_service.ts";
import type { ConnectionView, FromWorker, ListenerKind, WorkerSettings } from "./messages.ts";
import type { PodListeners } from "./pod_listeners.ts";
import { type PodInfo, Pods } from "./pods.ts";
import { WorkerGroup } from "./worker_group.ts";

export interface ControlPlaneOptions {
  readonly workerEntry: URL;
  readonly workers: number;
  readonly settings: WorkerSettings;
  readonly nodeName: string | undefined;
  readonly certificates: CertificateStore;
  readonly openListeners: (info: PodInfo) => PodListeners;
  readonly registry: Registry;
  readonly processMetrics: ProcessMetrics;
  readonly log: Log;
  readonly schedule: (task: () => void, delayMs: number) => () => void;
}

/** A scrape does not wait longer for a worker; its counts come with the next one. */
const REPORT_TIMEOUT_MS = 1_000;

interface PendingReport {
  readonly waiting: Set<number>;
  readonly connections: ConnectionView[];
  readonly done: () => void;
}

export class ControlPlane {
  readonly store = new MeshStore();
  readonly pods: Pods;
  readonly #options: ControlPlaneOptions;
  readonly #mesh = new MeshService(this.store);
  readonly #workers: WorkerGroup;
  readonly #reports = new Map<number, PendingReport>();
  #nextReport = 1;
  #drained = new Set<number>();
  #drainDone: (() => void) | undefined;

  constructor(options: ControlPlaneOptions) {
    this.#options = options;
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
      changed: () => options.processMetrics.setProxyCounts(this.pods.active, this.pods.pending),
      log: (level, message, { uid, namespace, name }, error) => {
        options.log.log(level, "inpod", message, {
          pod: `${namespace}/${name}`,
          uid,
          ...(error === undefined ? {} : { error }),
        });
      },
    });
    this.#workers = new WorkerGroup({
      entry: options.workerEntry,
      count: options.workers,
      settings: options.settings,
      directives: () => options.log.directives,
      replay: () => this.pods.replay(),
      received: (worker, message) => this.#received(worker, message),
      lost: (worker, generation, reason, closed) => this.#lost(worker, generation, reason, closed),
      schedule: options.schedule,
    });
    options.processMetrics.setWorkers(options.workers);
  }

  /** Makes the mesh exactly this, and resolves when it is in force everywhere. */
  async applyMesh(resources: MeshResources): Promise<void> {
    const ownersBefore = this.#owners();
    const { tokens } = this.store.replaceAll(resources);
    if (tokens.size === 0) return;
    for (const [worker, keys] of this.#mesh.changed(tokens)) this.#workers.send(worker, { type: "invalidate", keys });
    this.pods.meshChanged();
    const ownersAfter = this.#owners();
    const gone = [...ownersBefore].filter((owner) => !ownersAfter.has(owner));
    if (gone.length > 0) this.#workers.broadcast({ type: "evict", owners: gone });
    await this.#workers.settle();
  }

  certificateChanged(identity: string, material: TlsMaterial): void {
    this.pods.certificateChanged(identity, material);
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
      const cancel = this.#options.schedule(finish, REPORT_TIMEOUT_MS);
      this.#reports.set(id, { waiting, connections, done: finish });
      this.#workers.broadcast({ type: "report", id, connections: withConnections });
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
      this.pods.stopListening((uid, listener, fd) => this.#handOver(0, uid, listener, fd));
      this.#workers.broadcast({ type: "finish" });
      return finished;
    });
    const outcome = await Promise.race([served, deadline]);
    cancel();
    return outcome;
  }

  close(): void {
    this.#workers.close();
    this.pods.closeListeners();
  }

  #received(worker: number, message: FromWorker): void {
    switch (message.type) {
      case "lookup": {
        const resources = this.#mesh.answer(worker, message.key, message.query);
        return this.#workers.send(worker, { type: "answer", key: message.key, resources });
      }
      case "forget":
        return this.#mesh.forget(worker, message.keys);
      case "pass":
        return this.#handOver(message.worker, message.uid, message.listener, message.fd);
      case "report": {
        this.#options.registry.merge(message.metrics);
        const report = this.#reports.get(message.id);
        if (report === undefined) return;
        for (const connection of message.connections) report.connections.push(connection);
        report.waiting.delete(worker);
        if (report.waiting.size === 0) report.done();
        return;
      }
      case "drained":
        return this.#noteDrained(worker);
      case "started":
      case "confirmed":
        return;
    }
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

  #owners(): Set<string> {
    const owners = new Set<string>();
    for (const workload of this.store.resources().workloads) {
      if (workload.workloadName !== "") owners.add(`${workload.namespace}/${workload.workloadName}`);
    }
    return owners;
  }
}
