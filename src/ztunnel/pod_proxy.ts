/**
 * One pod in one worker: its listeners, its tunnels, its identity and its policies, and every connection it has here.
 *
 * Nothing is accepted before the pod's state and certificate are there. A new state is applied to open connections before
 * it is confirmed: what it does not allow any more is closed.
 */
import { localAddress, originalDestination, setResetOnClose } from "../platform/socket.ts";
import type { SocketAddress } from "../platform/sockaddr.ts";
import { TlsContext, type TlsMaterial } from "../platform/tls_context.ts";
import type { IoContext } from "../net/io_context.ts";
import { Listener } from "../net/listener.ts";
import { SocketFactory, type SocketTuning } from "../net/socket_factory.ts";
import { describeErrno } from "../platform/errno.ts";
import { HbonePool } from "../hbone/pool.ts";
import { HboneServer } from "../hbone/server.ts";
import { createHboneSettings, type HboneTuning } from "../hbone/settings.ts";
import {
  type CompiledPolicies,
  compilePolicies,
  formatBaggage,
  formatSocketAddress,
  type Workload,
} from "../mesh/mod.ts";
import type { AccessLog } from "../telemetry/access_log.ts";
import type { Logger } from "../telemetry/log.ts";
import type { RecordKeeper } from "./connection_record.ts";
import { InboundConnection } from "./inbound.ts";
import { InboundPlaintext } from "./inbound_plaintext.ts";
import type { MeshCache } from "./mesh_cache.ts";
import type { ListenerKind, PodDescription, PodState, WorkerSettings } from "./messages.ts";
import { OutboundConnection } from "./outbound.ts";
import { admitClient } from "./peer_identity.ts";

/** What every pod of a worker shares. */
export interface PodEnvironment {
  readonly io: IoContext;
  readonly settings: WorkerSettings;
  readonly mesh: MeshCache;
  readonly keeper: RecordKeeper;
  readonly access: AccessLog;
  readonly log: Logger;
  readonly tuning: SocketTuning;
  /** [0, 1). */
  readonly random: () => number;
  /** 16 random bytes in hexadecimal, for trace ids. */
  readonly randomHex: (bytes: number) => string;
  /** A connection began or ended here; what was accepted may be passed on to a worker with less to do. */
  readonly connectionsChanged: (change: number) => void;
  readonly passOn: (uid: string, listener: ListenerKind, fd: number) => boolean;
}

/** A connection that belongs to a pod, as the pod sees it. */
export interface PodConnection {
  /** The pod's state changed: end it if it is not allowed any more, go on if it waited for this. */
  stateChanged(): void;
  /** Cut it off. */
  cut(reason: string): void;
}

export class PodProxy {
  readonly description: PodDescription;
  readonly env: PodEnvironment;
  readonly sockets: SocketFactory;
  readonly pool: HbonePool;
  readonly server: HboneServer;
  readonly connections = new Set<PodConnection>();
  #state: PodState;
  #policies: CompiledPolicies;
  #baggage: string;
  #clientContext: TlsContext;
  #serverContext: TlsContext;
  readonly #listeners: Listener[] = [];
  #closed = false;

  constructor(env: PodEnvironment, description: PodDescription, state: PodState, tls: TlsMaterial) {
    this.env = env;
    this.description = description;
    this.#state = state;
    this.#baggage = formatBaggage(state.workload);
    this.#policies = compilePolicies(state.policies, state.missingPolicies);
    this.#clientContext = new TlsContext("client", tls);
    this.#serverContext = new TlsContext("server", tls);
    const { settings } = env;
    this.sockets = new SocketFactory(description.namespaceFd, settings.packetMark, env.tuning);
    const tuning: HboneTuning = settings;
    this.pool = new HbonePool(env.io, {
      settings: createHboneSettings("client", tuning),
      maxStreamsPerConnection: settings.poolMaxStreamsPerConnection,
      unusedReleaseMs: settings.poolUnusedReleaseMs,
      connectTimeoutMs: CONNECT_TIMEOUT_MS,
    });
    this.server = new HboneServer(env.io, createHboneSettings("server", tuning), {
      admit: (uris) => admitClient(uris, this.workload.trustDomain),
      request: (tunnel, stream, fields) => new InboundConnection(this, tunnel, stream, fields),
      tunnelFailed: (tunnel, reason) => {
        env.log.log("warn", "inbound", `tunnel ended: ${reason}`, {
          "src.addr": formatSocketAddress(tunnel.peer),
          "src.identity": tunnel.identity,
          pod: `${description.namespace}/${description.name}`,
        });
      },
      handshakeFailed: (peer, failure) => {
        env.access.failed(
          formatSocketAddress(peer),
          `${this.workload.workloadIps[0] ?? ""}:15008`,
          "inbound",
          failure.stage === "tls" ? `tls error: ${failure.message}` : failure.message,
        );
      },
    });
    for (const kind of ["outbound", "inboundPlaintext", "inboundHbone"] as const) this.#listen(kind);
  }

