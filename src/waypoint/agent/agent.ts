/**
 * The main thread of a waypoint: certificate, configuration, workers and readiness, put together. It knows istiod only by what it is given, so that a
 * test, or `ambit local`, can play its part.
 */
import type { WaypointConfig } from "../../cli/config.ts";
import { formatSpiffeId } from "../../mesh/spiffe.ts";
import type { XdsSink } from "../../control/xds/mod.ts";
import type { Authority } from "../../identity/certificate_store.ts";
import { createCrlMetrics } from "../../telemetry/crl_metrics.ts";
import type { Log } from "../../telemetry/log.ts";
import type { Registry } from "../../telemetry/registry.ts";
import { TYPES, WaypointIntake } from "../config/mod.ts";
import type { TokenQuestion } from "../filters/jwt_questions.ts";
import type { TokenVerdict } from "../filters/jwt_verdict.ts";
import type { DnsAnswer, DnsQuestion } from "../upstream/resolver.ts";
import type { ClusterName } from "../spec/mod.ts";
import type { CollectorCall } from "../worker/collector_calls.ts";
import type { ToWorker, WorkerReport, WorkerSettings } from "../worker/messages.ts";
import { Delivery } from "./delivery.ts";
import { Drain, type DrainEnd } from "./drain.ts";
import { WaypointIdentity } from "./identity.ts";
import { LimitSlots } from "./limit_slots.ts";
import { openTunnelListener, type TunnelListener } from "./listener.ts";
import { type Change, LiveConfig } from "./live_config.ts";
import { describeWaypointNode, type WaypointNode } from "./node.ts";
import { WaypointReadiness } from "./readiness.ts";
import { LocalSecrets } from "./secrets.ts";
import { createWaypointSink } from "./sink.ts";
import { StateRecorder, type WaypointState } from "./state.ts";
import { Workers, type WorkersOptions } from "./workers.ts";

export interface AgentOptions {
  readonly config: WaypointConfig;
  readonly workerEntry: URL;
  readonly authority: Authority;
  readonly log: Log;
  /** Where the metrics of certificates and revocations go. */
  readonly registry?: Registry;
  readonly schedule: (task: () => void, delayMs: number) => () => void;
  /** Looks a name up, for workers that cannot. */
  readonly resolve: (question: DnsQuestion, answered: (answer: DnsAnswer) => void) => void;
  /** Finds out who signed a token. */
  readonly judge: (question: TokenQuestion, answered: (verdict: TokenVerdict) => void) => void;
  /** The names of an xDS type that are wanted from now on. */
  readonly watch: (typeUrl: string, names: ReadonlySet<string>) => void;
  /** It serves, for the first time. */
  readonly ready?: () => void;
  /** What workers count and record. */
  readonly telemetry?: WorkersOptions["telemetry"];
  /** What the workers are told, as they are. */
  readonly applied?: (change: Change) => void;
}

const TARGET = "waypoint";

export class WaypointAgent {
  /** As at the start. */
  readonly node: WaypointNode;
  readonly identity: string;
  readonly readiness: WaypointReadiness;
  /** Where pushes go. */
  readonly sink: XdsSink;
  readonly #options: AgentOptions;
  readonly #listener: TunnelListener;
  readonly #workers: Workers;
  readonly #live: LiveConfig;
  readonly #recorder = new StateRecorder(Date.now);
  readonly #certificates: WaypointIdentity;
  readonly #secrets: LocalSecrets;
  readonly #slots: LimitSlots;
  readonly #delivery: Delivery;
  readonly #drain: Drain;
  readonly #arrived = new Set<"clusters" | "listeners">();
  readonly #startedMs = Date.now();
  #startupMs: number | undefined;

