/**
 * One CONNECT request at its destination's proxy (15008): is it one, may it be asked here, is it allowed, does the
 * application answer; then bytes (reference ztunnel 6.2). Each failure has its status: 400, 401 or 503.
 */
import type { SocketAddress } from "../platform/sockaddr.ts";
import { ByteQueue } from "../net/byte_queue.ts";
import type { ConnectHandler, Connector } from "../net/connector.ts";
import { Timer, type TimerTarget } from "../net/reactor.ts";
import type { TunnelStream, TunnelUser } from "../hbone/connection.ts";
import type { ServerTunnel } from "../hbone/server.ts";
import { type RelayEnd, type RelayOwner, TunnelRelay } from "../hbone/tunnel_relay.ts";
import {
  type Authority,
  type ConnectionFacts,
  formatSocketAddress,
  type Inbound,
  MeshStore,
  parseAuthority,
  parseBaggage,
  parseForwarded,
  peerLabels,
  peerLabelsOfBaggage,
  peerNames,
  peerNamesOfBaggage,
  resolveInbound,
  type Service,
  serviceLabels,
  type Verdict,
  type Workload,
} from "../mesh/mod.ts";
import { describeAuthority, inboundService } from "../mesh/inbound.ts";
import { ErrorCode, type Fields } from "../protocol/http2/mod.ts";
import type { ResponseFlags } from "../telemetry/traffic_metrics.ts";
import { ConnectionRecord } from "./connection_record.ts";
import {
  applicationError,
  checkPolicies,
  connectApplication,
  denialText,
  MISSING_POLICY_WAIT_MS,
  recheckPolicies,
} from "./inbound_access.ts";
import type { MeshWaiter } from "./mesh_cache.ts";
import type { MeshQuery } from "./messages.ts";
import type { PodConnection, PodProxy } from "./pod_proxy.ts";

type Forward = Extract<Inbound, { kind: "forward" }>;

const NO_MESH = new MeshStore();

