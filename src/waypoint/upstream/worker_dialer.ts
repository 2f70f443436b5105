/**
 * The dialer of a worker (waypoint.md appendix D): TCP, or CONNECT through a tunnel with the waypoint's own identity; then, inside of it, the PROXY header and
 * TLS that a DestinationRule asks for.
 */
import type { ConnectFailure, ConnectOwner } from "../../hbone/connect_stream.ts";
import { ConnectStream } from "../../hbone/connect_stream.ts";
import type { HandshakeFailure, HboneConnection, TunnelStream } from "../../hbone/connection.ts";
import { type DialPlan, HbonePool } from "../../hbone/pool.ts";
import { createHboneSettings, type HboneSettings } from "../../hbone/settings.ts";
import { canonicalIp } from "../../mesh/ip.ts";
import type { IoContext } from "../../net/io_context.ts";
import { localAddress, setKeepalive } from "../../platform/socket.ts";
import type { TlsContext } from "../../platform/tls_context.ts";
import type { Fields } from "../../protocol/http2/mod.ts";
import { compileText, type TextPredicate } from "../match/text.ts";
import type { TextMatch, TransportSpec, UpstreamTlsSpec } from "../spec/mod.ts";
import type { OwnedStream } from "../transport/owned_stream.ts";
import { compileNames, type NameJudge } from "../transport/peer_names.ts";
import { proxyHeader } from "../transport/proxy_header.ts";
import type { Secrets } from "../transport/secrets.ts";
import { SocketDial } from "../transport/socket_dial.ts";
import { SocketStream } from "../transport/socket_stream.ts";
import { TlsStream } from "../transport/tls_stream.ts";
import { refuseEndpoint } from "../transport/tunnel_names.ts";
import { TunnelByteStream } from "../transport/tunnel_stream.ts";
import { describeConnectFailure } from "./connect_failure.ts";
import type { Dialer, DialRequest, DialWaiter } from "./dialer.ts";
import { connectTimeout, localFailure, remoteFailure } from "./failures.ts";
import type { UpstreamFailure, Wait } from "./upstream.ts";

export interface DialerOptions {
  readonly io: IoContext;
  readonly secrets: Secrets;
  /** Which URI names the far end of a tunnel may have: one must match. Empty: any name of the mesh. */
  readonly tunnelPeers: () => readonly TextMatch[];
  /** An outgoing TCP socket of a family: the descriptor, or `-errno`. */
  readonly createSocket: (family: number) => number;
  readonly settings?: HboneSettings;
  /** A tunnel without a stream is closed after this: MeshConfig.hboneIdleTimeout. */
  readonly tunnelIdleMs?: number;
  readonly connectTimeoutMs?: number;
  /** 15008, but for tests. */
  readonly hbonePort?: number;
  /** A tunnel's far end did not prove who it is; once for each handshake. */
  readonly refused?: (failure: HandshakeFailure) => void;
}

export interface WorkerDialer extends Dialer {
  /** Tunnels to endpoints, for metrics and revocation. */
  readonly tunnels: HbonePool;
  close(reason: string): void;
}

const HBONE_PORT = 15_008;
const TUNNEL_IDLE_MS = 3_600_000;
/** MeshConfig.connectTimeout. */
const CONNECT_TIMEOUT_MS = 10_000;
/** As ztunnel's default; the peer's own limit counts beside it. */
const STREAMS_PER_TUNNEL = 100;
/** Envoy names its end of a tunnel so. */
const INTERNAL_ADDRESS = "envoy://internal_client_address/";

export function createDialer(options: DialerOptions): WorkerDialer {
  return new Dials(options);
}

class Dials implements WorkerDialer {
  readonly options: DialerOptions;
  readonly tunnels: HbonePool;
  readonly hbonePort: number;
  readonly #judges = new WeakMap<UpstreamTlsSpec, NameJudge>();
  #peers: { readonly matches: readonly TextMatch[]; readonly tests: readonly TextPredicate[] } | undefined;

