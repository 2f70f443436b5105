/**
 * Client connections of one pod, shared by the streams of one destination (reference ztunnel 5.7).
 *
 * Single flight per destination: one dial at a time, everybody else waits for it or for a stream slot. Unlike ztunnel's, a
 * connection that was full takes streams again once some ended, and a failed dial answers all who waited for it.
 */
import { AF_INET, AF_INET6, isIpv6 } from "../platform/sockaddr.ts";
import type { TlsContext } from "../platform/tls_context.ts";
import { TlsSession } from "../platform/tls_session.ts";
import { type ConnectHandler, Connector } from "../net/connector.ts";
import type { IoContext } from "../net/io_context.ts";
import { Timer, type TimerTarget } from "../net/reactor.ts";
import { ErrorCode } from "../protocol/http2/mod.ts";
import type { ConnectFailure } from "./connect_stream.ts";
import { type HandshakeFailure, HboneConnection, type HboneOwner } from "./connection.ts";
import { SocketLink } from "./link.ts";
import type { HboneSettings } from "./settings.ts";

/** What a new connection to a destination needs. */
export interface DialPlan {
  readonly ip: string;
  readonly port: number;
  readonly context: TlsContext;
  /** Makes a socket of the family in the pod's namespace, with its options set: the descriptor or `-errno`. */
  createSocket(family: number): number;
  /** Judges the peer's URI names: a text refuses it. */
  admit(peerUris: readonly string[]): string | undefined;
}

/** Why no connection could be had. `code` is an errno for stage "connect". */
export type DialFailure =
  | { readonly stage: "connect"; readonly code: number }
  | HandshakeFailure
  | { readonly stage: "closed"; readonly message: string }
  /** Double HBONE: there is no way through the gateway; what is behind it did not prove who it is, or broke off. */
  | { readonly stage: "gateway"; readonly failure: ConnectFailure }
  | {
    readonly stage: "inner";
    readonly failure: HandshakeFailure | { readonly stage: "closed"; readonly message: string };
  };

/** Somebody who wants a stream. Called once, perhaps from within `acquire`. */
export interface TunnelWaiter {
  /** Open the stream before returning. */
  tunnelReady(connection: HboneConnection): void;
  tunnelFailed(failure: DialFailure): void;
}

export interface PoolOptions {
  readonly settings: HboneSettings;
  /** Streams put on one connection, whatever more its peer would take. */
  readonly maxStreamsPerConnection: number;
  /** A connection without a stream for this long is closed. */
  readonly unusedReleaseMs: number;
  readonly connectTimeoutMs: number;
  /** A tunnel was ended because of what its server sent: a protocol error, or a limit that it reached. */
  readonly tunnelFailed?: (plan: DialPlan, code: number, reason: string) => void;
  /** A handshake failed; once for each, however many wait for it. */
  readonly refused?: (failure: HandshakeFailure) => void;
}

class Destination {
  readonly tunnels: PooledTunnel[] = [];
  waiters: TunnelWaiter[] = [];
  dial: Dial | undefined;
  constructor(readonly key: string) {}
}

class PooledTunnel implements HboneOwner {
  connection!: HboneConnection;
  unusedSinceMs = 0;
  constructor(readonly pool: HbonePool, readonly destination: Destination, readonly plan: DialPlan) {}

  admit(_connection: HboneConnection, peerUris: readonly string[]): string | undefined {
    return this.plan.admit(peerUris);
  }

  established(): void {
    this.pool.established(this);
  }

  request(connection: HboneConnection, stream: Parameters<HboneOwner["request"]>[1]): void {
    // A client never gets requests; the codec refuses them before this is reached.
    connection.h2.resetStream(stream, 0x1);
  }

  available(): void {
    this.pool.available(this);
  }

  closed(_connection: HboneConnection, reason: string, failure: HandshakeFailure | undefined): void {
    this.pool.closed(this, reason, failure);
  }
}

class Dial implements ConnectHandler {
  #connector: Connector | undefined;
  #tunnel: PooledTunnel | undefined;
  constructor(readonly pool: HbonePool, readonly destination: Destination, readonly plan: DialPlan) {}

