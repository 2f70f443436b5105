/**
 * A data-plane worker of a waypoint: the configuration it has in force, the tunnels that it serves, and its conversation with the main thread.
 * Messages are handled whole and in order, between events of its sockets: a connection never sees half of a change.
 */
import { randomUUID } from "node:crypto";
import { RevocationSweep, type SweptTunnel, WorkerRevocations } from "../../hbone/revocation_sweep.ts";
import { createIoContext, type IoContext } from "../../net/io_context.ts";
import { type Deferred, Reactor, Timer } from "../../net/reactor.ts";
import { WorkerLoad } from "../../net/worker_load.ts";
import { ownerNumber } from "../../platform/ownership.ts";
import { releaseMemory, shrinkMemory } from "../../platform/process.ts";
import { releaseStartupCode } from "../../platform/startup_pages.ts";
import { peerAddress } from "../../platform/socket.ts";
import type { ThreadPort } from "../../platform/thread.ts";
import type { Log } from "../../telemetry/log.ts";
import type { EngineServices } from "../engine/services.ts";
import { TokenQuestions } from "../filters/jwt_questions.ts";
import type { ConfigUpdate, TextMatch } from "../spec/mod.ts";
import { MESH_ROOTS, splitLists } from "../transport/secrets.ts";
import { TunnelByteStream } from "../transport/tunnel_stream.ts";
import { Chains } from "./chains.ts";
import { CollectorCalls } from "./collector_calls.ts";
import { type ConnectContext, serveConnect } from "./connect.ts";
import { Directory } from "./directory.ts";
import { EarlyComers } from "./early.ts";
import { Entrance } from "./entrance.ts";
import type { WorkerHooks, WorkerInstruments } from "./hooks.ts";
import { LimitBoards } from "./limit_places.ts";
import type { FromWorker, ToWorker, WorkerStart } from "./messages.ts";
import { PartedReport } from "./parted_report.ts";
import { Peers } from "./peers.ts";
import { createUpstreams, type Upstreams } from "./upstreams.ts";

const HOUSEKEEPING_MS = 1_000;
/** Before the configuration says: any name of the mesh. The same list each time, since it is compiled once. */
const NOBODY: readonly TextMatch[] = [];
const TARGET = "waypoint";
/** Turns between two looks below which a worker has nothing to do. */
const QUIET_TURNS = 50;
const SETTLED_MS = 3_000;

export interface DataPlaneOptions {
  readonly port: ThreadPort;
  readonly start: WorkerStart;
  readonly log: Log;
  /** Telemetry, made for this worker's reactor. */
  readonly instruments: (io: IoContext, upstreams: Upstreams, peers: Peers) => WorkerInstruments;
  readonly flushLog: () => void;
}

export class DataPlane {
  readonly reactor: Reactor;
  readonly #options: DataPlaneOptions;
  readonly #io: IoContext;
  readonly #entrance: Entrance;
  readonly #boards: LimitBoards;
  readonly #upstreams: Upstreams;
  readonly #tokens: TokenQuestions;
  readonly #hooks: WorkerHooks;
  readonly #calls: CollectorCalls;
  readonly #chains: Chains;
  readonly #peers = new Peers();
  readonly #revocations = new WorkerRevocations();
  #crl = "";
  readonly #context: ConnectContext;
  readonly #housekeeping: Timer;
  readonly #directory: Directory;
  #draining = false;
  #started = false;
  #turnsSeen = 0;
  #busySinceTidy = true;

