/**
 * A data-plane worker of a waypoint: the configuration it has in force, the tunnels that it serves, and its conversation with the main thread.
 * Messages are handled whole and in order, between events of its sockets: a connection never sees half of a change.
 */
import { randomUUID } from "node:crypto";
import process from "node:process";
import { createIoContext, type IoContext } from "../../net/io_context.ts";
import { Reactor, Timer } from "../../net/reactor.ts";
import { ownerNumber } from "../../platform/ownership.ts";
import { releaseMemory, releaseStartupCode } from "../../platform/process.ts";
import { peerAddress } from "../../platform/socket.ts";
import type { ThreadPort } from "../../platform/thread.ts";
import type { Log } from "../../telemetry/log.ts";
import { Selection } from "../engine/selection.ts";
import type { EngineServices } from "../engine/services.ts";
import { TokenQuestions } from "../filters/jwt_questions.ts";
import type { ConfigUpdate, SelectionSpec, TextMatch } from "../spec/mod.ts";
import { TunnelByteStream } from "../transport/tunnel_stream.ts";
import { Chains } from "./chains.ts";
import { type ConnectContext, serveConnect } from "./connect.ts";
import { Entrance } from "./entrance.ts";
import type { WorkerHooks } from "./hooks.ts";
import { LimitBoards } from "./limit_places.ts";
import type { FromWorker, ToWorker, WorkerStart } from "./messages.ts";
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
  readonly hooks: (io: IoContext, upstreams: Upstreams) => WorkerHooks;
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
  readonly #chains: Chains;
  readonly #peers = new Peers();
  readonly #context: ConnectContext;
  readonly #housekeeping: Timer;
  #selection: Selection | undefined;
  #draining = false;
  #started = false;
  #turnsSeen = 0;
  #busySinceTidy = true;

  constructor(options: DataPlaneOptions) {
    const { start, log } = options;
    this.#options = options;
    const load = new Int32Array(start.load);
    this.reactor = new Reactor(() => performance.now(), () => this.#takeMessages(), {
      table: new Uint8Array(start.ownership),
      owner: ownerNumber(start.generation),
    });
    this.#io = createIoContext(this.reactor);
    this.#boards = new LimitBoards(start.index, load.length);
    this.#upstreams = createUpstreams({
      io: this.#io,
      settings: start.settings,
      tunnelPeers: () => this.#entrance.spec?.peerNames ?? NOBODY,
      boards: (cluster) => this.#boards.of(cluster),
      resolve: (question) => this.#post({ type: "resolve", question }),
    });
    this.#tokens = new TokenQuestions(
      (question) => this.#post({ type: "judge", question }),
      (work) => this.reactor.defer({ deferred: false, flush: work }),
      () => this.reactor.nowMs,
    );
    this.#hooks = options.hooks(this.#io, this.#upstreams);
    const services = this.#services();
    this.#chains = new Chains({
      services,
      timing: this.reactor,
      drainMs: start.settings.drainMs,
      filters: {
        timing: this.reactor,
        clusters: this.#upstreams,
        wallMs: Date.now,
        random: Math.random,
        rbacCounters: NO_COUNTERS,
        tokens: (spec) => this.#tokens.verifier(spec),
      },
      refused: (chain, error) => log.log("error", TARGET, "a chain cannot be served; it is refused", { chain, error }),
    });
    this.#context = {
      services,
      pool: this.#io.pool,
      chains: this.#chains,
      peers: this.#peers,
      hooks: this.#hooks,
      localPrincipal: start.settings.identity,
      ownAddresses: new Set(start.settings.ownAddresses),
      selection: () => this.#selection,
      terminate: () => this.#entrance.spec,
      openStream: (connection, stream, ended) =>
        new TunnelByteStream(this.reactor, this.#io.pool, connection, stream, ended),
      refused: (info, chain, fault) =>
        log.log("info", TARGET, "a message that is no HTTP request was refused", {
          chain: chain.name,
          "src.addr": info.source.ip,
          status: fault.status,
          error: fault.detail,
        }),
    };
    this.#entrance = new Entrance({
      io: this.#io,
      log,
      tls: start.settings.tls,
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

  /** Serves until the process ends. An exception that escapes is a bug; the main thread replaces this worker. */
  run(): void {
    if (!this.#started) this.#post({ type: "started", wakeFd: this.reactor.wakeFd });
    this.#started = true;
    this.reactor.run();
  }

  #services(): EngineServices {
    const { start } = this.#options;
    return {
      timing: this.reactor,
      clusters: this.#upstreams,
      formats: { hostname: start.settings.hostname, env: (name) => process.env[name], cel: () => undefined },
      random: Math.random,
      uuid: randomUUID,
      wallMs: Date.now,
      finished: (context) => this.#hooks.requestFinished(context),
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
    if (update.secrets !== undefined) this.#entrance.applySecrets(update.secrets);
    this.#upstreams.apply(update);
    if (update.workloads !== undefined || update.removedWorkloads !== undefined) {
      this.#peers.apply(update.workloads ?? [], update.removedWorkloads ?? []);
    }
    const { chains = [], removedChains = [], terminate } = update;
    this.#chains.apply(chains, removedChains);
    if (chains.length > 0 || removedChains.length > 0 || terminate !== undefined) {
      this.#hooks.configured(chains, removedChains, terminate);
    }
    if (update.selection !== undefined) this.#applySelection(update.selection);
    if (terminate !== undefined) this.#entrance.configure(terminate);
    this.#busySinceTidy = true;
  }

  /** One that cannot be used must not end the worker, and every other after it: nobody is led anywhere then. */
  #applySelection(spec: SelectionSpec): void {
    try {
      this.#selection = new Selection(spec);
    } catch (error) {
      this.#selection = undefined;
      this.#options.log.log("error", TARGET, "which chain serves what cannot be told: every request is answered 404", {
        error: (error as Error).message,
      });
    }
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
    this.#post({
      type: "report",
      id,
      report: {
        connections: this.#entrance.tunnels,
        streams: this.#chains.sessions,
        refusedChains: this.#chains.refusals,
        telemetry: this.#hooks.report(),
      },
    });
  }

  #keepHouse(): void {
    this.#io.pool.shrink();
    this.#entrance.observe();
    const turns = this.reactor.turns - this.#turnsSeen;
    this.#turnsSeen = this.reactor.turns;
    if (this.#busySinceTidy && turns <= QUIET_TURNS && this.reactor.nowMs > SETTLED_MS) {
      this.#busySinceTidy = false;
      releaseMemory();
      releaseStartupCode();
    }
    this.reactor.setTimer(this.#housekeeping, HOUSEKEEPING_MS);
  }
}

const NO_COUNTERS = { allowed: () => {}, denied: () => {}, shadowAllowed: () => {}, shadowDenied: () => {} };
