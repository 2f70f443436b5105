/**
 * A connection that a pod's application opened (15001): where it was going, what the mesh makes of that, then a tunnel or
 * a plain connection, then bytes (reference ztunnel, section 5).
 *
 * The application's connect has succeeded already, so every failure is a reset that it sees on its first read or write.
 */
import { describeErrno, ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT } from "../platform/errno.ts";
import { AF_INET, AF_INET6, isIpv6, type SocketAddress } from "../platform/sockaddr.ts";
import { type ConnectHandler, Connector } from "../net/connector.ts";
import { Timer, type TimerTarget } from "../net/reactor.ts";
import { TcpRelay, type TcpRelayEnd, type TcpRelayOwner } from "../net/tcp_relay.ts";
import type { HboneConnection, TunnelStream, TunnelUser } from "../hbone/connection.ts";
import type { DialFailure, TunnelWaiter } from "../hbone/pool.ts";
import { type RelayEnd, type RelayOwner, TunnelRelay } from "../hbone/tunnel_relay.ts";
import {
  formatForwarded,
  formatSocketAddress,
  type MeshStore,
  type Outbound,
  peerLabels,
  peerNames,
  resolveOutbound,
  serviceLabels,
  UNKNOWN_PEER,
  type Workload,
} from "../mesh/mod.ts";
import { ErrorCode, type Fields } from "../protocol/http2/mod.ts";
import type { ResponseFlags } from "../telemetry/traffic_metrics.ts";
import { ConnectionRecord } from "./connection_record.ts";
import { CONNECT_TIMEOUT_MS, type PodConnection, type PodProxy, resetClient } from "./pod_proxy.ts";
import { admitServer } from "./peer_identity.ts";
import type { MeshWaiter } from "./mesh_cache.ts";

/** The peer connects to its application within 10 s, then answers; ztunnel itself waits for ever. */
const RESPONSE_TIMEOUT_MS = 20_000;

/** A stream that was refused unprocessed is asked for again this often, on whichever tunnel the pool gives. */
const MAX_REFUSALS = 3;

type Hbone = Extract<Outbound, { kind: "hbone" }>;

