/**
 * A connection that a pod's application opened (15001): where it was going, what the mesh makes of that, then a tunnel or
 * a plain connection, then bytes (reference ztunnel, section 5).
 *
 * The application's connect has succeeded already, so every failure is a reset that it sees on its first read or write.
 */
import { AF_INET, AF_INET6, isIpv6, type SocketAddress } from "../platform/sockaddr.ts";
import { type ConnectHandler, Connector } from "../net/connector.ts";
import { Timer, type TimerTarget } from "../net/reactor.ts";
import { TcpRelay, type TcpRelayEnd, type TcpRelayOwner } from "../net/tcp_relay.ts";
import type { ConnectFailure, ConnectOwner, ConnectStream } from "../hbone/connect_stream.ts";
import type { HboneConnection, TunnelStream } from "../hbone/connection.ts";
import { type RelayEnd, type RelayOwner, TunnelRelay } from "../hbone/tunnel_relay.ts";
import {
  formatSocketAddress,
  type MeshStore,
  type Outbound,
  parseBaggage,
  peerLabels,
  peerLabelsOfBaggage,
  peerNames,
  peerNamesOfBaggage,
  serviceLabels,
  UNKNOWN_PEER,
  type Workload,
} from "../mesh/mod.ts";
import type { Fields } from "../protocol/http2/mod.ts";
import type { ResponseFlags } from "../telemetry/traffic_metrics.ts";
import { describeFailure, unreachable } from "./connect_failure.ts";
import { type ConnectionEnds, ConnectionRecord, outcomeOf } from "./connection_record.ts";
import type { HostWaiter } from "./dns/host_resolver.ts";
import type { MeshWaiter } from "./mesh_cache.ts";
import type { OutboundRoute } from "./outbound_routes.ts";
import { requestTunnel, type Tunnelled } from "./outbound_tunnel.ts";
import { CONNECT_TIMEOUT_MS, type PodConnection, type PodProxy, resetClient } from "./pod_proxy.ts";

/** A resolver tries more than one server, more than once; ztunnel's gives up after this long too. */
const DNS_TIMEOUT_MS = 10_000;

/** For a client that asked for the connection by a protocol of its own (SOCKS) and is told what became of it. */
export interface OutboundClient {
  /** The connection is there; its bytes follow on the descriptor. */
  connected(fd: number): void;
  /** The descriptor is the client's to close. */
  refused(fd: number, flags: ResponseFlags): void;
}

