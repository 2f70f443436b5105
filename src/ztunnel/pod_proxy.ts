/**
 * One pod in one worker: its listeners, its tunnels, its identity and its policies, and every connection it has here.
 *
 * Nothing is accepted before the pod's state and certificate are there. A new state is applied to open connections before
 * it is confirmed: what it does not allow any more is closed.
 */
import { localAddress, originalDestination, setResetOnClose } from "../platform/socket.ts";
import type { SocketAddress } from "../platform/sockaddr.ts";
import type { TlsContext, TlsMaterial } from "../platform/tls_context.ts";
import type { Revocations } from "../platform/revocations.ts";
import type { IoContext } from "../net/io_context.ts";
import { LateKeepalive } from "../net/late_keepalive.ts";
import { Listener } from "../net/listener.ts";
import { SocketFactory, type SocketTuning } from "../net/socket_factory.ts";
import { SocketStock } from "../net/socket_stock.ts";
import { describeErrno, EMFILE, ENFILE } from "../platform/errno.ts";
import { ErrorCode } from "../protocol/http2/mod.ts";
import type { HandshakeFailure, HboneConnection } from "../hbone/connection.ts";
import { HbonePool } from "../hbone/pool.ts";
import { HboneServer } from "../hbone/server.ts";
import type { NestedTunnel } from "../hbone/nested_tunnel.ts";
import { createHboneSettings, type HboneSettings, type HboneTuning, nestedSettings } from "../hbone/settings.ts";
import {
  type CompiledPolicies,
  compilePolicies,
  formatBaggage,
  formatSocketAddress,
  type Workload,
} from "../mesh/mod.ts";
import type { AccessLog } from "../telemetry/access_log.ts";
import type { Fields, Logger } from "../telemetry/log.ts";
import type { WorkerMetrics } from "../telemetry/worker_metrics.ts";
import type { RecordKeeper } from "./connection_record.ts";
import type { HostResolver } from "./dns/host_resolver.ts";
import { isDatagramKind } from "./dns/listeners.ts";
import type { DnsEnvironment } from "./dns/environment.ts";
import { PodDns } from "./dns/pod_dns.ts";
import { InboundConnection } from "./inbound.ts";
import { InboundPlaintext } from "./inbound_plaintext.ts";
import type { MeshCache } from "./mesh_cache.ts";
import type { ListenerKind, PodDescription, PodState, WorkerSettings } from "./messages.ts";
import { OutboundConnection } from "./outbound.ts";
import { OutboundRoutes } from "./outbound_routes.ts";
import { InboundRoutes } from "./inbound_routes.ts";
import { admitClient } from "./peer_identity.ts";
import { PodTls } from "./pod_tls.ts";
import type { SweptTunnel } from "../hbone/revocation_sweep.ts";
import { SocksConnection } from "./socks.ts";

/** What every pod of a worker shares. */
export interface PodEnvironment {
  readonly io: IoContext;
  readonly settings: WorkerSettings;
  readonly mesh: MeshCache;
  /** Answers about names, apart from it. */
  readonly names: MeshCache;
  /** For workloads that have only a hostname; undefined: connections to them are refused. */
  readonly hosts: HostResolver | undefined;
  readonly keeper: RecordKeeper;
  /** Undefined: there is no DNS proxy. */
  readonly dns?: DnsEnvironment | undefined;
  readonly metrics: WorkerMetrics;
  readonly revocations: Revocations;
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
  /** For connections to applications and plain destinations: many, most of them short. */
  readonly stock: SocketStock;
  readonly lateKeepalive: LateKeepalive;
  readonly pool: HbonePool;
  readonly server: HboneServer;
  readonly connections = new Set<PodConnection>();
  /** Tunnels inside tunnels, each of one connection, up to the moment when all it carried is on its way. */
  readonly nested = new Set<NestedTunnel>();
  readonly nestedSettings: HboneSettings;
  readonly routes: OutboundRoutes;
  readonly inboundRoutes: InboundRoutes;
  #state: PodState;
  #policies: CompiledPolicies;
  #baggage: string;
  readonly #tls: PodTls;
  readonly #listeners: Listener[] = [];
  readonly #dns: PodDns | undefined;
  #closed = false;

