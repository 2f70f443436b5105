/**
 * Port 15008 in this worker: who listens there, with which certificate, under which configuration. Nothing is accepted before all three are here; each
 * may be replaced while tunnels live, which keep what they began with.
 */
import type { SweptTunnel } from "../../hbone/revocation_sweep.ts";
import type { IoContext } from "../../net/io_context.ts";
import { Listener } from "../../net/listener.ts";
import type { WorkerLoad } from "../../net/worker_load.ts";
import type { Revocations } from "../../platform/revocations.ts";
import type { SocketAddress } from "../../platform/sockaddr.ts";
import { localAddress } from "../../platform/socket.ts";
import { TlsContext } from "../../platform/tls_context.ts";
import type { TlsPolicy } from "../../platform/tls_policy.ts";
import type { Logger } from "../../telemetry/log.ts";
import type { SecretSpec, TerminateSpec } from "../spec/mod.ts";
import { MESH_ROOTS, OWN_CERTIFICATE } from "../transport/secrets.ts";
import { Terminator, type TerminatorOptions } from "./terminator.ts";

export interface EntranceOptions {
  readonly io: IoContext;
  readonly log: Logger;
  readonly tls: TlsPolicy;
  /** In force for the next handshake: replaced before the secrets that they come with are applied. */
  readonly revocations: Revocations;
  /** This worker's number, and every worker's tunnels. */
  readonly index: number;
  readonly load: WorkerLoad;
  readonly request: TerminatorOptions["request"];
  readonly revoked: () => void;
  /** Tunnels that all workers together take. */
  readonly maxConnections: number;
  /** Gives an accepted connection to another worker, which owns it from then on. */
  readonly pass: (worker: number, fd: number) => void;
}

/** Tunnels above its share that a worker keeps. */
const BALANCE_SLACK = 1;
const TARGET = "waypoint";
/** One line in so long about connections that are turned away. */
const FULL_LOG_MS = 1_000;

export class Entrance {
  readonly #options: EntranceOptions;
  #terminator: Terminator | undefined;
  /** Of earlier configurations: their tunnels finish. */
  #earlier: Terminator[] = [];
  #secrets: { certificate?: SecretSpec; roots?: SecretSpec } = {};
  #tls: TlsContext | undefined;
  #fd = -1;
  #listener: Listener | undefined;
  #draining = false;
  #turnedAwayMs = -Infinity;

  constructor(options: EntranceOptions) {
    this.#options = options;
  }

  get spec(): TerminateSpec | undefined {
    return this.#terminator?.spec;
  }

  /** Tunnels open now. */
  get tunnels(): number {
    this.observe();
    return this.#all().reduce((sum, { tunnels }) => sum + tunnels, 0);
  }

  /** The main thread's socket. */
  listen(fd: number): void {
    this.#fd = fd;
    this.#begin();
  }

