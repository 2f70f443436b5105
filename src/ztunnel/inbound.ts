/**
 * One CONNECT request at its destination's proxy (15008): is it one, may it be asked here, is it allowed, does the
 * application answer; then bytes (reference ztunnel 6.2). Each failure has its status: 400, 401 or 503.
 */
import type { SocketAddress } from "../platform/sockaddr.ts";
import { send } from "../platform/socket.ts";
import { ByteQueue } from "../net/byte_queue.ts";
import type { ConnectHandler, Connector } from "../net/connector.ts";
import type { TunnelStream, TunnelUser } from "../hbone/connection.ts";
import type { ServerTunnel } from "../hbone/server.ts";
import { type RelayEnd, type RelayOwner, TunnelRelay } from "../hbone/tunnel_relay.ts";
import {
  formatSocketAddress,
  forwardedHost,
  type Inbound,
  MeshStore,
  parseIp,
  peerLabels,
  peerNames,
  serviceLabels,
} from "../mesh/mod.ts";
import { ErrorCode, type Fields } from "../protocol/http2/mod.ts";
import { encodeProxyHeader } from "../protocol/proxy_protocol.ts";
import type { ResponseFlags } from "../telemetry/traffic_metrics.ts";
import { ConnectionRecord, outcomeOf } from "./connection_record.ts";
import { applicationError, connectApplication } from "./inbound_access.ts";
import { field, nameClient } from "./inbound_request.ts";
import type { InboundRoute } from "./inbound_routes.ts";
import type { MeshWaiter } from "./mesh_cache.ts";
import type { PodConnection, PodProxy } from "./pod_proxy.ts";
import { PolicyGate, type PolicyGateOwner } from "./policy_gate.ts";

/** Both ends are canonical. */
const bytesOf = ({ ip, port }: SocketAddress) => ({ ip: parseIp(ip) ?? new Uint8Array(4), port });

type Forward = Extract<Inbound, { kind: "forward" }>;

const NO_MESH = new MeshStore();
const MAX_SPIFFE_ID_BYTES = 2048;