export class OutboundConnection
  implements
    PodConnection,
    MeshWaiter,
    HostWaiter,
    ConnectOwner,
    ConnectHandler,
    RelayOwner,
    TcpRelayOwner,
    TimerTarget {
  readonly #pod: PodProxy;
  /** The application's descriptor until a relay owns it, then -1. */
  #fd: number;
  readonly #peer: SocketAddress;
  readonly #target: SocketAddress;
  readonly #client: OutboundClient | undefined;
  readonly #startMs: number;
  readonly #route: OutboundRoute;
  /** Of a name that is being looked up. */
  #timer: Timer | undefined;
  #needsDns: Extract<Outbound, { kind: "needsDns" }> | undefined;
  #decision: Tunnelled | undefined;
  /** What was proved by who is behind a gateway. */
  #farIdentity = "";
  #record: ConnectionRecord | undefined;
  #connector: Connector | undefined;
  #connect: ConnectStream | undefined;
  #relay: TunnelRelay | TcpRelay | undefined;
  #done = false;

  constructor(pod: PodProxy, fd: number, peer: SocketAddress, target: SocketAddress, client?: OutboundClient) {
    this.#pod = pod;
    this.#fd = fd;
    this.#peer = peer;
    this.#target = target;
    this.#client = client;
    this.#route = pod.routes.to(target, pod.workload.namespace);
    this.#startMs = pod.env.io.reactor.nowMs;
  }

  start(): void {
    this.#pod.enter(this);
    const { env } = this.#pod;
    if (isLoopback(this.#target.ip) && env.settings.illegalPorts.includes(this.#target.port)) {
      return this.#deny("attempted recursive call to ourselves");
    }
    const mesh = env.mesh.lookup(this.#route.query, this, this.#route.key);
    if (mesh !== undefined) this.meshAnswered(mesh);
  }

  meshAnswered(mesh: MeshStore | undefined): void {
    if (this.#done) return;
    if (mesh === undefined) return this.#deny("the control plane of this proxy did not answer in time");
    // A client on the pod's loopback (SOCKS) is the pod too.
    const { ip } = this.#peer;
    const clientIp = isLoopback(ip) ? this.#pod.workload.workloadIps[0] ?? ip : ip;
    this.#follow(this.#route.decide(this.#pod, mesh, clientIp));
  }

  hostResolved(ip: string | undefined, reason: string): void {
    const waiting = this.#needsDns;
    if (this.#done || waiting === undefined) return;
    this.#needsDns = undefined;
    if (this.#timer !== undefined) this.#pod.env.io.reactor.cancelTimer(this.#timer);
    if (ip === undefined) return this.#deny(reason);
    this.#follow(waiting.withAddress(ip));
  }

  /** The peer took the connection: from now on bytes flow. */
  connectAccepted(tunnel: HboneConnection, stream: TunnelStream, fields: Fields, endStream: boolean): void {
    const decision = this.#decision as Tunnelled;
    if (this.#record === undefined) this.#record = this.#open(this.#farEnds(decision, fields));
    this.#client?.connected(this.#fd);
    // The application was connected before the tunnel was asked for, so what it says first is mostly there.
    const relay = new TunnelRelay(this.#pod.env.io, this.#takeFd(), tunnel, stream, this, "client");
    this.#relay = relay;
    this.#record.follow(relay);
    relay.start();
    if (endStream) relay.headers(stream, fields, true);
  }

  connected(fd: number): void {
    this.#connector = undefined;
    this.#client?.connected(this.#fd);
    const relay = new TcpRelay(this.#pod.env.io, this.#takeFd(), fd, this);
    this.#relay = relay;
    this.#record?.follow(relay);
    this.#pod.lateKeepalive.add(fd);
  }

  /** By a tunnel that was not had, or by a socket that was not connected. */
  connectFailed(failure: ConnectFailure | number): void {
    if (this.#done) return;
    this.#connector = undefined;
    if (typeof failure === "number") {
      const { flags, error } = unreachable(
        failure,
        formatSocketAddress((this.#record as ConnectionRecord).ends.actual),
      );
      return this.#finish(flags, error);
    }
    const decision = this.#decision as Tunnelled;
    const { flags, error } = describeFailure(failure, formatSocketAddress(decision.tunnelTo));
    this.#fail(flags, error);
  }

  relayEnded(end: RelayEnd): void {
    const { flags, error } = outcomeOf(end);
    this.#finish(flags, error);
  }

  tcpRelayEnded(end: TcpRelayEnd): void {
    const { flags, error } = outcomeOf(end);
    this.#finish(flags, error);
  }

  expired(): void {
    const waiting = this.#needsDns;
    if (waiting === undefined) return;
    this.#pod.env.hosts?.cancel(waiting.hostname, this);
    this.hostResolved(
      undefined,
      `cannot resolve ${waiting.hostname}: no answer within ${
        DNS_TIMEOUT_MS / 1000
      } s; check this proxy's name servers`,
    );
  }

  /** Policies of the own workload are about inbound connections. */
  stateChanged(): void {}

  cut(reason: string): void {
    if (this.#relay !== undefined) this.#relay.cut(reason);
    else if (this.#record === undefined && this.#decision === undefined) this.#deny(reason);
    else this.#fail("CONNECT", reason);
  }

  #follow(decision: Outbound): void {
    switch (decision.kind) {
      case "passthrough":
        this.#record = this.#open(this.#ends(decision.to, undefined, undefined, undefined));
        return this.#dial(decision.to);
      case "tcp":
        this.#record = this.#open(this.#ends(decision.to, decision.workload, decision.service, undefined));
        return this.#dial(decision.to);
      case "hbone":
        this.#record = this.#open(this.#tunnelEnds(decision));
        return this.#ask(decision);
      case "doubleHbone":
        // What is at the far end is known by its answer.
        return this.#ask(decision);
      case "needsDns":
        return this.#resolve(decision);
      case "refused":
        return this.#deny(`${decision.message} (${decision.hint})`);
    }
  }

  #resolve(decision: Extract<Outbound, { kind: "needsDns" }>): void {
    const { env, workload } = this.#pod;
    const { hosts } = env;
    if (hosts === undefined) return this.#deny(`${decision.hostname} has no address, and nothing here resolves names`);
    this.#needsDns = decision;
    this.#timer = new Timer(this);
    env.io.reactor.setTimer(this.#timer, DNS_TIMEOUT_MS);
    hosts.resolve(decision.hostname, decision.preferIpv6, peerLabels(workload, false), this);
  }

  #ask(decision: Tunnelled): void {
    this.#decision = decision;
    const pooled = this.#route.tunnels(this.#pod, decision);
    this.#connect = requestTunnel(this.#pod, decision, this.#peer, this, pooled, (uri) => this.#farIdentity = uri);
    this.#connect.start();
  }

  #dial(to: SocketAddress): void {
    const family = isIpv6(to.ip) ? AF_INET6 : AF_INET;
    const fd = this.#pod.stock.take(family);
    if (fd < 0) return this.connectFailed(-fd);
    const connector = new Connector(this.#pod.env.io.reactor, this, fd, family, to.ip, to.port, CONNECT_TIMEOUT_MS);
    if (!connector.done) this.#connector = connector;
  }

  #open(ends: ConnectionEnds): ConnectionRecord {
    return new ConnectionRecord(this.#pod.env.keeper, ends, this.#startMs);
  }

  #ends(
    to: SocketAddress,
    workload: Workload | undefined,
    service: Parameters<typeof serviceLabels>[0] | undefined,
    authority: string | undefined,
    nested = false,
  ): ConnectionEnds {
    const mutualTls = authority !== undefined;
    const own = this.#pod.workload;
    return {
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
      original: this.#route.original,
      mutualTls,
      nested,
    };
  }

  #tunnelEnds({ kind, tunnelTo, workload, service, authority }: Tunnelled): ConnectionEnds {
    return this.#ends(tunnelTo, workload, service, authority, kind === "doubleHbone");
  }

  /** Behind a gateway the destination says itself who it is; what it proved goes before what it says. */
  #farEnds(decision: Tunnelled, response: Fields): ConnectionEnds {
    const ends = this.#tunnelEnds(decision);
    const at = response.indexOf("baggage");
    if (at < 0 || at % 2 !== 0 || !this.#pod.env.settings.responseBaggage) return ends;
    const baggage = parseBaggage(response[at + 1]);
    const identity = this.#farIdentity;
    const destination = {
      labels: peerLabelsOfBaggage(baggage, identity),
      names: peerNamesOfBaggage(baggage, identity),
    };
    return { ...ends, destination };
  }

  #takeFd(): number {
    const fd = this.#fd;
    this.#fd = -1;
    return fd;
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
    if (this.#record === undefined && this.#decision !== undefined) {
      this.#record = this.#open(this.#tunnelEnds(this.#decision));
    }
    this.#finish(flags, error);
  }

  #finish(flags: ResponseFlags, error: string | undefined): void {
    if (this.#done) return;
    this.#done = true;
    const { env } = this.#pod;
    if (this.#timer !== undefined) env.io.reactor.cancelTimer(this.#timer);
    if (this.#needsDns !== undefined) env.hosts?.cancel(this.#needsDns.hostname, this);
    this.#connector?.cancel();
    if (this.#fd !== -1) {
      const fd = this.#takeFd();
      if (this.#client === undefined) resetClient(env.io, fd);
      else this.#client.refused(fd, flags);
    }
    this.#record?.end(flags, error);
    this.#connect?.cancel();
    this.#pod.leave(this);
  }
}

const NOBODY = {
  labels: UNKNOWN_PEER,
  names: { workload: undefined, namespace: undefined, identity: undefined, cluster: undefined },
};

function isLoopback(ip: string): boolean {
  return ip === "::1" || ip.startsWith("127.");
}