  /** One that cannot be used leaves the one before in force; without one nobody is let in. */
  configure(spec: TerminateSpec): void {
    const { log } = this.#options;
    let terminator: Terminator;
    try {
      terminator = this.#create(spec);
    } catch (error) {
      return log.log("error", TARGET, "who may connect cannot be told; what was in force stays", {
        error: (error as Error).message,
      });
    }
    if (this.#terminator !== undefined) {
      this.#terminator.drain();
      this.#earlier.push(this.#terminator);
    }
    this.#terminator = terminator;
    if (spec.refusal !== undefined) {
      log.log("error", TARGET, "port 15008 holds what is not supported: every request is answered 503", {
        error: spec.refusal,
      });
    }
    if (this.#draining) terminator.drain();
    this.#begin();
  }

  /** New handshakes use the new certificate. */
  applySecrets(secrets: Readonly<Record<string, SecretSpec | null>>): void {
    const { [OWN_CERTIFICATE]: certificate, [MESH_ROOTS]: roots } = secrets;
    if (certificate === undefined && roots === undefined) return;
    if (certificate) this.#secrets.certificate = certificate;
    if (roots) this.#secrets.roots = roots;
    const { certificate: own, roots: trusted } = this.#secrets;
    if (own?.kind !== "certificate" || trusted?.kind !== "trust") return;
    const { log, tls: policy, revocations } = this.#options;
    try {
      const context = new TlsContext(
        "server",
        { privateKey: own.key, chain: [own.chain], roots: [trusted.roots] },
        { policy, revocations: revocations.current },
      );
      this.#tls?.close();
      this.#tls = context;
    } catch (error) {
      log.log("error", TARGET, "the new certificate cannot be used; the one before stays", {
        error: (error as Error).message,
      });
    }
    this.#begin();
  }

  /** Every tunnel, for a look at its client's certificate. */
  swept(): SweptTunnel[] {
    return this.#all().flatMap((terminator) => terminator.swept());
  }

  /** A connection that was accepted here, or by another worker. */
  accept(fd: number, peer: SocketAddress): void {
    const local = localAddress(fd);
    if (local === undefined || this.#tls === undefined || this.#terminator === undefined) {
      return this.#options.io.reactor.close(fd);
    }
    this.#terminator.accept(fd, peer, local, this.#tls);
  }

  /** GOAWAY to all, also to those that come from now on. */
  drain(): void {
    this.#draining = true;
    this.#terminator?.drain();
  }

  close(reason: string): void {
    this.#listener?.close();
    for (const terminator of this.#all()) terminator.close(reason);
  }

  /** Brings the shared count of tunnels up to date. */
  observe(): void {
    for (const terminator of this.#all()) terminator.observe();
    this.#earlier = this.#earlier.filter(({ tunnels }) => tunnels > 0);
  }

  #create(spec: TerminateSpec): Terminator {
    const { io, log, index, load, request, revoked } = this.#options;
    return new Terminator(spec, {
      io,
      log,
      request,
      revoked,
      changed: (change) => load.add(index, change),
    });
  }

  #all(): readonly Terminator[] {
    return this.#terminator === undefined ? this.#earlier : [this.#terminator, ...this.#earlier];
  }

  #begin(): void {
    if (this.#listener !== undefined || this.#fd === -1) return;
    if (this.#terminator === undefined || this.#tls === undefined) return;
    const { io, log } = this.#options;
    this.#listener = new Listener(io.reactor, this.#fd, {
      accepted: (fd, peer) => {
        if (this.#isFull()) return this.#turnAway(fd, peer);
        if (!this.#passOn(fd)) this.accept(fd, peer);
      },
      acceptFailed: (code) => log.log("error", TARGET, "cannot accept connections", { error: `errno ${code}` }),
    });
  }

  #isFull(): boolean {
    const { load, maxConnections } = this.#options;
    if (maxConnections === Infinity) return false;
    this.observe();
    return load.total >= maxConnections;
  }

  /** As Envoy's overload manager: without a word to the client. */
  #turnAway(fd: number, peer: SocketAddress): void {
    const { io, log, maxConnections } = this.#options;
    io.reactor.close(fd);
    if (io.reactor.nowMs - this.#turnedAwayMs < FULL_LOG_MS) return;
    this.#turnedAwayMs = io.reactor.nowMs;
    log.log("warn", TARGET, "a tunnel was turned away: there are as many as GLOBAL_DOWNSTREAM_MAX_CONNECTIONS allows", {
      "src.addr": peer.ip,
      limit: maxConnections,
    });
  }

  #passOn(fd: number): boolean {
    const { load, index, io, pass } = this.#options;
    if (load.workers === 1) return false;
    this.observe();
    const worker = load.receiver(index, BALANCE_SLACK);
    if (worker === undefined) return false;
    // On its way it is closed with this worker, then with the other one.
    io.reactor.own(fd);
    pass(worker, fd);
    return true;
  }
}