  start(io: IoContext, connectTimeoutMs: number): void {
    const family = isIpv6(this.plan.ip) ? AF_INET6 : AF_INET;
    const fd = this.plan.createSocket(family);
    if (fd < 0) return this.connectFailed(-fd);
    this.#connector = new Connector(io.reactor, this, fd, family, this.plan.ip, this.plan.port, connectTimeoutMs);
  }

  connected(fd: number): void {
    this.#connector = undefined;
    let session: TlsSession;
    try {
      session = new TlsSession(this.plan.context, fd);
    } catch (error) {
      this.pool.io.reactor.close(fd);
      this.pool.dialFailed(this, { stage: "tls", message: error instanceof Error ? error.message : String(error) });
      return;
    }
    const tunnel = new PooledTunnel(this.pool, this.destination, this.plan);
    this.#tunnel = tunnel;
    tunnel.connection = new HboneConnection(
      this.pool.io,
      new SocketLink(this.pool.io.reactor, fd, session),
      this.pool.options.settings,
      tunnel,
    );
  }

  connectFailed(code: number): void {
    this.#connector = undefined;
    this.pool.dialFailed(this, { stage: "connect", code });
  }

  /** The connection that is shaking hands. */
  get connection(): HboneConnection | undefined {
    return this.#tunnel?.connection;
  }

  cancel(): void {
    this.#connector?.cancel();
    this.#tunnel?.connection.close("pool closed");
  }
}

export class HbonePool implements TimerTarget {
  readonly io: IoContext;
  readonly options: PoolOptions;
  readonly #destinations = new Map<string, Destination>();
  readonly #sweep = new Timer(this);
  #closed = false;

  constructor(io: IoContext, options: PoolOptions) {
    this.io = io;
    this.options = options;
  }

  /** Connections open or being opened, for metrics and limits. */
  get size(): number {
    let size = 0;
    for (const destination of this.#destinations.values()) {
      size += destination.tunnels.length + (destination.dial === undefined ? 0 : 1);
    }
    return size;
  }

  /** Every connection, those that shake hands included. */
  connections(): HboneConnection[] {
    const all: HboneConnection[] = [];
    for (const { tunnels, dial } of this.#destinations.values()) {
      for (const { connection } of tunnels) all.push(connection);
      if (dial?.connection !== undefined) all.push(dial.connection);
    }
    return all;
  }

  /** Bytes wait to be sent on some connection, perhaps the last ones of streams that have ended. */
  get unsent(): boolean {
    for (const destination of this.#destinations.values()) {
      for (const { connection } of destination.tunnels) {
        if (connection.h2.output.end > connection.h2.output.start) return true;
      }
    }
    return false;
  }

