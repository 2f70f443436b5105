/**
 * The main thread of a waypoint: certificate, configuration, workers and readiness, put together. It knows istiod only by what it is given, so that a
 * test, or `ambit local`, can play its part.
 */
import type { WaypointConfig } from "../../cli/config.ts";
import { formatSpiffeId } from "../../mesh/spiffe.ts";
import type { XdsSink } from "../../control/xds/mod.ts";
import { type Authority, CertificateStore } from "../../identity/certificate_store.ts";
import type { Log } from "../../telemetry/log.ts";
import { TYPES, WaypointIntake } from "../config/mod.ts";
import type { TokenQuestion } from "../filters/jwt_questions.ts";
import type { TokenVerdict } from "../filters/jwt_verdict.ts";
import type { DnsAnswer, DnsQuestion } from "../upstream/resolver.ts";
import type { ToWorker, WorkerReport, WorkerSettings } from "../worker/messages.ts";
import { Drain, type DrainEnd } from "./drain.ts";
import { LimitSlots } from "./limit_slots.ts";
import { openTunnelListener, type TunnelListener } from "./listener.ts";
import { type Change, LiveConfig } from "./live_config.ts";
import { describeWaypointNode, type WaypointNode } from "./node.ts";
import { WaypointReadiness } from "./readiness.ts";
import { LocalSecrets } from "./secrets.ts";
import { createWaypointSink } from "./sink.ts";
import { StateRecorder, type WaypointState } from "./state.ts";
import { Workers } from "./workers.ts";

export interface AgentOptions {
  readonly config: WaypointConfig;
  readonly workerEntry: URL;
  readonly authority: Authority;
  readonly log: Log;
  readonly schedule: (task: () => void, delayMs: number) => () => void;
  /** Looks a name up, for workers that cannot. */
  readonly resolve: (question: DnsQuestion, answered: (answer: DnsAnswer) => void) => void;
  /** Finds out who signed a token. */
  readonly judge: (question: TokenQuestion, answered: (verdict: TokenVerdict) => void) => void;
  /** The names of an xDS type that are wanted from now on. */
  readonly watch: (typeUrl: string, names: ReadonlySet<string>) => void;
}

const TARGET = "waypoint";

export class WaypointAgent {
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
  readonly #certificates: CertificateStore;
  readonly #secrets: LocalSecrets;
  readonly #slots: LimitSlots;
  readonly #drain: Drain;
  readonly #arrived = new Set<"clusters" | "listeners">();
  readonly #startedMs = Date.now();

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
    this.readiness = new WaypointReadiness(() => log.log("info", TARGET, "ready", { "startup.ms": this.#ageMs() }));
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
      schedule,
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
    this.#certificates = new CertificateStore({
      authority: options.authority,
      nowMs: Date.now,
      schedule,
      random: Math.random,
      changed: (_, material) => this.#secrets.issued(material),
      failed: (identity, error, retryMs) => {
        this.readiness.explain(error);
        log.log("warn", "identity", error, { identity, "retry.ms": Math.round(retryMs) });
      },
      warned: (identity, warning) => log.log("warn", "identity", warning, { identity }),
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
    this.#certificates.prefetch(this.identity);
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
      resources: this.#recorder.resources,
      types: this.#recorder.types,
      secrets: this.#recorder.secrets,
      phase: readiness.draining ? "draining" : readiness.ready ? "live" : "initializing",
      notReady: readiness.reason,
      report: (): Promise<readonly WorkerReport[]> => this.#workers.report(),
      workers: this.#workers.count,
    };
  }

  changeLog(directives: string): void {
    this.#workers.broadcast({ type: "log", directives });
  }

  /** GOAWAY to everybody and no readiness any more; the process goes on. */
  announceDrain(): void {
    this.#drain.announce();
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
    const epoch = this.#workers.nextEpoch();
    const places = this.#slots.take((change.clusters ?? []).map(({ name }) => name));
    this.#slots.release(change.removedClusters ?? []);
    this.#workers.broadcast({ type: "config", update: { epoch, ...change }, places });
    await this.#workers.confirmed(epoch);
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
    ownAddresses: config.instanceIp.split(",").map((ip) => ip.trim()).filter((ip) => ip !== ""),
    tls: { tls12: false, pqc: config.compliancePolicy === "pqc" },
    logFormat: config.log.format,
    drainMs: config.drainMs,
    node: Object.fromEntries(texts),
    serviceCluster: config.serviceCluster,
  };
}
