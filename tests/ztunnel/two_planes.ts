/**
 * Two data planes in one thread, as on two nodes: pod "client" on the first, pod "web" on the second, with real
 * sockets in a namespace of their own and real TLS between them. The test plays the main thread.
 */
import assert from "node:assert/strict";
import { identityOf, type MeshResources, MeshStore, type Workload } from "../../src/mesh/mod.ts";
import { signalEventFd } from "../../src/platform/epoll.ts";
import { insideNamespace, openNamespace } from "../../src/platform/netns.ts";
import { createOwnershipTable, type OwnershipTable } from "../../src/platform/ownership.ts";
import { AF_INET } from "../../src/platform/sockaddr.ts";
import {
  acceptSocket,
  bindSocket,
  closeDescriptor,
  connectSocket,
  createTcpSocket,
  listenSocket,
  localAddress,
} from "../../src/platform/socket.ts";
import type { TlsMaterial } from "../../src/platform/tls_context.ts";
import { WorkerLoad } from "../../src/net/worker_load.ts";
import { createLog } from "../../src/telemetry/mod.ts";
import { DataPlane } from "../../src/ztunnel/data_plane.ts";
import { MeshService } from "../../src/ztunnel/mesh_service.ts";
import type { FromWorker, PodState, ToWorker, WorkerSettings, WorkerStart } from "../../src/ztunnel/messages.ts";
import { endpointOf, pod, service } from "../mesh/builders.ts";
import { Peer } from "../net/support.ts";
import { TestAuthority } from "../platform/authority.ts";
import { createNamespace, EINPROGRESS, type TestNamespace } from "../platform/support.ts";

/** Where the client believes the service to be; the redirection is played by listening there. */
export const VIP = { ip: "127.0.0.3", port: 80 };
export const APPLICATION = { ip: "127.0.0.2", port: 8080 };
const HBONE_PORT = 15_008;

export const CLIENT = pod("client", ["127.0.0.1"]);
export const WEB = pod("web", [APPLICATION.ip], endpointOf("shop"));
const SHOP = service("shop", [VIP.ip], { ports: { [VIP.port]: APPLICATION.port } });

const SETTINGS: WorkerSettings = {
  network: "",
  clusterId: "Kubernetes",
  packetMark: undefined,
  ipv6Enabled: false,
  illegalPorts: [15_008, 15_006, 15_001],
  localhostAppTunnel: false,
  names: { clusterDomain: "cluster.local", preferredNamespace: undefined },
  responseBaggage: false,
  policyInfoLogging: true,
  poolMaxStreamsPerConnection: 100,
  poolUnusedReleaseMs: 60_000,
  streamWindowBytes: 4 << 20,
  connectionWindowBytes: 16 << 20,
  maxFrameBytes: 1 << 20,
  keepaliveEnabled: false,
  keepaliveIdleSeconds: 1,
  keepaliveIntervalSeconds: 1,
  keepaliveProbes: 1,
  userTimeoutMs: undefined,
  logFormat: "plain",
  istioVersion: undefined,
};

/** One worker, and its conversation. */
export class Node {
  readonly plane: DataPlane;
  readonly posted: FromWorker[] = [];
  readonly lines: string[] = [];
  readonly load = WorkerLoad.create(2);
  readonly table: OwnershipTable = createOwnershipTable();
  /** While false, questions about the mesh stay unanswered. */
  answers = true;
  readonly #inbox: ToWorker[] = [];
  readonly #service: MeshService;

  constructor(store: MeshStore, settings: Partial<WorkerSettings>) {
    this.#service = new MeshService(store);
    const start: WorkerStart = {
      index: 0,
      generation: 1,
      settings: { ...SETTINGS, ...settings },
      directives: "info",
      load: this.load.buffer,
      ownership: this.table.buffer,
    };
    this.plane = new DataPlane({
      start,
      port: {
        data: start,
        post: (message) => this.#received(message as FromWorker),
        take: () => {
          const message = this.#inbox.shift();
          return message === undefined ? undefined : { message };
        },
      },
      log: createLog({ filter: "info", format: "plain", sink: (line) => this.lines.push(line), nowMs: Date.now }),
      droppedLines: () => 0,
      flushLog: () => {},
    });
  }

  tell(...messages: readonly ToWorker[]): void {
    this.#inbox.push(...messages);
    signalEventFd(this.plane.reactor.wakeFd);
  }

  /** Messages of a type that it posted. */
  said<T extends FromWorker["type"]>(type: T): Extract<FromWorker, { readonly type: T }>[] {
    return this.posted.filter((message) => message.type === type) as Extract<FromWorker, { readonly type: T }>[];
  }

  #received(message: FromWorker): void {
    this.posted.push(message);
    if (message.type !== "lookup" || !this.answers) return;
    const { resources } = this.#service.answer(0, message.key, message.query);
    this.tell({ type: "answer", key: message.key, resources, sampled: false });
  }
}

export class TwoPlanes {
  readonly client: Node;
  readonly server: Node;
  readonly authority: TestAuthority;
  readonly #namespace: TestNamespace;
  readonly #namespaceFd: number;
  readonly #application: number;
  readonly #fds: number[] = [];
  readonly #peers: Peer[] = [];
  #clientIsDead = false;

