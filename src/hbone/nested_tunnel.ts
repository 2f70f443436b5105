/**
 * Double HBONE: a tunnel to the destination inside one to its network's gateway (reference ztunnel 5.4). The gateway forwards the outer
 * stream's bytes; who is behind it is proved by the inner handshake.
 *
 * An inner tunnel carries one connection and is not shared. The gateway chooses an endpoint for each outer stream: sharing would send all
 * connections of a client to the endpoint that the first one met (https://github.com/istio/ztunnel/issues/1672 asks for it all the same).
 */
import type { IoContext } from "../net/io_context.ts";
import type { TlsContext } from "../platform/tls_context.ts";
import { ErrorCode, type Fields } from "../protocol/http2/mod.ts";
import { type HandshakeFailure, HboneConnection, type HboneOwner, type TunnelStream } from "./connection.ts";
import { type ConnectFailure, type ConnectOwner, ConnectStream, type TunnelSource } from "./connect_stream.ts";
import { NestedLink, type NestedLinkOwner } from "./nested_link.ts";
import type { TunnelWaiter } from "./pool.ts";
import type { HboneSettings } from "./settings.ts";

/** What the inner tunnels of one destination need. */
export interface NestedPlan {
  /** Tunnels to the gateway. */
  readonly outer: TunnelSource;
  /** The CONNECT request to the gateway. */
  readonly request: Fields;
  /** Of the inner handshake, read when it begins. */
  readonly context: TlsContext;
  readonly settings: HboneSettings;
  /** Judges the URI names of what is behind the gateway. A text refuses. */
  admit(peerUris: readonly string[]): string | undefined;
  /** A handshake failed; once for each, however many wait for it. */
  readonly refused?: (failure: HandshakeFailure) => void;
  /** Inner tunnels that are being opened or are open, for who must close them all. */
  readonly tunnels: Set<NestedTunnel>;
}

/** Gives each waiter an inner tunnel of its own. */
export class NestedSource implements TunnelSource {
  readonly #io: IoContext;
  readonly #plan: NestedPlan;
  #current: NestedTunnel | undefined;

  constructor(io: IoContext, plan: NestedPlan) {
    this.#io = io;
    this.#plan = plan;
  }

  acquire(waiter: TunnelWaiter): void {
    const tunnel = new NestedTunnel(this.#io, this.#plan, waiter);
    this.#current = tunnel;
    tunnel.start();
  }

  cancel(): void {
    this.#current?.close("given up");
  }
}

export class NestedTunnel implements ConnectOwner, HboneOwner, NestedLinkOwner {
  readonly #io: IoContext;
  readonly #plan: NestedPlan;
  /** Undefined when it was answered. */
  #waiter: TunnelWaiter | undefined;
  readonly #outer: ConnectStream;
  #inner: HboneConnection | undefined;
  /** What the inner tunnel goes through. */
  #way: HboneConnection | undefined;

  constructor(io: IoContext, plan: NestedPlan, waiter: TunnelWaiter) {
    this.#io = io;
    this.#plan = plan;
    this.#waiter = waiter;
    this.#outer = new ConnectStream(io.reactor, plan.outer, plan.request, this);
  }

  start(): void {
    this.#plan.tunnels.add(this);
    this.#outer.start();
  }

  /** Ends it at once, whatever it has come to. */
  close(reason: string): void {
    if (this.#inner !== undefined) return this.#inner.close(reason);
    this.#outer.cancel();
    this.#plan.tunnels.delete(this);
    this.#answer()?.tunnelFailed({ stage: "closed", message: reason });
  }

  connectAccepted(outer: HboneConnection, stream: TunnelStream, fields: Fields, endStream: boolean): void {
    let link: NestedLink;
    try {
      link = new NestedLink(this.#io, outer, stream, this.#plan.context, this);
    } catch (error) {
      outer.h2.resetStream(stream, ErrorCode.CANCEL);
      outer.touch();
      const message = error instanceof Error ? error.message : String(error);
      this.#plan.tunnels.delete(this);
      this.#answer()?.tunnelFailed({ stage: "inner", failure: { stage: "tls", message } });
      return;
    }
    this.#way = outer;
    this.#inner = new HboneConnection(this.#io, link, this.#plan.settings, this);
    if (endStream) link.headers(stream, fields, true);
  }

  connectFailed(failure: ConnectFailure): void {
    this.#plan.tunnels.delete(this);
    this.#answer()?.tunnelFailed({ stage: "gateway", failure });
  }

  admit(_connection: HboneConnection, peerUris: readonly string[]): string | undefined {
    return this.#plan.admit(peerUris);
  }

  established(connection: HboneConnection): void {
    this.#answer()?.tunnelReady(connection);
    this.available(connection);
  }

  request(connection: HboneConnection, stream: TunnelStream): void {
    // A client never gets requests; the codec refuses them before this is reached.
    connection.h2.resetStream(stream, ErrorCode.PROTOCOL_ERROR);
  }

  /** Its one connection has ended: the inner tunnel ends in order. */
  available(connection: HboneConnection): void {
    if (this.#waiter === undefined && connection.h2.openStreams === 0) connection.drain();
  }

  closed(_connection: HboneConnection, reason: string, failure: HandshakeFailure | undefined): void {
    this.#plan.tunnels.delete(this);
    if (failure !== undefined) this.#plan.refused?.(failure);
    this.#answer()?.tunnelFailed({ stage: "inner", failure: failure ?? { stage: "closed", message: reason } });
  }

  outerLost(reason: string): void {
    this.#inner?.close(reason, this.#way?.failure);
  }

  /** The inner tunnel's, if it has come to that; the outer one is the pool's. */
  get connection(): HboneConnection | undefined {
    return this.#inner;
  }

  #answer(): TunnelWaiter | undefined {
    const waiter = this.#waiter;
    this.#waiter = undefined;
    return waiter;
  }
}