export class OutboundConnection
  implements
    PodConnection,
    MeshWaiter,
    TunnelWaiter,
    TunnelUser,
    ConnectHandler,
    RelayOwner,
    TcpRelayOwner,
    TimerTarget {
  readonly #pod: PodProxy;
  /** The application's descriptor until a relay owns it, then -1. */
  #fd: number;
  readonly #peer: SocketAddress;
  readonly #target: SocketAddress;
  readonly #startMs: number;
  readonly #timer = new Timer(this);
  #decision: Outbound | undefined;
  #record: ConnectionRecord | undefined;
  #poolKey = "";
  #refusals = 0;
  #connector: Connector | undefined;
  #tunnel: HboneConnection | undefined;
  #stream: TunnelStream | undefined;
  #relay: TunnelRelay | TcpRelay | undefined;
  #done = false;

  constructor(pod: PodProxy, fd: number, peer: SocketAddress, target: SocketAddress) {
    this.#pod = pod;
    this.#fd = fd;
    this.#peer = peer;
    this.#target = target;
    this.#startMs = pod.env.io.reactor.nowMs;
  }

  start(): void {
    this.#pod.enter(this);
    const { env, workload } = this.#pod;
    if (isLoopback(this.#target.ip) && env.settings.illegalPorts.includes(this.#target.port)) {
      return this.#deny("attempted recursive call to ourselves");
    }
    const mesh = env.mesh.lookup(
      { kind: "address", network: env.settings.network, ip: this.#target.ip, namespace: workload.namespace },
      this,
    );
    if (mesh !== undefined) this.meshAnswered(mesh);
  }

  meshAnswered(mesh: MeshStore | undefined): void {
    if (this.#done) return;
    if (mesh === undefined) return this.#deny("the control plane of this proxy did not answer in time");
    const { env, workload } = this.#pod;
    const decision = resolveOutbound(
      mesh,
      {
        network: env.settings.network,
        target: this.#target,
        client: { workload, ip: this.#peer.ip },
        ipv6Enabled: env.settings.ipv6Enabled,
      },
      env.random,
    );
    this.#decision = decision;
    switch (decision.kind) {
      case "passthrough":
        this.#open(decision.to, undefined, undefined, undefined);
        return this.#connect(decision.to);
      case "tcp":
        this.#open(decision.to, decision.workload, decision.service, undefined);
        return this.#connect(decision.to);
      case "hbone":
        return this.#openTunnel(decision);
      case "refused":
        return this.#deny(`${decision.message} (${decision.hint})`);
      case "doubleHbone":
        return this.#deny(
          `${formatSocketAddress(this.#target)} is in another network, which this version cannot reach`,
        );
      case "needsDns":
        return this.#deny(
          `${decision.hostname} has no address, and this version does not resolve names of workloads`,
        );
    }
  }

  /** A stream slot is there: ask the peer for the connection. */
  tunnelReady(connection: HboneConnection): void {
    if (this.#done) return;
    const { env, baggage } = this.#pod;
    const decision = this.#decision as Hbone;
    const stream = connection.h2.openStream(
      [
        ":method",
        "CONNECT",
        ":authority",
        decision.authority,
        "baggage",
        baggage,
        "forwarded",
        formatForwarded(this.#peer, decision.service?.hostname),
        "traceparent",
        `00-${env.randomHex(16)}-${env.randomHex(8)}-00`,
      ],
      false,
      this,
    );
    if (stream === undefined) return this.#fail("CONNECT", "the tunnel takes no more streams; try again");
    this.#tunnel = connection;
    this.#stream = stream;
    env.io.reactor.setTimer(this.#timer, RESPONSE_TIMEOUT_MS);
    connection.touch();
  }

  tunnelFailed(failure: DialFailure): void {
    if (this.#done) return;
    switch (failure.stage) {
      case "connect":
        return failure.code === ETIMEDOUT
          ? this.#fail(
            "NETWORK_POLICY",
            "connection timed out, maybe a NetworkPolicy is blocking HBONE port 15008",
          )
          : this.#fail("CONNECT", `cannot reach ${this.#hop()}: ${describeErrno(failure.code)}${hint(failure.code)}`);
      case "tls":
        return this.#fail("TLS_FAILURE", `tls error with ${this.#hop()}: ${failure.message}`);
      case "identity":
        return this.#fail("IDENTITY_ERROR", failure.message);
      case "closed":
        return this.#fail("CONNECT", failure.message);
    }
  }

  headers(stream: TunnelStream, fields: Fields, endStream: boolean): void {
    const status = fields[0] === ":status" ? fields[1] : "";
    if (status.startsWith("1")) return;
    this.#pod.env.io.reactor.cancelTimer(this.#timer);
    if (status !== "200") return this.#fail("CONNECT", `http status: ${status}${STATUS_HINTS[status] ?? ""}`);
    const tunnel = this.#tunnel as HboneConnection;
    const relay = new TunnelRelay(this.#pod.env.io, this.#takeFd(), tunnel, stream, this);
    this.#relay = relay;
    this.#record?.follow({ fromClient: () => relay.bytesIn, fromServer: () => relay.bytesOut });
    if (endStream) relay.headers(stream, fields, true);
  }

  /** DATA before the response is nothing a server may send. */
  data(): void {
    this.#fail("CONNECT", "the tunnel sent data before it accepted the connection");
  }

  writable(): void {}

  reset(stream: TunnelStream, code: number): void {
    if (stream !== this.#stream) return;
    this.#stream = undefined;
    // The peer says that it did nothing with the request (RFC 9113 section 8.7): a GOAWAY crossed it, or its limit was reached.
    if (code === ErrorCode.REFUSED_STREAM && this.#refusals++ < MAX_REFUSALS) {
      this.#tunnel = undefined;
      this.#pod.env.io.reactor.cancelTimer(this.#timer);
      return this.#acquire();
    }
    this.#fail("CONNECT", `the tunnel refused the connection with HTTP/2 error ${code}`);
  }

  closed(stream: TunnelStream): void {
    if (stream !== this.#stream) return;
    this.#stream = undefined;
    this.#fail("CONNECT", "the tunnel ended before it accepted the connection");
  }

  connected(fd: number): void {
    this.#connector = undefined;
    const relay = new TcpRelay(this.#pod.env.io, this.#takeFd(), fd, this);
    this.#relay = relay;
    this.#record?.follow({ fromClient: () => relay.bytesFromClient, fromServer: () => relay.bytesFromServer });
  }

  connectFailed(code: number): void {
    this.#connector = undefined;
    this.#fail("CONNECT", `cannot reach ${this.#hop()}: ${describeErrno(code)}${hint(code)}`);
  }

  relayEnded(end: RelayEnd): void {
    this.#finish("-", end.kind === "reset" && end.detail !== "" ? end.detail : undefined);
  }

  tcpRelayEnded(end: TcpRelayEnd): void {
    this.#finish("-", end.kind === "reset" && end.detail !== "" ? end.detail : undefined);
  }

  expired(): void {
    this.#fail("CONNECT", `the peer did not answer the CONNECT request within ${RESPONSE_TIMEOUT_MS / 1000} s`);
  }

  /** Policies of the own workload are about inbound connections. */
  stateChanged(): void {}

  cut(reason: string): void {
    if (this.#relay !== undefined) this.#relay.cut(reason);
    else this.#fail("CONNECT", reason);
  }

  #openTunnel(decision: Hbone): void {
    this.#open(decision.tunnelTo, decision.workload, decision.service, decision.authority);
    this.#acquire();
  }

  #acquire(): void {
    const pod = this.#pod;
    const decision = this.#decision as Hbone;
    const { ip, port } = decision.tunnelTo;
    this.#poolKey = `${pod.identity}|${decision.expectedIdentities.join(",")}|${ip}|${port}`;
    pod.pool.acquire(this.#poolKey, {
      ip,
      port,
      // Read when a handshake begins: the pool keeps this plan, and the certificate may be replaced meanwhile.
      get context() {
        return pod.clientContext;
      },
      createSocket: (family) => pod.sockets.createClient(family),
      admit: (uris) => admitServer(uris, decision.expectedIdentities),
    }, this);
  }

  #connect(to: SocketAddress): void {
    const family = isIpv6(to.ip) ? AF_INET6 : AF_INET;
    const fd = this.#pod.sockets.createClient(family);
    if (fd < 0) return this.connectFailed(-fd);
    const connector = new Connector(this.#pod.env.io.reactor, this, fd, family, to.ip, to.port, CONNECT_TIMEOUT_MS);
    if (!this.#done) this.#connector = connector;
  }

  #open(
    to: SocketAddress,
    workload: Workload | undefined,
    service: Parameters<typeof serviceLabels>[0] | undefined,
    authority: string | undefined,
  ): void {
    const mutualTls = authority !== undefined;
    const own = this.#pod.workload;
    this.#record = new ConnectionRecord(this.#pod.env.keeper, {
      direction: "outbound",
      pod: this.#pod.description.uid,
      peer: this.#peer,
      source: { labels: peerLabels(own, mutualTls), names: peerNames(own, mutualTls) },
      destination: workload === undefined
        ? NOBODY
        : { labels: peerLabels(workload, mutualTls), names: peerNames(workload, mutualTls) },
      service: service === undefined ? undefined : serviceLabels(service),
      actual: to,
      hboneAddress: authority,
      original: formatSocketAddress(this.#target),
      mutualTls,
    }, this.#startMs);
  }

  #takeFd(): number {
    const fd = this.#fd;
    this.#fd = -1;
    return fd;
  }

  #hop(): string {
    const { actual } = (this.#record as ConnectionRecord).ends;
    return formatSocketAddress(actual);
  }

  /** Refused before anything is known of the other end: a warning, no metrics. */
  #deny(error: string): void {
    this.#pod.env.access.failed(
      formatSocketAddress(this.#peer),
      formatSocketAddress(this.#target),
      "outbound",
      error,
    );
    this.#finish("CONNECT", error);
  }

  #fail(flags: ResponseFlags, error: string): void {
    if (this.#done) return;
    const { stream, tunnel } = { stream: this.#stream, tunnel: this.#tunnel };
    this.#stream = undefined;
    this.#finish(flags, error);
    if (stream !== undefined && tunnel !== undefined) {
      tunnel.h2.resetStream(stream, ErrorCode.CANCEL);
      tunnel.touch();
    }
  }

  #finish(flags: ResponseFlags, error: string | undefined): void {
    if (this.#done) return;
    this.#done = true;
    this.#pod.env.io.reactor.cancelTimer(this.#timer);
    this.#connector?.cancel();
    if (this.#poolKey !== "" && this.#tunnel === undefined) this.#pod.pool.cancel(this.#poolKey, this);
    if (this.#fd !== -1) resetClient(this.#pod.env.io, this.#takeFd());
    this.#record?.end(flags, error);
    this.#pod.leave(this);
  }
}

const NOBODY = {
  labels: UNKNOWN_PEER,
  names: { workload: undefined, namespace: undefined, identity: undefined, cluster: undefined },
};

const STATUS_HINTS: Readonly<Record<string, string>> = {
  "400": " Bad Request; the destination does not take connections for this address",
  "401": " Unauthorized; an authorization policy of the destination does not allow this client",
  "503": " Service Unavailable; the destination's application does not answer",
};

function isLoopback(ip: string): boolean {
  return ip === "::1" || ip.startsWith("127.");
}

function hint(code: number): string {
  switch (code) {
    case ECONNREFUSED:
      return "; nothing listens there";
    case ETIMEDOUT:
      return "; a NetworkPolicy or firewall may block it";
    case EHOSTUNREACH:
    case ENETUNREACH:
      return "; the address is not reachable from this node";
    default:
      return "";
  }
}
