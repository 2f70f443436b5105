/** Both ends of HBONE over the loopback with real TLS, in one reactor. */
import {
  type HandshakeFailure,
  HboneConnection,
  type TunnelStream,
  type TunnelUser,
} from "../../src/hbone/connection.ts";
import {
  type DialFailure,
  type DialPlan,
  HbonePool,
  type PoolOptions,
  type TunnelWaiter,
} from "../../src/hbone/pool.ts";
import { HboneServer, type HboneServerOwner, type ServerTunnel } from "../../src/hbone/server.ts";
import { createHboneSettings, type HboneSettings } from "../../src/hbone/settings.ts";
import { type RelayEnd, TunnelRelay } from "../../src/hbone/tunnel_relay.ts";
import { Listener } from "../../src/net/listener.ts";
import type { SocketAddress } from "../../src/platform/sockaddr.ts";
import { closeDescriptor, createTcpSocket, localAddress } from "../../src/platform/socket.ts";
import { TlsContext, type TlsMaterial } from "../../src/platform/tls_context.ts";
import type { Fields } from "../../src/protocol/http2/mod.ts";
import { createLoop, type Loop, Peer } from "../net/support.ts";
import { listenOnLoopback, tcpPair } from "../platform/support.ts";
import { TestAuthority } from "../platform/authority.ts";

export const CLIENT_ID = "spiffe://td/ns/a/sa/client";
export const SERVER_ID = "spiffe://td/ns/b/sa/server";

export interface Material {
  readonly authority: TestAuthority;
  readonly client: TlsMaterial;
  readonly server: TlsMaterial;
}

export async function createMaterial(): Promise<Material> {
  const authority = await TestAuthority.create();
  return {
    authority,
    client: await authority.material({ uris: [CLIENT_ID] }),
    server: await authority.material({ uris: [SERVER_ID] }),
  };
}

/** Settings with changes, so that a test need not wait for what takes seconds. */
export function settings(
  role: "client" | "server",
  http2: Partial<HboneSettings["http2"]> = {},
  handshakeTimeoutMs = 5_000,
): HboneSettings {
  const base = createHboneSettings(role);
  return { http2: { ...base.http2, ...http2 }, handshakeTimeoutMs };
}

/** What a server does with a CONNECT; by default it answers 200 and keeps the stream. */
export type Respond = (tunnel: ServerTunnel, stream: TunnelStream, fields: Fields) => void;

/** A tunnel server on a port of the loopback. */
export class TestServer implements HboneServerOwner {
  readonly port: number;
  readonly server: HboneServer;
  readonly requests: Fields[] = [];
  readonly streams: TunnelStream[] = [];
  readonly failures: HandshakeFailure[] = [];
  /** Clients that were admitted, by their first URI. */
  readonly admitted: string[] = [];
  accepted = 0;
  respond: Respond = (tunnel, stream) => accept(tunnel, stream);
  refuse: string | undefined;
  context: TlsContext;
  readonly #fd: number;
  readonly #listener: Listener;

  constructor(loop: Loop, material: TlsMaterial, serverSettings: HboneSettings = settings("server")) {
    this.context = new TlsContext("server", material);
    this.server = new HboneServer(loop.io, serverSettings, this);
    const listener = listenOnLoopback();
    this.#fd = listener.fd;
    this.port = listener.port;
    this.#listener = new Listener(loop.reactor, listener.fd, {
      accepted: (fd, peer) => {
        this.accepted++;
        this.server.accept(fd, peer, localAddress(fd) as SocketAddress, this.context);
      },
      acceptFailed: () => {},
    });
  }

  admit(uris: readonly string[]): { readonly identity: string } | { readonly refusal: string } {
    if (this.refuse !== undefined) return { refusal: this.refuse };
    this.admitted.push(uris[0]);
    return { identity: uris[0] };
  }

  request(tunnel: ServerTunnel, stream: TunnelStream, fields: Fields): void {
    this.requests.push(fields);
    this.streams.push(stream);
    this.respond(tunnel, stream, fields);
  }

  handshakeFailed(_peer: SocketAddress, failure: HandshakeFailure): void {
    this.failures.push(failure);
  }

  close(): void {
    this.#listener.close();
    this.server.close("test over");
    this.context.close();
    closeDescriptor(this.#fd);
  }
}

/** Answers 200 and gives the stream to `user`. */
export function accept(tunnel: ServerTunnel, stream: TunnelStream, user: TunnelUser = new StreamLog()): void {
  stream.user = user;
  tunnel.connection.h2.respond(stream, [":status", "200"], false);
  tunnel.connection.touch();
}

/** A stream's user that writes down what happens, and takes all data. */
export class StreamLog implements TunnelUser {
  readonly events: string[] = [];
  bytes = 0;
  consumes = true;
  headers(_stream: TunnelStream, fields: Fields, endStream: boolean): void {
    this.events.push(`headers ${fields[1]}${endStream ? " end" : ""}`);
  }
  data(stream: TunnelStream, _bytes: Uint8Array, start: number, end: number, endStream: boolean): void {
    this.bytes += end - start;
    if (this.consumes) stream.consume(end - start);
    if (endStream) this.events.push("end");
  }
  writable(): void {}
  reset(_stream: TunnelStream, code: number): void {
    this.events.push(`reset ${code}`);
  }
  closed(): void {
    this.events.push("closed");
  }
}

