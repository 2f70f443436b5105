/**
 * A pod's SOCKS5 listener (15080, on the pod's loopback): what a client asks for takes the same way as a connection that was
 * redirected (reference ztunnel 1.3). Names are the mesh's, else the name servers'. The answer says what became of the connection.
 */
import { addressesOf, type DnsScope, findByName } from "../mesh/dns.ts";
import { canonicalIp, formatIp, formatSocketAddress, type MeshStore, peerLabels } from "../mesh/mod.ts";
import { Timer, type TimerTarget } from "../net/reactor.ts";
import { type TcpSink, TcpStream } from "../net/tcp_stream.ts";
import { EAGAIN } from "../platform/errno.ts";
import type { SocketAddress } from "../platform/sockaddr.ts";
import { send } from "../platform/socket.ts";
import { encodeSocksReply, SocksHandshake, SocksReply, type SocksTarget } from "../protocol/socks5.ts";
import type { ResponseFlags } from "../telemetry/traffic_metrics.ts";
import type { HostWaiter } from "./dns/host_resolver.ts";
import type { MeshWaiter } from "./mesh_cache.ts";
import { type OutboundClient, OutboundConnection } from "./outbound.ts";
import type { PodConnection, PodProxy } from "./pod_proxy.ts";

/** On the pod's own loopback, from what may be a person's hands: generous, and bounded. The name's look-up included. */
const HANDSHAKE_TIMEOUT_MS = 15_000;

/** A DNS name, in the characters that names of hosts have in practice. */
const HOST_NAME = /^[a-z0-9_](?:[a-z0-9_.-]{0,251}[a-z0-9_])?$/;

const buffer = new Uint8Array(512);

export class SocksConnection implements PodConnection, TcpSink, MeshWaiter, HostWaiter, TimerTarget, OutboundClient {
  readonly #pod: PodProxy;
  readonly #peer: SocketAddress;
  readonly #tcp: TcpStream;
  readonly #handshake = new SocksHandshake();
  readonly #timer = new Timer(this);
  #name: Extract<SocksTarget, { kind: "name" }> | undefined;
  #asksHosts = false;
  #done = false;

  constructor(pod: PodProxy, fd: number, peer: SocketAddress) {
    this.#pod = pod;
    this.#peer = peer;
    this.#tcp = new TcpStream(pod.env.io.reactor, pod.env.io.pool, fd, this);
  }

  start(): void {
    this.#pod.enter(this);
    this.#pod.env.io.reactor.setTimer(this.#timer, HANDSHAKE_TIMEOUT_MS);
    this.#tcp.resumeRead();
  }

  readable(): void {
    const n = this.#tcp.read(buffer, 0, this.#handshake.wanted);
    if (n === -EAGAIN) return;
    if (n <= 0) return this.#refuse("the client went away during the SOCKS handshake");
    const event = this.#handshake.receive(buffer, 0, n);
    switch (event?.kind) {
      case undefined:
        return;
      case "reply":
        this.#tcp.write(event.bytes, 0, event.bytes.length);
        return;
      case "failed":
        return this.#refuse(event.message, event.bytes);
      case "connect":
        this.#tcp.pauseRead();
        if (event.target.kind === "address") return this.#connect(formatIp(event.target.ip), event.target.port);
        return this.#resolve(event.target);
    }
  }

  drained(): void {}

  broken(): void {
    this.#refuse("the client went away during the SOCKS handshake");
  }

