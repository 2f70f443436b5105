/**
 * A connection to a pod from outside the mesh (15006), redirected on its way in: the policies judge it as one without an
 * identity, then it goes on to where it was going (reference ztunnel 6.5). Refusal is a reset.
 */
import type { SocketAddress } from "../platform/sockaddr.ts";
import type { ConnectHandler, Connector } from "../net/connector.ts";
import { TcpRelay, type TcpRelayEnd, type TcpRelayOwner } from "../net/tcp_relay.ts";
import {
  formatSocketAddress,
  type MeshStore,
  peerLabels,
  peerNames,
  serviceLabels,
  UNKNOWN_PEER,
} from "../mesh/mod.ts";
import { inboundService } from "../mesh/inbound.ts";
import type { ResponseFlags } from "../telemetry/traffic_metrics.ts";
import { ConnectionRecord, outcomeOf } from "./connection_record.ts";
import { applicationError, connectApplication } from "./inbound_access.ts";
import type { MeshWaiter } from "./mesh_cache.ts";
import { PolicyGate, type PolicyGateOwner } from "./policy_gate.ts";
import { type PodConnection, type PodProxy, resetClient } from "./pod_proxy.ts";

export class InboundPlaintext implements PodConnection, MeshWaiter, ConnectHandler, TcpRelayOwner, PolicyGateOwner {
  readonly #pod: PodProxy;
  #fd: number;
  readonly #peer: SocketAddress;
  readonly #target: SocketAddress;
  readonly #startMs: number;
  readonly #gate: PolicyGate;
  #record: ConnectionRecord | undefined;
  #connector: Connector | undefined;
  #relay: TcpRelay | undefined;
  #done = false;

  constructor(pod: PodProxy, fd: number, peer: SocketAddress, target: SocketAddress) {
    this.#pod = pod;
    this.#fd = fd;
    this.#peer = peer;
    this.#target = target;
    this.#startMs = pod.env.io.reactor.nowMs;
    const facts = {
      sourceIp: peer.ip,
      sourceIdentity: undefined,
      destinationIp: target.ip,
      destinationPort: target.port,
    };
    this.#gate = new PolicyGate(pod, facts, this);
  }

  start(): void {
    this.#pod.enter(this);
    if (this.#pod.env.settings.illegalPorts.includes(this.#target.port)) {
      return this.#deny("attempted recursive call to ourselves");
    }
    this.#step();
  }

  meshAnswered(mesh: MeshStore | undefined): void {
    if (this.#done) return;
    if (mesh === undefined) return this.#deny("the control plane of this proxy did not answer in time");
    this.#step();
  }

  connected(fd: number): void {
    this.#connector = undefined;
    const client = this.#fd;
    this.#fd = -1;
    const relay = new TcpRelay(this.#pod.env.io, client, fd, this);
    this.#relay = relay;
    this.#record?.follow(relay);
    this.#pod.lateKeepalive.add(fd);
  }

  connectFailed(code: number): void {
    this.#connector = undefined;
    this.#finish("CONNECT", applicationError(this.#target, code));
  }

  tcpRelayEnded(end: TcpRelayEnd): void {
    const { flags, error } = outcomeOf(end);
    this.#finish(flags, error);
  }

  stateChanged(): void {
    const denial = this.#done ? undefined : this.#gate.recheck();
    if (denial !== undefined) this.#cut("DENY", denial);
  }

  cut(reason: string): void {
    if (this.#record === undefined && !this.#done) return this.#deny(reason);
    this.#cut("CONNECT", reason);
  }

  #step(): void {
    const { env, workload, description } = this.#pod;
    const { network } = env.settings;
    const source = env.mesh.lookup({ kind: "address", network, ip: this.#peer.ip, namespace: undefined }, this);
    if (source === undefined) return;
    const own = env.mesh.lookup({ kind: "workload", uid: workload.uid }, this);
    if (own === undefined) return;
    const client = source.findWorkload(network, this.#peer.ip);
    const service = inboundService(own, workload, this.#target.port, undefined);
    this.#record = new ConnectionRecord(env.keeper, {
      direction: "inbound",
      pod: description.uid,
      peer: this.#peer,
      source: client === undefined
        ? { labels: UNKNOWN_PEER, names: NO_NAMES }
        : { labels: peerLabels(client, false), names: peerNames(client, false) },
      destination: { labels: peerLabels(workload, false), names: peerNames(workload, false) },
      service: service === undefined ? undefined : serviceLabels(service),
      actual: this.#target,
      hboneAddress: undefined,
      original: undefined,
      mutualTls: false,
      nested: false,
    }, this.#startMs);
    this.#gate.ask();
  }

  policyDenies(text: string): void {
    this.#finish("DENY", text);
  }

  policyAllows(): void {
    this.#connector = connectApplication(this.#pod, this.#target, this.#peer, this, true);
  }

  #deny(error: string): void {
    this.#pod.env.access.failed(
      formatSocketAddress(this.#peer),
      formatSocketAddress(this.#target),
      "inbound",
      error,
    );
    this.#finish("CONNECT", error);
  }

  #cut(flags: ResponseFlags, reason: string): void {
    if (this.#done) return;
    const relay = this.#relay;
    this.#finish(flags, reason);
    relay?.cut(reason);
  }

  #finish(flags: ResponseFlags, error: string | undefined): void {
    if (this.#done) return;
    this.#done = true;
    this.#gate.close();
    this.#connector?.cancel();
    if (this.#fd !== -1) resetClient(this.#pod.env.io, this.#fd);
    this.#fd = -1;
    this.#record?.end(flags, error);
    this.#pod.leave(this);
  }
}

const NO_NAMES = { workload: undefined, namespace: undefined, identity: undefined, cluster: undefined };