/** A client's wish for a stream. Opens it when it may. */
export class Client extends StreamLog implements TunnelWaiter {
  connection: HboneConnection | undefined;
  stream: TunnelStream | undefined;
  failure: DialFailure | undefined;
  calls = 0;

  tunnelReady(connection: HboneConnection): void {
    this.calls++;
    this.connection = connection;
    this.stream = connection.h2.openStream([":method", "CONNECT", ":authority", "10.0.0.1:80"], false, this);
    connection.touch();
  }

  tunnelFailed(failure: DialFailure): void {
    this.calls++;
    this.failure = failure;
  }

  get answered(): boolean {
    return this.events.includes("headers 200");
  }

  /** Gives the stream back to the pool. */
  finish(): void {
    this.connection?.h2.resetStream(this.stream as TunnelStream, 8);
    this.connection?.touch();
  }
}

export const poolDefaults: PoolOptions = {
  settings: settings("client"),
  maxStreamsPerConnection: 100,
  unusedReleaseMs: 60_000,
  connectTimeoutMs: 2_000,
};

/** A loop, a server, and a pool that reaches it. */
export class Bench {
  readonly loop = createLoop();
  readonly server: TestServer;
  readonly pool: HbonePool;
  readonly plan: DialPlan;
  readonly context: TlsContext;
  sockets = 0;
  readonly #peers: Peer[] = [];

  constructor(material: Material, options: Partial<PoolOptions> = {}, serverSettings?: HboneSettings) {
    this.server = new TestServer(this.loop, material.server, serverSettings);
    this.pool = new HbonePool(this.loop.io, { ...poolDefaults, ...options });
    this.context = new TlsContext("client", material.client);
    this.plan = {
      ip: "127.0.0.1",
      port: this.server.port,
      context: this.context,
      createSocket: (family) => {
        this.sockets++;
        return createTcpSocket(family);
      },
      admit: (uris) => uris.includes(SERVER_ID) ? undefined : `the server is ${uris.join()}`,
    };
  }

  /** Asks for a stream. */
  acquire(plan: DialPlan = this.plan, key = "key"): Client {
    const client = new Client();
    this.pool.acquire(key, plan, client);
    return client;
  }

  /** Asks for `count` streams and waits until all are answered. */
  open(count: number, key = "key"): Client[] {
    const clients = Array.from({ length: count }, () => this.acquire(this.plan, key));
    this.loop.until(() => clients.every((client) => client.answered), `${count} streams`);
    return clients;
  }

  /**
   * A whole tunnel: an application at either end, the relays between them and the stream in the middle. `clientEnd` and
   * `serverEnd` are filled in when the relays end. The relay of the client's side takes its application for that side. `early`: sent
   * before there is a tunnel; `before`: done then.
   */
  tunnel(
    side: "client" | "server" = "server",
    early?: Uint8Array,
    before: (client: Peer) => void = () => {},
  ): Tunnel {
    const [clientFar, clientNear] = tcpPair();
    const [serverNear, serverFar] = tcpPair();
    const tunnel = new Tunnel(new Peer(clientFar), new Peer(serverFar));
    this.#peers.push(tunnel.client, tunnel.server);
    this.server.respond = (server, stream) => {
      server.connection.h2.respond(stream, [":status", "200"], false);
      server.connection.touch();
      tunnel.serverRelay = new TunnelRelay(this.loop.io, serverNear, server.connection, stream, {
        relayEnded: (end) => tunnel.serverEnds.push(end),
      });
    };
    const client = this.acquire();
    this.loop.until(() => client.answered, "the tunnel");
    tunnel.connection = client.connection as HboneConnection;
    tunnel.clientRelay = new TunnelRelay(
      this.loop.io,
      clientNear,
      tunnel.connection,
      client.stream as TunnelStream,
      { relayEnded: (end) => tunnel.clientEnds.push(end) },
      side,
    );
    if (early !== undefined) tunnel.client.send(early);
    before(tunnel.client);
    if (side === "client") tunnel.clientRelay.start();
    return tunnel;
  }

  close(): void {
    this.pool.close("test over");
    this.server.close();
    this.context.close();
    this.loop.settle();
    for (const peer of this.#peers) peer.close();
    this.loop.reactor.dispose();
  }
}

/** See `Bench.tunnel`. */
export class Tunnel {
  connection!: HboneConnection;
  clientRelay!: TunnelRelay;
  serverRelay!: TunnelRelay;
  readonly clientEnds: RelayEnd[] = [];
  readonly serverEnds: RelayEnd[] = [];
  constructor(readonly client: Peer, readonly server: Peer) {}

  get over(): boolean {
    return this.clientEnds.length > 0 && this.serverEnds.length > 0;
  }
}