  private constructor(authority: TestAuthority, namespace: TestNamespace, settings: Partial<WorkerSettings>) {
    this.authority = authority;
    this.#namespace = namespace;
    this.#namespaceFd = openNamespace(namespace.path);
    const store = MeshStore.fromResources(RESOURCES);
    this.client = new Node(store, settings);
    this.server = new Node(store, settings);
    this.#application = this.#listen(APPLICATION.ip, APPLICATION.port);
  }

  static async create(settings: Partial<WorkerSettings> = {}): Promise<TwoPlanes> {
    const planes = new TwoPlanes(await TestAuthority.create(), await createNamespace(), settings);
    planes.client.tell(
      planes.#podUp(
        CLIENT,
        planes.#listen(VIP.ip, VIP.port),
        planes.#listen("127.0.0.1", 0),
        await planes.issue(CLIENT),
      ),
    );
    planes.server.tell(
      planes.#podUp(
        WEB,
        planes.#listen("127.0.0.2", 0),
        planes.#listen(APPLICATION.ip, HBONE_PORT),
        await planes.issue(WEB),
      ),
    );
    planes.turn();
    return planes;
  }

  /** A fresh certificate of a workload. */
  issue(workload: Workload): Promise<TlsMaterial> {
    return this.authority.material({ uris: [identityOf(workload)] });
  }

  turn(): void {
    this.client.plane.reactor.turn(1);
    this.server.plane.reactor.turn(1);
  }

  until(condition: () => boolean, what: string): void {
    const deadline = performance.now() + 10_000;
    while (!condition()) {
      assert.ok(performance.now() < deadline, `not in time: ${what}\n${this.client.lines}\n${this.server.lines}`);
      this.turn();
    }
  }

  /** The client's application connects to the service. */
  connect(): Peer {
    const fd = this.#socket();
    const outcome = connectSocket(fd, VIP.ip, VIP.port, AF_INET);
    assert.ok(outcome === 0 || outcome === -EINPROGRESS);
    return this.#peer(fd);
  }

  /** The server's application accepts what arrives through the tunnel. */
  accept(): Peer {
    let fd = -1;
    this.until(() => (fd = acceptSocket(this.#application)) >= 0, "a connection at the application");
    return this.#peer(fd);
  }

  /** A connection to the client's outbound listener of which nobody knows yet. */
  rawPair(): readonly [number, Peer] {
    const listener = this.#listen("127.0.0.9", 0);
    const address = this.#addressOf(listener);
    const fd = this.#socket();
    connectSocket(fd, "127.0.0.9", address, AF_INET);
    let accepted = -1;
    this.until(() => (accepted = acceptSocket(listener)) >= 0, "a connection");
    return [accepted, this.#peer(fd)];
  }

  /** The client's worker is dead, its descriptors are closed: it is not touched any more. */
  forgetClient(): void {
    this.#clientIsDead = true;
  }

  async close(): Promise<void> {
    const alive = this.#clientIsDead ? [this.server] : [this.client, this.server];
    for (const node of alive) {
      node.tell({ type: "pod_down", uid: "client" }, { type: "pod_down", uid: "web" });
      for (let i = 0; i < 5; i++) node.plane.reactor.turn(1);
    }
    for (const peer of this.#peers) peer.close();
    for (const fd of [...this.#fds, this.#namespaceFd]) closeDescriptor(fd);
    for (const node of alive) node.plane.reactor.dispose();
    await this.#namespace.close();
  }

  #socket(): number {
    const fd = insideNamespace(this.#namespaceFd, () => createTcpSocket(AF_INET));
    assert.ok(fd >= 0);
    return fd;
  }

  #listen(ip: string, port: number): number {
    const fd = this.#socket();
    assert.equal(bindSocket(fd, ip, port, AF_INET), 0);
    assert.equal(listenSocket(fd, 128), 0);
    this.#fds.push(fd);
    return fd;
  }

  #addressOf(fd: number): number {
    const address = localAddress(fd);
    assert.ok(address !== undefined);
    return address.port;
  }

  #peer(fd: number): Peer {
    const peer = new Peer(fd);
    this.#peers.push(peer);
    return peer;
  }

  #podUp(workload: Workload, outbound: number, inboundHbone: number, tls: TlsMaterial): ToWorker {
    return {
      type: "pod_up",
      pod: {
        uid: workload.name,
        name: workload.name,
        namespace: workload.namespace,
        serviceAccount: workload.serviceAccount,
        namespaceFd: this.#namespaceFd,
        listeners: { outbound, inboundHbone, inboundPlaintext: this.#listen(workload.workloadIps[0], 0) },
        mark: undefined,
        originalSource: false,
      },
      state: stateOf(workload),
      tls,
    };
  }
}

const RESOURCES: MeshResources = { workloads: [CLIENT, WEB], services: [SHOP], policies: [] };

export function stateOf(workload: Workload, policies: PodState["policies"] = []): PodState {
  return { workload, identity: identityOf(workload), policies, missingPolicies: [] };
}