  meshAnswered(mesh: MeshStore | undefined): void {
    const target = this.#name;
    if (this.#done || target === undefined) return;
    if (mesh === undefined) return this.#refuse("the control plane of this proxy did not answer in time", FAILED);
    const { env, workload } = this.#pod;
    const match = findByName(mesh, target.name, this.#scope());
    const preferIpv6 = (workload.workloadIps[0] ?? "").includes(":");
    if (match !== undefined) {
      const families = preferIpv6 ? ["ipv6", "ipv4"] as const : ["ipv4", "ipv6"] as const;
      for (const family of families) {
        const addresses = addressesOf(mesh, match, env.settings.network, family);
        if (addresses.length > 0) {
          return this.#connect(addresses[Math.floor(env.random() * addresses.length)], target.port);
        }
      }
    }
    if (env.hosts === undefined) return this.#refuse(`nothing here knows the name ${target.name}`, UNREACHABLE);
    this.#asksHosts = true;
    env.hosts.resolve(target.name, preferIpv6, peerLabels(workload, false), this);
  }

  hostResolved(ip: string | undefined, reason: string): void {
    const target = this.#name;
    if (this.#done || target === undefined) return;
    this.#asksHosts = false;
    if (ip === undefined) return this.#refuse(reason, UNREACHABLE);
    this.#connect(ip, target.port);
  }

  expired(): void {
    this.#pod.env.metrics.limits.reached("socks_handshake", { "src.addr": formatSocketAddress(this.#peer) });
    this.#refuse(`the SOCKS handshake took longer than ${HANDSHAKE_TIMEOUT_MS / 1000} s`, FAILED);
  }

  /** Policies of the own workload are about inbound connections. */
  stateChanged(): void {}

  cut(reason: string): void {
    this.#refuse(reason, FAILED);
  }

  connected(fd: number): void {
    send(fd, SUCCEEDED, 0, SUCCEEDED.length);
  }

  refused(fd: number, flags: ResponseFlags): void {
    const reply = encodeSocksReply(REPLIES[flags] ?? SocksReply.GENERAL_FAILURE);
    send(fd, reply, 0, reply.length);
    // In order, not with a reset: that would take the answer back.
    this.#pod.env.io.reactor.close(fd);
  }

  #resolve(target: Extract<SocksTarget, { kind: "name" }>): void {
    const ip = canonicalIp(target.name);
    if (ip !== undefined) return this.#connect(ip, target.port);
    const name = target.name.toLowerCase().replace(/\.$/, "");
    this.#name = { ...target, name };
    if (!HOST_NAME.test(name)) return this.#refuse("no host can have the name that the client asks for", UNREACHABLE);
    const mesh = this.#pod.env.names.lookup({ kind: "dns", name, scope: this.#scope() }, this);
    if (mesh !== undefined) this.meshAnswered(mesh);
  }

  #scope(): DnsScope {
    const { env, workload } = this.#pod;
    const { clusterDomain, preferredNamespace } = env.settings.names;
    return { namespace: workload.namespace, clusterDomain, search: undefined, preferredNamespace };
  }

  #connect(ip: string, port: number): void {
    this.#end();
    const { io } = this.#pod.env;
    const fd = this.#tcp.release();
    // Unwatched until a relay has it: it is closed with this worker all the same.
    io.reactor.own(fd);
    new OutboundConnection(this.#pod, fd, this.#peer, { ip, port }, this).start();
  }

  #refuse(error: string, reply?: Uint8Array): void {
    if (this.#done) return;
    this.#end();
    const { access } = this.#pod.env;
    access.failed(
      formatSocketAddress(this.#peer),
      this.#name === undefined ? SOCKS_ADDRESS : describe(this.#name),
      "outbound",
      error,
    );
    if (reply !== undefined && reply.length > 0) this.#tcp.write(reply, 0, reply.length);
    this.#tcp.close();
  }

  #end(): void {
    this.#done = true;
    const { env } = this.#pod;
    env.io.reactor.cancelTimer(this.#timer);
    if (this.#asksHosts && this.#name !== undefined) env.hosts?.cancel(this.#name.name, this);
    this.#pod.leave(this);
  }
}

/** What stands in the log before the client said where it wants to. */
const SOCKS_ADDRESS = "127.0.0.1:15080";
const SUCCEEDED = encodeSocksReply(SocksReply.SUCCEEDED);
const FAILED = encodeSocksReply(SocksReply.GENERAL_FAILURE);
const UNREACHABLE = encodeSocksReply(SocksReply.HOST_UNREACHABLE);

const REPLIES: Partial<Readonly<Record<ResponseFlags, number>>> = {
  CONNECT: SocksReply.CONNECTION_REFUSED,
  DENY: SocksReply.NOT_ALLOWED,
  IDENTITY_ERROR: SocksReply.NOT_ALLOWED,
  CERT_REVOKED: SocksReply.NOT_ALLOWED,
  NETWORK_POLICY: SocksReply.HOST_UNREACHABLE,
};

function describe({ name, port }: Extract<SocksTarget, { kind: "name" }>): string {
  return `${name}:${port}`;
}