  constructor(env: PodEnvironment, description: PodDescription, state: PodState, tls: TlsMaterial) {
    this.env = env;
    this.description = description;
    this.#state = state;
    this.#baggage = formatBaggage(state.workload);
    this.#policies = compilePolicies(state.policies, state.missingPolicies);
    const { settings } = env;
    this.#tls = new PodTls(tls, settings.tls, env.revocations);
    this.sockets = new SocketFactory(description.namespaceFd, description.mark, env.tuning);
    this.routes = new OutboundRoutes(settings);
    this.inboundRoutes = new InboundRoutes(settings.network);
    this.stock = new SocketStock(env.io.reactor, this.sockets);
    this.lateKeepalive = new LateKeepalive(env.io.reactor, env.tuning.keepalive);
    const tuning: HboneTuning = settings;
    const clientSettings = createHboneSettings("client", tuning);
    this.nestedSettings = nestedSettings(clientSettings);
    this.pool = new HbonePool(env.io, {
      settings: clientSettings,
      maxStreamsPerConnection: settings.poolMaxStreamsPerConnection,
      unusedReleaseMs: settings.poolUnusedReleaseMs,
      connectTimeoutMs: CONNECT_TIMEOUT_MS,
      refused: (failure) => this.handshakeRefused(failure),
      tunnelFailed: ({ ip, port }, code, reason) => {
        const fields = { "dst.addr": formatSocketAddress({ ip, port }), pod: this.#name };
        env.log.log("warn", "outbound", `tunnel ended: ${reason}`, fields);
        if (code === ErrorCode.ENHANCE_YOUR_CALM) env.metrics.limits.reached("tunnel_abuse", { ...fields, reason });
      },
    });
    this.server = new HboneServer(env.io, createHboneSettings("server", tuning), {
      admit: (uris) => admitClient(uris, this.workload.trustDomain),
      request: (tunnel, stream, fields) => new InboundConnection(this, tunnel, stream, fields),
      tunnelFailed: (tunnel, reason) => {
        const fields = {
          "src.addr": formatSocketAddress(tunnel.peer),
          "src.identity": tunnel.identity,
          pod: this.#name,
        };
        env.log.log("warn", "inbound", `tunnel ended: ${reason}`, fields);
        if (tunnel.connection.h2.failedWith === ErrorCode.ENHANCE_YOUR_CALM) {
          env.metrics.limits.reached("tunnel_abuse", { ...fields, reason });
        }
      },
      streamRefused: (tunnel, code, reason) => {
        if (code !== ErrorCode.REFUSED_STREAM && code !== ErrorCode.NO_ERROR) return;
        const limit = code === ErrorCode.NO_ERROR ? "tunnel_headers" : "tunnel_streams";
        env.metrics.limits.reached(limit, { "src.addr": formatSocketAddress(tunnel.peer), pod: this.#name, reason });
      },
      handshakeFailed: (peer, failure) => {
        if (failure.stage === "revoked") env.metrics.crl.rejected("destination");
        env.access.failed(
          formatSocketAddress(peer),
          `${this.workload.workloadIps[0] ?? ""}:15008`,
          "inbound",
          failure.stage === "tls" ? `tls error: ${failure.message}` : failure.message,
        );
      },
    });
    const listeners = Object.entries(description.listeners) as [ListenerKind, number][];
    this.#dns = env.dns && new PodDns(
      env.dns,
      { name: `${description.namespace}/${description.name}`, workload: () => this.workload, sockets: this.sockets },
      listeners.filter(([kind]) => isDatagramKind(kind)).map(([, fd]) => fd),
    );
    for (const [kind, fd] of listeners) {
      if (!isDatagramKind(kind)) this.#listen(kind, fd);
    }
  }

  /** The own workload as it describes itself to peers. */
  get baggage(): string {
    return this.#baggage;
  }

  get #name(): string {
    return `${this.description.namespace}/${this.description.name}`;
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
    return this.#tls.context("client");
  }

  /** Connections and tunnels are still open, or the last bytes of connections that ended wait to be sent. */
  get busy(): boolean {
    return this.connections.size > 0 || this.server.tunnels.size > 0 || this.nested.size > 0 || this.pool.unsent;
  }

  applyState(state: PodState): void {
    this.#state = state;
    this.#baggage = formatBaggage(state.workload);
    this.#policies = compilePolicies(state.policies, state.missingPolicies);
    this.routes.forget();
    this.inboundRoutes.forget();
    for (const connection of [...this.connections]) connection.stateChanged();
  }

  /** A handshake with a destination failed. */
  handshakeRefused({ stage }: HandshakeFailure): void {
    if (stage === "revoked") this.env.metrics.crl.rejected("source");
  }

  /** Every tunnel, for a look at the certificates of their peers. */
  tunnels(): SweptTunnel[] {
    const swept = (connection: HboneConnection, side: "inbound" | "outbound", fields: Fields): SweptTunnel => ({
      connection,
      reporter: side === "inbound" ? "destination" : "source",
      ended: (reason) => this.env.log.log("warn", side, `tunnel ended: ${reason}`, { ...fields, pod: this.#name }),
    });
    const all: SweptTunnel[] = [];
    for (const { connection, peer, identity } of this.server.tunnels) {
      all.push(swept(connection, "inbound", { "src.addr": formatSocketAddress(peer), "src.identity": identity }));
    }
    for (const connection of this.pool.connections()) all.push(swept(connection, "outbound", {}));
    for (const { connection } of this.nested) if (connection !== undefined) all.push(swept(connection, "outbound", {}));
    return all;
  }

  /** New connections use the new certificate; live ones keep the context they began with. Throws on unusable material. */
  applyCertificate(tls: TlsMaterial): void {
    this.#tls.replace(tls);
  }

  /** Takes a connection that this worker or another one accepted. */
  serve(kind: ListenerKind, fd: number, peer: SocketAddress): void {
    if (this.#closed) return this.env.io.reactor.close(fd);
    if (kind === "socks") return new SocksConnection(this, fd, peer).start();
    if (kind === "inboundHbone") {
      const local = localAddress(fd);
      if (local === undefined) return this.env.io.reactor.close(fd);
      this.server.accept(fd, peer, local, this.#tls.context("server"));
      return;
    }
    if (kind !== "outbound" && kind !== "inboundPlaintext") {
      if (this.#dns === undefined) this.env.io.reactor.close(fd);
      else this.#dns.accept(fd);
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

  /** Accepts what waits, whether or not anybody was woken for it. */
  sweep(): void {
    for (const listener of this.#listeners) listener.sweep();
  }

  /** Stops accepting; inbound tunnels say GOAWAY and finish what they have. */
  drain(): void {
    for (const listener of this.#listeners) listener.acceptLast();
    this.server.drain();
  }

  /** The last of the DNS: true when nobody waits for an answer. */
  finishDns(): boolean {
    return this.#dns?.finish() ?? true;
  }

  /** Cuts everything at once, as when the pod is gone. */
  close(reason: string): void {
    this.#closed = true;
    for (const listener of this.#listeners) listener.close();
    this.stock.close();
    for (const connection of [...this.connections]) connection.cut(reason);
    for (const tunnel of [...this.nested]) tunnel.close(reason);
    this.server.close(reason);
    this.pool.close(reason);
    this.#dns?.close();
    this.#tls.close();
  }

  #listen(kind: ListenerKind, listener: number): void {
    const { uid } = this.description;
    this.#listeners.push(
      new Listener(this.env.io.reactor, listener, {
        accepted: (fd, peer) => {
          if (!this.env.passOn(uid, kind, fd)) this.serve(kind, fd, peer);
        },
        acceptFailed: (code) => {
          if (code === EMFILE || code === ENFILE) {
            return this.env.metrics.limits.reached("open_files", { pod: this.#name, listener: kind });
          }
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