export class InboundConnection
  implements PodConnection, MeshWaiter, TunnelUser, ConnectHandler, RelayOwner, TimerTarget {
  readonly #pod: PodProxy;
  readonly #tunnel: ServerTunnel;
  readonly #stream: TunnelStream;
  readonly #fields: Fields;
  readonly #startMs: number;
  readonly #timer = new Timer(this);
  #authority: Authority = { kind: "invalid", message: "" };
  #forward: Forward | undefined;
  #facts: ConnectionFacts | undefined;
  #record: ConnectionRecord | undefined;
  #connector: Connector | undefined;
  #relay: TunnelRelay | undefined;
  /** Bytes that came before the application was reached; a well-behaved peer sends none before our 200. */
  #early: ByteQueue | undefined;
  #earlyEnd = false;
  #waitsForPolicy = false;
  #streamDead = false;
  #done = false;

  constructor(pod: PodProxy, tunnel: ServerTunnel, stream: TunnelStream, fields: Fields) {
    this.#pod = pod;
    this.#tunnel = tunnel;
    this.#stream = stream;
    this.#fields = fields;
    this.#startMs = pod.env.io.reactor.nowMs;
    stream.user = this;
    pod.enter(this);
    if (field(fields, ":method") !== "CONNECT" || field(fields, ":protocol") !== undefined) {
      this.#reject(400, "only CONNECT is served here");
      return;
    }
    this.#authority = parseAuthority(field(fields, ":authority") ?? "");
    this.#step();
  }

  meshAnswered(mesh: MeshStore | undefined): void {
    if (this.#done) return;
    if (mesh === undefined) return this.#reject(503, "the control plane of this proxy did not answer in time");
    this.#step();
  }

  headers(): void {}

  data(_stream: TunnelStream, bytes: Uint8Array, start: number, end: number, endStream: boolean): void {
    if (this.#done) {
      this.#stream.consume(end - start);
      return;
    }
    // In pooled chunks: the stream's window bounds the bytes, but not in how many frames they come.
    if (end > start) (this.#early ??= new ByteQueue(this.#pod.env.io.pool)).push(bytes, start, end);
    this.#earlyEnd ||= endStream;
  }

  writable(): void {}

  reset(): void {
    this.#streamDead = true;
    this.#finish("-", "the client gave up before the connection was made");
  }

  closed(): void {
    this.#streamDead = true;
    this.#finish("-", "the client gave up before the connection was made");
  }

  connected(fd: number): void {
    this.#connector = undefined;
    const { env, baggage } = this.#pod;
    const { connection } = this.#tunnel;
    const fields = env.settings.responseBaggage ? [":status", "200", "baggage", baggage] : [":status", "200"];
    connection.h2.respond(this.#stream, fields, false);
    connection.touch();
    const relay = new TunnelRelay(env.io, fd, connection, this.#stream, this);
    this.#relay = relay;
    this.#record?.follow({ fromClient: () => relay.bytesOut, fromServer: () => relay.bytesIn });
    const early = this.#early;
    this.#early = undefined;
    early?.drain((bytes, start, end) => {
      relay.data(this.#stream, bytes, start, end, false);
      return end - start;
    });
    if (this.#earlyEnd) relay.headers(this.#stream, fields, true);
  }

  connectFailed(code: number): void {
    this.#connector = undefined;
    this.#finish("CONNECT", applicationError((this.#forward as Forward).to, code));
    this.#respond(503);
  }

  relayEnded(end: RelayEnd): void {
    this.#streamDead = true;
    this.#finish("-", end.kind === "reset" && end.detail !== "" ? end.detail : undefined);
  }

  expired(): void {
    this.#waitsForPolicy = false;
    this.#decide();
  }

  stateChanged(): void {
    if (this.#done || this.#facts === undefined) return;
    if (this.#waitsForPolicy) return this.#decide();
    const verdict = recheckPolicies(this.#pod, this.#facts);
    if (verdict.allowed) return;
    const text = `connection closed due to policy change: ${verdict.reason} (${verdict.explanation})`;
    this.#cut("DENY", text);
  }

  cut(reason: string): void {
    this.#cut("CONNECT", reason);
  }

  /** Goes on as far as what is known of the mesh allows; asks for what is missing and comes back here. */
  #step(): void {
    const { env, workload } = this.#pod;
    const { settings, mesh } = env;
    const authority = this.#authority;
    const localIp = this.#tunnel.local.ip;
    const source = mesh.lookup(
      { kind: "address", network: settings.network, ip: this.#tunnel.peer.ip, namespace: undefined },
      this,
    );
    if (source === undefined) return;
    const own = mesh.lookup({ kind: "workload", uid: workload.uid }, this);
    if (own === undefined) return;
    const query = destinationQuery(authority, localIp, settings.network, workload);
    const view = query === undefined ? NO_MESH : mesh.lookup(query, this);
    if (view === undefined) return;

    const outcome = resolveInbound(view, {
      authority,
      network: settings.network,
      localIp,
      workload,
      illegalPorts: settings.illegalPorts,
      localhostAppTunnel: settings.localhostAppTunnel,
    });
    if (outcome.kind === "rejected") return this.#reject(outcome.status, `${outcome.message} (${outcome.hint})`);
    if (outcome.proxyTo !== undefined) {
      return this.#reject(503, "the workload wants a PROXY tunnel, which this version does not write");
    }
    this.#forward = outcome;
    this.#open(source, own, outcome);
    this.#facts = {
      sourceIp: this.#tunnel.peer.ip,
      sourceIdentity: this.#tunnel.identity,
      destinationIp: outcome.destination.ip,
      destinationPort: outcome.destination.port,
    };
    if (this.#pod.policies.missing.length > 0) {
      this.#waitsForPolicy = true;
      env.io.reactor.setTimer(this.#timer, MISSING_POLICY_WAIT_MS);
      return;
    }
    this.#decide();
  }

  /** The policies' word, and what follows from it. */
  #decide(): void {
    const facts = this.#facts as ConnectionFacts;
    const verdict: Verdict = checkPolicies(this.#pod, facts);
    if (!verdict.allowed) {
      if (verdict.kind === "missing_policy" && this.#waitsForPolicy) return;
      this.#finish("DENY", denialText(verdict));
      return this.#respond(401);
    }
    this.#waitsForPolicy = false;
    this.#pod.env.io.reactor.cancelTimer(this.#timer);
    const forward = this.#forward as Forward;
    this.#connector = connectApplication(this.#pod, forward.to, this.#tunnel.peer, this, false);
  }

  #open(source: MeshStore, own: MeshStore, forward: Forward): void {
    const { env, workload, description } = this.#pod;
    const forwarded = parseForwarded(field(this.#fields, "forwarded") ?? "");
    const service: Service | undefined = forward.service ??
      inboundService(own, workload, forward.destination.port, forwarded.host);
    this.#record = new ConnectionRecord(env.keeper, {
      direction: "inbound",
      pod: description.uid,
      peer: this.#tunnel.peer,
      source: this.#sourceNames(source),
      destination: { labels: peerLabels(workload, true), names: peerNames(workload, true) },
      service: service === undefined ? undefined : serviceLabels(service),
      actual: this.#tunnel.local,
      hboneAddress: describeAuthority(this.#authority),
      original: forwarded.host,
      mutualTls: true,
    }, this.#startMs);
  }

  /** The mesh knows the client by its address; else, and behind a gateway, the client describes itself. */
  #sourceNames(source: MeshStore) {
    const { settings } = this.#pod.env;
    const { identity, peer } = this.#tunnel;
    const network = field(this.#fields, "x-forwarded-network");
    const fromGateway = network !== undefined && network.toLowerCase() !== settings.network.toLowerCase();
    const workload = fromGateway ? undefined : source.findWorkload(settings.network, peer.ip);
    if (workload !== undefined) {
      const labels = peerLabels(workload, true);
      const names = peerNames(workload, true);
      // What mTLS proved goes before what the address suggests.
      return labels.principal === identity
        ? { labels, names }
        : { labels: { ...labels, principal: identity }, names: { ...names, identity } };
    }
    const baggage = parseBaggage(settings.responseBaggage ? field(this.#fields, "baggage") ?? "" : "");
    return { labels: peerLabelsOfBaggage(baggage, identity), names: peerNamesOfBaggage(baggage, identity) };
  }

  #reject(status: 400 | 503, error: string): void {
    const { env } = this.#pod;
    const to: SocketAddress = this.#tunnel.local;
    env.access.failed(formatSocketAddress(this.#tunnel.peer), formatSocketAddress(to), "inbound", error);
    this.#finish("CONNECT", error);
    this.#respond(status);
  }

  /** Ends the stream with a status, after the record was ended; the rest of the request is not wanted. */
  #respond(status: number): void {
    if (this.#streamDead) return;
    this.#streamDead = true;
    const { connection } = this.#tunnel;
    connection.h2.respond(this.#stream, [":status", String(status)], true);
    connection.h2.resetStream(this.#stream, ErrorCode.NO_ERROR);
    connection.touch();
  }

  #cut(flags: ResponseFlags, reason: string): void {
    if (this.#done) return;
    const relay = this.#relay;
    if (relay === undefined && !this.#streamDead) {
      this.#streamDead = true;
      this.#tunnel.connection.h2.resetStream(this.#stream, ErrorCode.CANCEL);
      this.#tunnel.connection.touch();
    }
    this.#finish(flags, reason);
    relay?.cut(reason);
  }

  #finish(flags: ResponseFlags, error: string | undefined): void {
    if (this.#done) return;
    this.#done = true;
    this.#early?.clear();
    this.#pod.env.io.reactor.cancelTimer(this.#timer);
    this.#connector?.cancel();
    this.#record?.end(flags, error);
    this.#pod.leave(this);
  }
}

/** What must be known to judge an authority; undefined when it is the pod's own address. */
function destinationQuery(
  authority: Authority,
  localIp: string,
  network: string,
  workload: Workload,
): MeshQuery | undefined {
  if (authority.kind === "hostname") return { kind: "hostname", hostname: authority.hostname, uid: workload.uid };
  if (authority.kind !== "address" || authority.ip === localIp) return undefined;
  return { kind: "address", network, ip: authority.ip, namespace: undefined };
}

function field(fields: Fields, name: string): string | undefined {
  for (let i = 0; i < fields.length; i += 2) {
    if (fields[i] === name) return fields[i + 1];
  }
  return undefined;
}