  constructor(options: DialerOptions) {
    this.options = options;
    this.hbonePort = options.hbonePort ?? HBONE_PORT;
    this.tunnels = new HbonePool(options.io, {
      settings: options.settings ?? createHboneSettings("client"),
      maxStreamsPerConnection: STREAMS_PER_TUNNEL,
      unusedReleaseMs: options.tunnelIdleMs ?? TUNNEL_IDLE_MS,
      connectTimeoutMs: options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS,
      refused: options.refused,
    });
  }

  dial(request: DialRequest, waiter: DialWaiter): Wait {
    const dial = new Dial(this, request, waiter);
    dial.start();
    return dial;
  }

  /** A tunnel's far end proved these names. A text refuses them. */
  admit(uris: readonly string[]): string | undefined {
    const matches = this.options.tunnelPeers();
    if (this.#peers?.matches !== matches) this.#peers = { matches, tests: matches.map(compileText) };
    return refuseEndpoint(uris, this.#peers.tests);
  }

  judgeOf(tls: UpstreamTlsSpec): NameJudge {
    let judge = this.#judges.get(tls);
    if (judge === undefined) {
      judge = compileNames(tls.insecureSkipVerify ? { ...tls, autoSan: false } : tls);
      this.#judges.set(tls, judge);
    }
    return judge;
  }

  close(reason: string): void {
    this.tunnels.close(reason);
  }
}

class Dial implements Wait, ConnectOwner {
  readonly #dials: Dials;
  readonly #request: DialRequest;
  readonly #waiter: DialWaiter;
  /** Ends what is under way. */
  #cancel: (() => void) | undefined;
  #isDone = false;
  #address = "";

  constructor(dials: Dials, request: DialRequest, waiter: DialWaiter) {
    this.#dials = dials;
    this.#request = request;
    this.#waiter = waiter;
  }

  start(): void {
    const { reach } = this.#request;
    switch (reach.kind) {
      case "direct":
        return this.#dialSocket([reach, ...reach.others]);
      case "hbone":
        return this.#dialTunnel(reach.target, reach.via ?? reach.target);
      case "gateway":
        return this.#fail(localFailure(`${reach.target}: endpoints of other networks are not supported yet`));
    }
  }

  cancel(): void {
    if (this.#isDone) return;
    this.#isDone = true;
    this.#cancel?.();
  }

  // ---- the way

  #dialSocket(addresses: readonly { readonly host: string; readonly port: number }[]): void {
    const unresolved = addresses.find(({ host }) => canonicalIp(host) === undefined);
    if (unresolved !== undefined) return this.#fail(localFailure(`${unresolved.host} is not resolved`));
    const { io, createSocket } = this.#dials.options;
    const { keepalive, timeoutMs } = this.#request;
    const dial = new SocketDial(io.reactor, addresses, timeoutMs, createSocket, {
      socketConnected: (fd) => {
        this.#cancel = undefined;
        if (keepalive !== undefined) setKeepalive(fd, keepalive);
        const local = localAddress(fd);
        if (local !== undefined) {
          this.#address = local.ip.includes(":") ? `[${local.ip}]:${local.port}` : `${local.ip}:${local.port}`;
        }
        this.#wrap(new SocketStream(io, fd), this.#request.transport);
      },
      socketFailed: (detail, timedOut) => this.#fail(timedOut ? connectTimeout(detail) : remoteFailure(detail)),
    });
    this.#cancel = () => dial.cancel();
    dial.start();
  }

  #dialTunnel(target: string, through: string): void {
    const ip = ipOf(through);
    if (ip === undefined) return this.#fail(localFailure(`${through} is no address to open a tunnel to`));
    const { io, secrets, createSocket } = this.#dials.options;
    let context: TlsContext;
    try {
      context = secrets.tunnel("client");
    } catch (error) {
      return this.#fail(localFailure(`the waypoint has no identity to open a tunnel with: ${messageOf(error)}`));
    }
    const dials = this.#dials;
    const plan: DialPlan = {
      ip,
      port: dials.hbonePort,
      // As it is when a connection is made: the certificate may have been renewed by then.
      get context() {
        return context.pointer === null ? secrets.tunnel("client") : context;
      },
      createSocket,
      admit: (uris) => dials.admit(uris),
    };
    const connect = new ConnectStream(
      io.reactor,
      {
        acquire: (waiter) => dials.tunnels.acquire(ip, plan, waiter),
        cancel: (waiter) => dials.tunnels.cancel(ip, waiter),
      },
      [":method", "CONNECT", ":authority", target],
      this,
    );
    this.#cancel = () => connect.cancel();
    connect.start();
  }

  connectAccepted(tunnel: HboneConnection, stream: TunnelStream, _fields: Fields, endStream: boolean): void {
    this.#cancel = undefined;
    this.#address = INTERNAL_ADDRESS;
    const { io } = this.#dials.options;
    this.#wrap(new TunnelByteStream(io.reactor, io.pool, tunnel, stream, endStream), this.#request.transport);
  }

  connectFailed(failure: ConnectFailure): void {
    const { reach } = this.#request;
    const through = reach.kind === "hbone" ? reach.via ?? reach.target : "";
    this.#fail(
      describeConnectFailure(failure, `${through.slice(0, through.lastIndexOf(":"))}:${this.#dials.hbonePort}`),
    );
  }