export class InboundConnection
  implements PodConnection, MeshWaiter, TunnelUser, ConnectHandler, RelayOwner, PolicyGateOwner {
  readonly #pod: PodProxy;
  readonly #tunnel: ServerTunnel;
  readonly #stream: TunnelStream;
  readonly #fields: Fields;
  readonly #startMs: number;
  #forward: Forward | undefined;
  #gate: PolicyGate | undefined;
  #record: ConnectionRecord | undefined;
  #connector: Connector | undefined;
  #relay: TunnelRelay | undefined;
  /** Bytes that came before the application was reached; a well-behaved peer sends none before our 200. */
  #early: ByteQueue | undefined;
  #earlyEnd = false;
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
    const { failure } = this.#tunnel.connection;
    if (failure?.stage === "revoked") return this.#finish("CERT_REVOKED", failure.message);
    this.#finish("CONNECT", "the client gave up before the connection was made");
  }

  closed(): void {
    this.#streamDead = true;
    this.#finish("CONNECT", "the client gave up before the connection was made");
  }

  connected(fd: number): void {
    this.#connector = undefined;
    const { env, baggage } = this.#pod;
    const { connection } = this.#tunnel;
    if (!this.#introduce(fd)) {
      env.io.reactor.close(fd);
      this.#finish("CONNECT", "the application does not take the PROXY header");
      return this.#respond(503);
    }
    const fields = env.settings.responseBaggage ? [":status", "200", "baggage", baggage] : [":status", "200"];
    connection.h2.respond(this.#stream, fields, false);
    connection.touch();
    const relay = new TunnelRelay(env.io, fd, connection, this.#stream, this);
    this.#relay = relay;
    this.#record?.follow(relay);
    this.#pod.lateKeepalive.add(fd);
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
    const { flags, error } = outcomeOf(end);
    this.#finish(flags, error);
  }

  stateChanged(): void {
    const denial = this.#done ? undefined : this.#gate?.recheck();
    if (denial !== undefined) this.#cut("DENY", denial);
  }

  cut(reason: string): void {
    if (this.#record === undefined && !this.#done) this.#logRefused(reason);
    this.#cut("CONNECT", reason);
  }

  /** Goes on as far as what is known of the mesh allows; asks for what is missing and comes back here. */
  #step(): void {
    const { env, workload } = this.#pod;
    const { settings, mesh } = env;
    const routes = this.#pod.inboundRoutes;
    const client = routes.client(this.#tunnel.peer.ip);
    const source = mesh.lookup(client.query, this, client.key);
    if (source === undefined) return;
    const pod = routes.own(workload);
    const own = mesh.lookup(pod.query, this, pod.key);
    if (own === undefined) return;
    const route = routes.to(field(this.#fields, ":authority") ?? "", this.#tunnel.local.ip, workload);
    const { asks } = route;
    const view = asks === undefined ? NO_MESH : mesh.lookup(asks.query, this, asks.key);
    if (view === undefined) return;

    const outcome = route.resolve(view, settings);
    if (outcome.kind === "rejected") return this.#reject(outcome.status, `${outcome.message} (${outcome.hint})`);
    this.#forward = outcome;
    this.#open(source, own, route, outcome);
    const facts = {
      sourceIp: this.#tunnel.peer.ip,
      sourceIdentity: this.#tunnel.identity,
      destinationIp: outcome.destination.ip,
      destinationPort: outcome.destination.port,
    };
    this.#gate = new PolicyGate(this.#pod, facts, this);
    this.#gate.ask();
  }

  policyDenies(text: string): void {
    this.#finish("DENY", text);
    this.#respond(401);
  }

  policyAllows(): void {
    const forward = this.#forward as Forward;
    // Over loopback only a loopback address comes back.
    const client = forward.loopback ? undefined : this.#tunnel.peer;
    this.#connector = connectApplication(this.#pod, forward.to, client, this, false);
  }

  /** Tells an application behind a PROXY tunnel who its client is, before anything else. False: it cannot be told. */
  #introduce(fd: number): boolean {
    const { proxyTo } = this.#forward as Forward;
    if (proxyTo === undefined) return true;
    const { identity } = this.#tunnel;
    // What is longer than any SPIFFE id may be (SPIFFE-ID section 2.3) is not handed on.
    const told = identity.length <= MAX_SPIFFE_ID_BYTES ? identity : undefined;
    const header = encodeProxyHeader(bytesOf(this.#tunnel.peer), bytesOf(proxyTo), told);
    // A fresh connection's buffer takes it whole.
    return send(fd, header, 0, header.length) === header.length;
  }

  #open(source: MeshStore, own: MeshStore, route: InboundRoute, forward: Forward): void {
    const { env, workload, description } = this.#pod;
    const host = forwardedHost(field(this.#fields, "forwarded") ?? "");
    const service = forward.service ?? route.service(own, forward.destination.port, host);
    this.#record = new ConnectionRecord(env.keeper, {
      direction: "inbound",
      pod: description.uid,
      peer: this.#tunnel.peer,
      source: nameClient(this.#fields, this.#tunnel.identity, this.#tunnel.peer.ip, source, env.settings),
      destination: { labels: peerLabels(workload, true), names: peerNames(workload, true) },
      service: service === undefined ? undefined : serviceLabels(service),
      actual: this.#tunnel.local,
      application: forward.destination,
      hboneAddress: route.described,
      original: host,
      mutualTls: true,
      nested: false,
    }, this.#startMs);
  }

  /** Before anything is known of the client: a warning, no metrics. */
  #logRefused(error: string): void {
    const { peer, local } = this.#tunnel;
    this.#pod.env.access.failed(formatSocketAddress(peer), formatSocketAddress(local), "inbound", error);
  }

  #reject(status: 400 | 503, error: string): void {
    this.#logRefused(error);
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
    this.#gate?.close();
    this.#connector?.cancel();
    this.#record?.end(flags, error);
    this.#pod.leave(this);
  }
}