  /** Opens its port and begins to ask for its certificate. @throws Error when the port is taken */
  constructor(options: AgentOptions) {
    const { config, log, schedule } = options;
    this.#options = options;
    this.node = describeWaypointNode(config);
    this.identity = formatSpiffeId({
      trustDomain: config.trustDomain,
      namespace: config.podNamespace,
      serviceAccount: config.serviceAccount,
    });
    this.readiness = new WaypointReadiness(() => {
      this.#startupMs = this.#ageMs();
      log.log("info", TARGET, "ready", { "startup.ms": this.#startupMs });
      options.ready?.();
    });
    this.#live = new LiveConfig({ schedule, released: (change) => void this.#deliver(change) });
    this.#slots = new LimitSlots(config.workers);
    this.#listener = openTunnelListener(config.hbonePort, config.ipv6Enabled);
    this.#workers = new Workers({
      entry: options.workerEntry,
      count: config.workers,
      settings: workerSettings(config, this.identity, this.node),
      directives: () => log.directives,
      replay: () => this.#replay(),
      lost: (worker, error, descriptors) => {
        log.log("error", "worker", "a data-plane worker was lost; its connections are closed and it is replaced", {
          worker,
          descriptors,
          error,
        });
      },
      resolve: options.resolve,
      judge: options.judge,
      telemetry: options.telemetry,
      revocations: options.registry === undefined ? undefined : createCrlMetrics(options.registry),
      schedule,
    });
    this.#delivery = new Delivery({
      workers: this.#workers,
      slots: this.#slots,
      whole: () => !this.readiness.reached,
    });
    this.#secrets = new LocalSecrets({
      log,
      schedule,
      changed: (secrets) => {
        for (const [name, secret] of Object.entries(secrets)) {
          if (secret === null || secret.kind === "system trust") this.#recorder.secretRemoved(name);
          else {
            this.#recorder.secret(name, secret.kind, secret.kind === "certificate" ? secret.chain : secret.roots);
          }
        }
        void this.#admit({ secrets });
      },
    });
    this.#certificates = new WaypointIdentity({
      config,
      id: this.identity,
      authority: options.authority,
      registry: options.registry,
      log,
      schedule,
      issued: (material) => this.#secrets.issued(material),
      revoked: (lists) => this.#secrets.revoked(lists),
      failed: (error) => this.readiness.explain(error),
    });
    this.sink = createWaypointSink({
      intake: new WaypointIntake((text) => log.log("warn", "config", text)),
      live: this.#live,
      recorder: this.#recorder,
      deliver: (change) => this.#deliver(change),
      watch: options.watch,
      wantLocal: (names) => this.#secrets.want(names),
      progress: ({ type, missingFilters }) => {
        if (type === TYPES.clusters) this.#arrived.add("clusters");
        if (type === TYPES.listeners) this.#arrived.add("listeners");
        this.#observe({ missingFilters });
      },
    });
    this.#drain = new Drain({
      ...config,
      announce: () => {
        this.readiness.drain();
        this.#workers.broadcast({ type: "drain" });
      },
      active: () => this.#workers.connections,
      schedule,
    });
    this.#certificates.start();
  }

  /** Of the socket that tunnels come in on. */
  get port(): number {
    return this.#listener.port;
  }

  get state(): WaypointState {
    const { config } = this.#options;
    const { readiness } = this;
    return {
      config,
      node: this.node,
      startedMs: this.#startedMs,
      startupMs: this.#startupMs,
      resources: this.#recorder.resources,
      types: this.#recorder.types,
      secrets: this.#recorder.secrets,
      phase: readiness.draining ? "draining" : readiness.ready ? "live" : "initializing",
      notReady: readiness.reason,
      report: (): Promise<readonly WorkerReport[]> => this.#workers.report(),
      workers: this.#workers.count,
    };
  }

  /** With the pod's labels and annotations as they are now. */
  readonly currentNode = (): WaypointNode => {
    const { config } = this.#options;
    return describeWaypointNode({ ...config, ...config.readPod() });
  };

  /** Brings the metrics that tell the time up to date, for a scrape. */
  observe(): void {
    this.#certificates.observe();
  }

  changeLog(directives: string): void {
    this.#workers.broadcast({ type: "log", directives });
  }

  /** Sends telemetry out through a worker's clusters. Resolves with "" when it was taken, else with why not. */
  async callCollector(call: CollectorCall): Promise<string> {
    return (await this.#workers.call(call)).failure;
  }

  /** Gets what is at an address, through a worker's clusters. @throws Error with why not */
  async get(cluster: ClusterName, uri: string, timeoutMs: number): Promise<Uint8Array> {
    const { host, pathname, search } = new URL(uri);
    const headers = [{ name: "accept", value: "application/json" }];
    const asked = { cluster, path: pathname + search, authority: host, headers, timeoutMs };
    const { failure, body } = await this.#workers.call({ ...asked, kind: "get", body: new Uint8Array(0) });
    if (body === undefined) throw new Error(`${uri}: ${failure}`);
    return body;
  }

  /** GOAWAY to everybody and no readiness any more; the process goes on. */
  announceDrain(): void {
    this.#drain.announce();
  }

  /** The same, and the request to stop that follows ends the process at once. */
  drainBeforeStop(): void {
    this.#drain.announceOnly();
  }

  /** Resolves when the process may end. */
  drain(): Promise<DrainEnd> {
    return this.#drain.run();
  }

  /** Cuts what is left. */
  async close(reason: string): Promise<void> {
    this.#certificates.close();
    this.#secrets.close();
    this.#live.close();
    await this.#workers.cut(reason);
    this.#workers.close();
    this.#listener.close();
  }

  #replay(): readonly ToWorker[] {
    const messages: ToWorker[] = [
      { type: "config", update: { epoch: 0, ...this.#live.snapshot() }, places: this.#slots.all() },
      { type: "listen", fd: this.#listener.fd },
    ];
    if (this.readiness.draining) messages.push({ type: "drain" });
    return messages;
  }

  async #admit(change: Change): Promise<void> {
    const now = this.#live.admit(change);
    if (now !== undefined) await this.#deliver(now);
  }

  async #deliver(change: Change): Promise<void> {
    this.#options.applied?.(change);
    await this.#delivery.deliver(change);
    this.#observe({});
  }

  #observe(facts: { readonly missingFilters?: number }): void {
    this.readiness.observe({
      ...facts,
      certified: this.#secrets.certified,
      arrived: this.#arrived,
      missingEndpoints: this.#live.missingEndpoints.length,
      // Whoever is here has seen every worker confirm.
      serving: true,
    });
  }

  #ageMs(): number {
    return Date.now() - this.#startedMs;
  }
}

/** Booleans, numbers and objects are for istiod; what telemetry tells is text. */
function workerSettings(config: WaypointConfig, identity: string, node: WaypointNode): WorkerSettings {
  const texts = Object.entries(node.metadata).filter((entry): entry is [string, string] =>
    typeof entry[1] === "string"
  );
  return {
    identity,
    hostname: config.podName,
    ownAddresses: config.instanceIps,
    maxConnections: config.maxConnections,
    tls: { tls12: false, pqc: config.compliancePolicy === "pqc" },
    logFormat: config.log.format,
    drainMs: config.drainMs,
    nodeId: node.id,
    node: Object.fromEntries(texts),
    serviceCluster: node.cluster,
  };
}
