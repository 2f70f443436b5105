/**
 * Double HBONE over the loopback with real TLS, in one reactor: a client's pool, a gateway that ends the outer tunnel and forwards its bytes to a
 * tunnel server behind it, and that server with an application.
 */
import assert from "node:assert/strict";
import type { HboneConnection, TunnelStream } from "../../src/hbone/connection.ts";
import { type ConnectFailure, type ConnectOwner, ConnectStream } from "../../src/hbone/connect_stream.ts";
import { type NestedPlan, NestedSource, type NestedTunnel } from "../../src/hbone/nested_tunnel.ts";
import { type DialPlan, HbonePool } from "../../src/hbone/pool.ts";
import { nestedSettings } from "../../src/hbone/settings.ts";
import { type RelayEnd, TunnelRelay } from "../../src/hbone/tunnel_relay.ts";
import { createTcpSocket, setNoDelay } from "../../src/platform/socket.ts";
import { TlsContext, type TlsMaterial } from "../../src/platform/tls_context.ts";
import type { Fields } from "../../src/protocol/http2/mod.ts";
import { createLoop, Peer } from "../net/support.ts";
import { connectToLoopback, tcpPair, waitFor } from "../platform/support.ts";
import { EPOLLOUT } from "../../src/platform/epoll.ts";
import { type Material, poolDefaults, SERVER_ID, settings, TestServer } from "./support.ts";

export const FAR_ID = "spiffe://td/ns/far/sa/app";

/** One connection through both tunnels. */
export class FarConnection implements ConnectOwner {
  failure: ConnectFailure | undefined;
  /** Fields of the far end's answer. */
  answer: Fields | undefined;
  connect!: ConnectStream;
  inner: HboneConnection | undefined;
  relay: TunnelRelay | undefined;
  readonly clientEnds: RelayEnd[] = [];
  readonly serverEnds: RelayEnd[] = [];
  server: Peer | undefined;
  readonly #near: number;
  constructor(readonly bench: NestedBench, readonly client: Peer, near: number) {
    this.#near = near;
  }

  connectAccepted(tunnel: HboneConnection, stream: TunnelStream, fields: Fields): void {
    this.answer = fields;
    this.inner = tunnel;
    this.relay = new TunnelRelay(this.bench.loop.io, this.#near, tunnel, stream, {
      relayEnded: (end) => this.clientEnds.push(end),
    });
  }

  connectFailed(failure: ConnectFailure): void {
    this.failure = failure;
    this.bench.loop.reactor.close(this.#near);
  }

  get over(): boolean {
    return this.clientEnds.length > 0 && this.serverEnds.length > 0;
  }
}

export class NestedBench {
  readonly loop = createLoop();
  readonly gateway: TestServer;
  readonly far: TestServer;
  readonly pool: HbonePool;
  readonly context: TlsContext;
  readonly nested = new Set<NestedTunnel>();
  /** The gateway's ends of what it forwards. */
  readonly forwarded: TunnelRelay[] = [];
  readonly forwardEnds: RelayEnd[] = [];
  /** What the gateway answers to its own CONNECT; undefined: it forwards. */
  gatewayStatus: string | undefined;
  expected: readonly string[] = [FAR_ID];
  handshakeTimeoutMs = 5_000;
  readonly #peers: Peer[] = [];

  constructor(material: Material, far: TlsMaterial) {
    this.gateway = new TestServer(this.loop, material.server);
    this.far = new TestServer(this.loop, far);
    this.pool = new HbonePool(this.loop.io, poolDefaults);
    this.context = new TlsContext("client", material.client);
    this.gateway.respond = (tunnel, stream) => {
      const status = this.gatewayStatus ?? "200";
      tunnel.connection.h2.respond(stream, [":status", status], status !== "200");
      tunnel.connection.touch();
      if (status !== "200") return;
      const fd = connectToLoopback(this.farPort);
      waitFor(fd, EPOLLOUT);
      setNoDelay(fd);
      this.forwarded.push(
        new TunnelRelay(this.loop.io, fd, tunnel.connection, stream, {
          relayEnded: (end) => this.forwardEnds.push(end),
        }),
      );
    };
  }

  get farPort(): number {
    return this.far.port;
  }

  /** Asks for a connection; `farEnd` decides what the far proxy does with the request, by default it relays to an application. */
  ask(authority = "echo.far.svc:80"): FarConnection {
    const [clientFar, clientNear] = tcpPair();
    const connection = new FarConnection(this, new Peer(clientFar), clientNear);
    this.#peers.push(connection.client);
    this.far.respond = (server, stream) => {
      const [near, application] = tcpPair();
      connection.server = new Peer(application);
      this.#peers.push(connection.server);
      server.connection.h2.respond(stream, [":status", "200", "baggage", "k8s.deployment.name=echo"], false);
      server.connection.touch();
      new TunnelRelay(this.loop.io, near, server.connection, stream, {
        relayEnded: (end) => connection.serverEnds.push(end),
      });
    };
    const fields = [":method", "CONNECT", ":authority", authority];
    const source = new NestedSource(this.loop.io, this.plan(fields));
    connection.connect = new ConnectStream(
      this.loop.reactor,
      source,
      [...fields, "x-forwarded-network", "n1"],
      connection,
    );
    connection.connect.start();
    return connection;
  }

  /** A connection that is up. */
  open(): FarConnection {
    const connection = this.ask();
    this.loop.until(() => connection.relay !== undefined || connection.failure !== undefined, "the far end's answer");
    assert.equal(connection.failure, undefined);
    return connection;
  }

  plan(request: Fields): NestedPlan {
    const { port } = this.gateway;
    const { pool, context } = this;
    const dial: DialPlan = {
      ip: "127.0.0.1",
      port,
      context,
      createSocket: (family) => createTcpSocket(family),
      admit: (uris) => uris.includes(SERVER_ID) ? undefined : `the gateway is ${uris.join()}`,
    };
    return {
      outer: {
        acquire: (waiter) => pool.acquire("gateway", dial, waiter),
        cancel: (waiter) => pool.cancel("gateway", waiter),
      },
      request,
      context,
      settings: nestedSettings(settings("client", {}, this.handshakeTimeoutMs)),
      admit: (uris) => uris.some((uri) => this.expected.includes(uri)) ? undefined : `the far end is ${uris.join()}`,
      tunnels: this.nested,
    };
  }

  close(): void {
    for (const tunnel of [...this.nested]) tunnel.close("test over");
    this.pool.close("test over");
    this.gateway.close();
    this.far.close();
    this.context.close();
    this.loop.settle();
    for (const peer of this.#peers) peer.close();
    this.loop.reactor.dispose();
  }
}