  constructor(options: DataPlaneOptions) {
    const { start, log } = options;
    this.#options = options;
    const load = new WorkerLoad(start.load);
    this.reactor = new Reactor(() => performance.now(), () => this.#takeMessages(), {
      table: new Uint8Array(start.ownership),
      owner: ownerNumber(start.generation),
    });
    this.#io = createIoContext(this.reactor);
    this.#boards = new LimitBoards(start.index, load.workers);
    this.#upstreams = createUpstreams({
      io: this.#io,
      settings: start.settings,
      tunnelPeers: () => this.#entrance.spec?.peerNames ?? NOBODY,
      boards: (cluster) => this.#boards.of(cluster),
      resolve: (question) => this.#post({ type: "resolve", question }),
      revocations: this.#revocations,
      tunnelRefused: ({ stage }) => {
        if (stage === "revoked") this.#post({ type: "revocation", event: "rejected", reporter: "source" });
      },
    });
    this.#tokens = new TokenQuestions(
      (question) => this.#post({ type: "judge", question }),
      (work) => this.reactor.defer({ deferred: false, flush: work }),
      () => this.reactor.nowMs,
    );
    this.#calls = new CollectorCalls(
      this.#upstreams,
      this.reactor,
      (id, outcome) => this.#post({ type: "called", id, outcome }),
    );
    const instruments = options.instruments(this.#io, this.#upstreams, this.#peers);
    this.#hooks = instruments.hooks;
    const services = this.#services(instruments);
    this.#chains = new Chains({
      services,
      timing: this.reactor,
      drainMs: start.settings.drainMs,
      filters: {
        timing: this.reactor,
        clusters: this.#upstreams,
        wallMs: Date.now,
        random: Math.random,
        rbacCounters: instruments.rbac,
        tokens: (spec) => this.#tokens.verifier(spec),
      },
      firstFilter: (spec) => instruments.filter(spec),
      refused: (chain, error) => log.log("error", TARGET, "a chain cannot be served; it is refused", { chain, error }),
    });
    this.#directory = new Directory({
      timing: this.reactor,
      log,
      isDeparted: (chain) => this.#chains.isDeparted(chain),
    });
    this.#context = {
      services,
      pool: this.#io.pool,
      chains: this.#chains,
      early: new EarlyComers(this.reactor),
      peers: this.#peers,
      hooks: this.#hooks,
      localPrincipal: start.settings.identity,
      ownAddresses: new Set(start.settings.ownAddresses),
      directory: this.#directory,
      terminate: () => this.#entrance.spec,
      openStream: (connection, stream, ended) =>
        new TunnelByteStream(this.reactor, this.#io.pool, connection, stream, ended),
      refused: (connection, { current }, { status, detail: reason }) => {
        if (current.kind !== "http") return;
        const chain = current.http.spec;
        this.#hooks.messageRefused({ connection, chain, status, reason, startedAtWallMs: Date.now() });
      },
    };
    this.#entrance = new Entrance({
      io: this.#io,
      log,
      tls: start.settings.tls,
      revocations: this.#revocations,
      maxConnections: start.settings.maxConnections ?? Infinity,
      revoked: () => this.#post({ type: "revocation", event: "rejected", reporter: "destination" }),
      index: start.index,
      load,
      request: (tunnel, stream, fields, ended) => {
        this.#busySinceTidy = true;
        serveConnect(this.#context, tunnel, stream, fields, ended);
      },
      pass: (worker, fd) => this.#post({ type: "pass", worker, fd }),
    });
    this.#housekeeping = new Timer({ expired: () => this.#keepHouse() });
    this.reactor.setTimer(this.#housekeeping, HOUSEKEEPING_MS);
  }

  /** Serves until the process ends, or the reactor is stopped for a while. An exception that escapes is a bug; the main thread replaces this worker. */
  run(): void {
    if (!this.#started) this.#post({ type: "started", wakeFd: this.reactor.wakeFd });
    this.#started = true;
    this.reactor.run();
  }

  #services({ formats, hooks }: WorkerInstruments): EngineServices {
    return {
      timing: this.reactor,
      clusters: this.#upstreams,
      formats,
      random: Math.random,
      uuid: randomUUID,
      wallMs: Date.now,
      finished: hooks.requestFinished,
    };
  }

  #post(message: FromWorker): void {
    this.#options.port.post(message);
  }

  #takeMessages(): void {
    const { port } = this.#options;
    for (let taken = port.take(); taken !== undefined; taken = port.take()) this.#handle(taken.message as ToWorker);
  }

  #handle(message: ToWorker): void {
    switch (message.type) {
      case "listen":
        return this.#entrance.listen(message.fd);
      case "config":
        if (message.places !== undefined) this.#boards.apply(message.places);
        this.#configure(message.update);
        this.#boards.forget(message.update.removedClusters ?? []);
        return this.#post({ type: "confirmed", epoch: message.update.epoch });
      case "epoch":
        return this.#post({ type: "confirmed", epoch: message.epoch });
      case "resolved":
        return this.#upstreams.resolved(message.id, message.answer);
      case "judged":
        return this.#tokens.received(message.id, message.verdict);
      case "call":
        return this.#calls.start(message.id, message.call);
      case "adopt": {
        const peer = peerAddress(message.fd);
        if (peer === undefined) this.reactor.close(message.fd);
        else this.#entrance.accept(message.fd, peer);
        return;
      }
      case "log":
        return this.#options.log.adopt(message.directives);
      case "report":
        return this.#report(message.id);
      case "drain":
        return this.#drain();
      case "cut":
        return this.#cut(message.reason);
    }
  }

  // ---- configuration

  #configure(update: ConfigUpdate): void {
    const revoked = this.#takeRevocations(update);
    if (update.secrets !== undefined) this.#entrance.applySecrets(update.secrets);
    this.#upstreams.apply(update);
    if (revoked) this.#sweep();
    if (update.workloads !== undefined || update.removedWorkloads !== undefined) {
      this.#peers.apply(update.workloads ?? [], update.removedWorkloads ?? []);
    }
    const { chains = [], removedChains = [], terminate } = update;
    this.#chains.apply(chains, removedChains);
    if (chains.length > 0 || removedChains.length > 0 || terminate !== undefined) {
      this.#hooks.configured(chains, removedChains, terminate);
    }
    this.#directory.apply(update);
    if (terminate !== undefined) this.#entrance.configure(terminate);
    this.#context.early.retry();
    this.#busySinceTidy = true;
  }

  /** The lists that come with the mesh's roots; true when they are others than before. */
  #takeRevocations({ secrets }: ConfigUpdate): boolean {
    const roots = secrets?.[MESH_ROOTS];
    if (roots?.kind !== "trust" || (roots.crl ?? "") === this.#crl) return false;
    this.#crl = roots.crl ?? "";
    this.#revocations.replace(splitLists(this.#crl));
    return true;
  }

  /** Ends the tunnels of peers that are revoked by now, a slice a turn. */
  #sweep(): void {
    if (this.#revocations.current === undefined) return;
    const { log } = this.#options;
    const outbound = this.#upstreams.dialer.tunnels.connections().map((connection): SweptTunnel => ({
      connection,
      reporter: "source",
      ended: (error) =>
        log.log("warn", TARGET, "a tunnel to an endpoint was ended: its certificate is revoked", { error }),
    }));
    const tell = (event: "rejected" | "untracked") => (reporter: "source" | "destination") =>
      this.#post({ type: "revocation", event, reporter });
    const defer = (work: Deferred) => this.reactor.defer(work);
    defer(
      new RevocationSweep([...this.#entrance.swept(), ...outbound], {
        revocations: this.#revocations,
        metrics: { rejected: tell("rejected"), untracked: tell("untracked") },
        defer,
      }),
    );
  }

  // ---- its end

  #drain(): void {
    if (this.#draining) return;
    this.#draining = true;
    this.#entrance.drain();
    this.#chains.drain();
  }

  #cut(reason: string): void {
    this.#entrance.close(reason);
    this.#upstreams.close(reason);
    this.#hooks.flush();
    this.#options.flushLog();
    this.#post({ type: "ended" });
  }

  #report(id: number): void {
    const report = new PartedReport({
      id,
      counts: {
        connections: this.#entrance.tunnels,
        streams: this.#chains.sessions,
        refusedChains: this.#chains.refusals,
      },
      telemetry: this.#hooks.report(),
      reactor: this.reactor,
      post: (message) => this.#post(message),
    });
    report.flush();
  }

  #keepHouse(): void {
    this.#io.pool.shrink();
    this.#entrance.observe();
    const turns = this.reactor.turns - this.#turnsSeen;
    this.#turnsSeen = this.reactor.turns;
    if (this.#busySinceTidy && turns <= QUIET_TURNS && this.reactor.nowMs > SETTLED_MS) {
      this.#busySinceTidy = false;
      // Compiled code is worth its memory to connections only.
      if (this.#entrance.tunnels === 0) shrinkMemory();
      else releaseMemory();
      releaseStartupCode();
    }
    this.reactor.setTimer(this.#housekeeping, HOUSEKEEPING_MS);
  }
}