  // ---- what goes inside

  #wrap(stream: OwnedStream, transport: TransportSpec): void {
    switch (transport.kind) {
      case "raw":
        return this.#finish(stream);
      case "proxy protocol": {
        const { ends } = this.#request;
        const header = ends === undefined
          ? proxyHeader(transport.version, NOWHERE, NOWHERE)
          : proxyHeader(transport.version, ends.source, ends.destination);
        stream.write(header, 0, header.length);
        return this.#wrap(stream, transport.inner);
      }
      case "tls":
        return this.#encrypt(stream, transport.tls);
    }
  }

  #encrypt(below: OwnedStream, tls: UpstreamTlsSpec): void {
    const { io, secrets } = this.#dials.options;
    const { serverName, protocol } = this.#request;
    const named = tls.autoSni && serverName !== "" ? serverName : tls.sni;
    const alpn = tls.alpn.length > 0 || protocol === "" ? tls.alpn : [protocol];
    const judge = this.#dials.judgeOf(tls);
    try {
      const stream = new TlsStream(io.reactor, io.pool, below, {
        context: secrets.client(tls, alpn),
        // An address is no name to ask for (RFC 6066 section 3).
        serverName: canonicalIp(named) === undefined ? named : "",
        judge: (names) => judge(names, serverName),
      }, {
        tlsReady: (stream) => this.#finish(stream),
        tlsFailed: (detail) => this.#fail(remoteFailure(`TLS: ${detail}`)),
      });
      this.#cancel = () => stream.reset();
    } catch (error) {
      below.reset();
      this.#fail(localFailure(`TLS: ${messageOf(error)}`));
    }
  }

  #finish(stream: OwnedStream): void {
    if (this.#isDone) return stream.reset();
    this.#isDone = true;
    this.#cancel = undefined;
    this.#waiter.dialed(stream, this.#address);
  }

  #fail(failure: UpstreamFailure): void {
    if (this.#isDone) return;
    this.#isDone = true;
    this.#cancel = undefined;
    this.#waiter.dialFailed(failure);
  }
}

/** No address of either family: the header says that it does not know. */
const NOWHERE = { ip: "", port: 0 };

/** Of `10.0.0.1:80`, `[2001:db8::1]:80`, or the address alone. */
function ipOf(address: string): string | undefined {
  const bracket = /^\[(.*)\](:\d+)?$/.exec(address);
  if (bracket !== null) return canonicalIp(bracket[1]);
  return canonicalIp(address) ?? canonicalIp(address.slice(0, Math.max(0, address.lastIndexOf(":"))));
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