  /**
   * Finds or makes a connection for a stream. `key` names everything that must be equal for two streams to share one:
   * both identities, the address, the source. `plan` is used only when a dial is needed.
   */
  acquire(key: string, plan: DialPlan, waiter: TunnelWaiter): void {
    if (this.#closed) return waiter.tunnelFailed({ stage: "closed", message: "the proxy is shutting down" });
    let destination = this.#destinations.get(key);
    if (destination === undefined) {
      destination = new Destination(key);
      this.#destinations.set(key, destination);
      if (this.#sweep.slot === -1) this.io.reactor.setTimer(this.#sweep, this.options.unusedReleaseMs / 2);
    }
    const tunnel = this.#free(destination);
    if (tunnel !== undefined) return waiter.tunnelReady(tunnel.connection);
    destination.waiters.push(waiter);
    if (destination.dial === undefined) this.#dial(destination, plan);
  }

  /** Takes a waiter out again, as when its client has gone. */
  cancel(key: string, waiter: TunnelWaiter): void {
    const destination = this.#destinations.get(key);
    if (destination === undefined) return;
    const index = destination.waiters.indexOf(waiter);
    if (index !== -1) destination.waiters.splice(index, 1);
  }

  /** Closes everything at once; streams are reset and waiters told. */
  close(reason: string): void {
    this.#closed = true;
    this.io.reactor.cancelTimer(this.#sweep);
    for (const destination of [...this.#destinations.values()]) {
      destination.dial?.cancel();
      destination.dial = undefined;
      this.#answerAll(destination, { stage: "closed", message: reason });
      for (const tunnel of [...destination.tunnels]) tunnel.connection.close(reason);
    }
    this.#destinations.clear();
  }

  /** Closes what nobody uses, and forgets destinations without a connection. */
  expired(nowMs: number): void {
    for (const destination of [...this.#destinations.values()]) {
      for (const tunnel of [...destination.tunnels]) {
        if (tunnel.connection.h2.openStreams > 0) tunnel.unusedSinceMs = nowMs;
        else if (nowMs - tunnel.unusedSinceMs >= this.options.unusedReleaseMs) tunnel.connection.drain();
      }
      this.#forgetIfEmpty(destination);
    }
    if (this.#destinations.size > 0) this.io.reactor.setTimer(this.#sweep, this.options.unusedReleaseMs / 2);
  }

  established(tunnel: PooledTunnel): void {
    const destination = tunnel.destination;
    tunnel.unusedSinceMs = this.io.reactor.nowMs;
    destination.dial = undefined;
    destination.tunnels.push(tunnel);
    this.#serve(destination, tunnel.plan);
  }

  available(tunnel: PooledTunnel): void {
    if (tunnel.connection.h2.openStreams === 0) tunnel.unusedSinceMs = this.io.reactor.nowMs;
    if (tunnel.destination.waiters.length > 0) this.#serve(tunnel.destination, tunnel.plan);
  }

  closed(tunnel: PooledTunnel, reason: string, failure: HandshakeFailure | undefined): void {
    const destination = tunnel.destination;
    const index = destination.tunnels.indexOf(tunnel);
    if (index === -1) {
      if (failure !== undefined) this.options.refused?.(failure);
      if (destination.dial !== undefined) {
        this.dialFailed(destination.dial, failure ?? { stage: "closed", message: reason });
      }
      return;
    }
    const code = tunnel.connection.h2.failedWith;
    if (code > ErrorCode.NO_ERROR) this.options.tunnelFailed?.(tunnel.plan, code, reason);
    destination.tunnels.splice(index, 1);
    if (destination.waiters.length > 0) this.#serve(destination, tunnel.plan);
    else this.#forgetIfEmpty(destination);
  }

  dialFailed(dial: Dial, failure: DialFailure): void {
    const destination = dial.destination;
    if (destination.dial !== dial) return;
    destination.dial = undefined;
    this.#answerAll(destination, failure);
    this.#forgetIfEmpty(destination);
  }

  #dial(destination: Destination, plan: DialPlan): void {
    const dial = new Dial(this, destination, plan);
    destination.dial = dial;
    dial.start(this.io, this.options.connectTimeoutMs);
  }

  /** Gives free slots to those who wait longest; dials once more when some are left. */
  #serve(destination: Destination, plan: DialPlan): void {
    while (destination.waiters.length > 0) {
      const tunnel = this.#free(destination);
      if (tunnel === undefined) break;
      destination.waiters.shift()?.tunnelReady(tunnel.connection);
    }
    if (destination.waiters.length > 0 && destination.dial === undefined && !this.#closed) {
      this.#dial(destination, plan);
    }
  }

  #free(destination: Destination): PooledTunnel | undefined {
    for (const tunnel of destination.tunnels) {
      const { connection } = tunnel;
      if (connection.ending || !connection.h2.canOpen) continue;
      if (connection.h2.openStreams < this.options.maxStreamsPerConnection) return tunnel;
    }
    return undefined;
  }

  #answerAll(destination: Destination, failure: DialFailure): void {
    const waiters = destination.waiters;
    destination.waiters = [];
    for (const waiter of waiters) waiter.tunnelFailed(failure);
  }

  #forgetIfEmpty(destination: Destination): void {
    if (destination.tunnels.length > 0 || destination.waiters.length > 0 || destination.dial !== undefined) return;
    if (this.#destinations.get(destination.key) === destination) this.#destinations.delete(destination.key);
  }
}
