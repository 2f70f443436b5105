/** The accepting end of tunnels on one listener: TLS with the pod's certificate, then HTTP/2 streams to the owner. */
import { setNoDelay } from "../platform/socket.ts";
import type { SocketAddress } from "../platform/sockaddr.ts";
import type { TlsContext } from "../platform/tls_context.ts";
import { TlsSession } from "../platform/tls_session.ts";
import type { IoContext } from "../net/io_context.ts";
import { ErrorCode, type Fields } from "../protocol/http2/mod.ts";
import { type HandshakeFailure, HboneConnection, type HboneOwner, type TunnelStream } from "./connection.ts";
import { SocketLink } from "./link.ts";
import type { HboneSettings } from "./settings.ts";

export interface HboneServerOwner {
  /** Judges the client's URI names: the identity it has from now on, or why it is refused. */
  admit(peerUris: readonly string[]): { readonly identity: string } | { readonly refusal: string };
  /** A new stream of a client; set `stream.user`. */
  request(tunnel: ServerTunnel, stream: TunnelStream, fields: Fields, endStream: boolean): void;
  /** A stream was refused before anybody saw it. */
  streamRefused?(tunnel: ServerTunnel, code: number, fault: string): void;
  /** A tunnel was ended because of what its client sent: a protocol error, or a limit that it reached. */
  tunnelFailed?(tunnel: ServerTunnel, reason: string): void;
  /** A connection never got past its handshake. */
  handshakeFailed(peer: SocketAddress, failure: HandshakeFailure): void;
}

/** One client connection and what is known of its client. */
export class ServerTunnel implements HboneOwner {
  connection!: HboneConnection;
  /** The verified SPIFFE id; "" before the handshake is done. */
  identity = "";
  constructor(readonly server: HboneServer, readonly peer: SocketAddress, readonly local: SocketAddress) {}

  admit(_connection: HboneConnection, peerUris: readonly string[]): string | undefined {
    const outcome = this.server.owner.admit(peerUris);
    if ("refusal" in outcome) return outcome.refusal;
    this.identity = outcome.identity;
    return undefined;
  }

  established(): void {
    // Accepted just before the drain began: what it asks on its way in is still served.
    if (this.server.draining) this.connection.drain();
  }

  request(_connection: HboneConnection, stream: TunnelStream, fields: Fields, endStream: boolean): void {
    this.server.owner.request(this, stream, fields, endStream);
  }

  available(): void {}

  refused(_connection: HboneConnection, code: number, fault: string): void {
    this.server.owner.streamRefused?.(this, code, fault);
  }

  closed(connection: HboneConnection, reason: string, failure: HandshakeFailure | undefined): void {
    this.server.tunnels.delete(this);
    if (failure !== undefined) this.server.owner.handshakeFailed(this.peer, failure);
    else if (connection.h2.failedWith > ErrorCode.NO_ERROR) this.server.owner.tunnelFailed?.(this, reason);
  }
}

export class HboneServer {
  readonly owner: HboneServerOwner;
  readonly tunnels = new Set<ServerTunnel>();
  readonly #io: IoContext;
  readonly #settings: HboneSettings;
  #draining = false;

  constructor(io: IoContext, settings: HboneSettings, owner: HboneServerOwner) {
    this.#io = io;
    this.#settings = settings;
    this.owner = owner;
  }

  get draining(): boolean {
    return this.#draining;
  }

  /** Takes over an accepted descriptor. `context` is the pod's current one; the connection keeps it. */
  accept(fd: number, peer: SocketAddress, local: SocketAddress, context: TlsContext): void {
    setNoDelay(fd);
    let session: TlsSession;
    try {
      session = new TlsSession(context, fd);
    } catch (error) {
      this.#io.reactor.close(fd);
      this.owner.handshakeFailed(peer, {
        stage: "tls",
        message: error instanceof Error ? error.message : String(error),
      });
      return;
    }
    const tunnel = new ServerTunnel(this, peer, local);
    this.tunnels.add(tunnel);
    tunnel.connection = new HboneConnection(
      this.#io,
      new SocketLink(this.#io.reactor, fd, session),
      this.#settings,
      tunnel,
    );
  }

  /** Graceful: no new streams, open ones finish. A handshake under way ends first (`established`), or in its timeout. */
  drain(): void {
    this.#draining = true;
    for (const tunnel of [...this.tunnels]) {
      if (tunnel.connection.open) tunnel.connection.drain();
    }
  }

  close(reason: string): void {
    for (const tunnel of [...this.tunnels]) tunnel.connection.close(reason);
  }
}