  /** The own workload as it describes itself to peers. */
  get baggage(): string {
    return this.#baggage;
  }

  get workload(): Workload {
    return this.#state.workload;
  }

  get identity(): string {
    return this.#state.identity;
  }

  get policies(): CompiledPolicies {
    return this.#policies;
  }

  get clientContext(): TlsContext {
    return this.#clientContext;
  }

  /** Connections and tunnels still open. */
  get busy(): boolean {
    return this.connections.size > 0 || this.server.tunnels.size > 0;
  }

  applyState(state: PodState): void {
    this.#state = state;
    this.#baggage = formatBaggage(state.workload);
    this.#policies = compilePolicies(state.policies, state.missingPolicies);
    for (const connection of [...this.connections]) connection.stateChanged();
  }

  /** New connections use the new certificate; live ones keep the context they began with. Throws on unusable material. */
  applyCertificate(tls: TlsMaterial): void {
    const client = new TlsContext("client", tls);
    const server = new TlsContext("server", tls);
    this.#clientContext.close();
    this.#serverContext.close();
    this.#clientContext = client;
    this.#serverContext = server;
  }

  /** Takes a connection that this worker or another one accepted. */
  serve(kind: ListenerKind, fd: number, peer: SocketAddress): void {
    if (this.#closed) return this.env.io.reactor.close(fd);
    if (kind === "inboundHbone") {
      const local = localAddress(fd);
      if (local === undefined) return this.env.io.reactor.close(fd);
      this.server.accept(fd, peer, local, this.#serverContext);
      return;
    }
    // It may wait for the mesh or a tunnel, unwatched: it is closed with this worker all the same.
    this.env.io.reactor.own(fd);
    const original = originalDestination(fd) ?? localAddress(fd);
    if (original === undefined) return this.env.io.reactor.close(fd);
    const connection = kind === "outbound"
      ? new OutboundConnection(this, fd, peer, original)
      : new InboundPlaintext(this, fd, peer, original);
    connection.start();
  }

  enter(connection: PodConnection): void {
    this.connections.add(connection);
    this.env.connectionsChanged(1);
  }

  leave(connection: PodConnection): void {
    if (this.connections.delete(connection)) this.env.connectionsChanged(-1);
  }

  /** Stops accepting; inbound tunnels say GOAWAY and finish what they have. */
  drain(): void {
    for (const listener of this.#listeners) listener.acceptLast();
    this.server.drain();
  }

  /** Cuts everything at once, as when the pod is gone. */
  close(reason: string): void {
    this.#closed = true;
    for (const listener of this.#listeners) listener.close();
    for (const connection of [...this.connections]) connection.cut(reason);
    this.server.close(reason);
    this.pool.close(reason);
    this.#clientContext.close();
    this.#serverContext.close();
  }

  #listen(kind: ListenerKind): void {
    const { uid, listeners } = this.description;
    this.#listeners.push(
      new Listener(this.env.io.reactor, listeners[kind], {
        accepted: (fd, peer) => {
          if (!this.env.passOn(uid, kind, fd)) this.serve(kind, fd, peer);
        },
        acceptFailed: (code) => {
          this.env.log.log("error", "proxy", `cannot accept connections for a moment: ${describeErrno(code)}`, {
            pod: `${this.description.namespace}/${this.description.name}`,
            listener: kind,
            hint: "raise the limit of open files (RLIMIT_NOFILE) or look for a leak in process_open_fds",
          });
        },
      }),
    );
  }
}

/** ztunnel's, for tunnels and applications alike. */
export const CONNECT_TIMEOUT_MS = 10_000;

/** Ends a client's connection so that it sees a failure. */
export function resetClient(io: IoContext, fd: number): void {
  setResetOnClose(fd);
  io.reactor.close(fd);
}
