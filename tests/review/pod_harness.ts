/** One pod in one reactor: real listeners on the loopback, real TLS, and a mesh that answers at once. */
import { HboneConnection, type TunnelStream, type TunnelUser } from "../../src/hbone/connection.ts";
import { createHboneSettings } from "../../src/hbone/settings.ts";
import { type Authorization, identityOf, MeshStore, type PolicyKey, type Workload } from "../../src/mesh/mod.ts";
import { closeDescriptor } from "../../src/platform/socket.ts";
import { TlsContext, type TlsMaterial } from "../../src/platform/tls_context.ts";
import { TlsSession } from "../../src/platform/tls_session.ts";
import { createAccessLog, createLog, Registry } from "../../src/telemetry/mod.ts";
import { createWorkerMetrics } from "../../src/telemetry/worker_metrics.ts";
import { SocketLink } from "../../src/hbone/link.ts";
import { MeshCache } from "../../src/ztunnel/mesh_cache.ts";
import { WorkerRevocations } from "../../src/hbone/revocation_sweep.ts";
import { MeshService } from "../../src/ztunnel/mesh_service.ts";
import type { PodState, WorkerSettings } from "../../src/ztunnel/messages.ts";
import { PodProxy } from "../../src/ztunnel/pod_proxy.ts";
import { createLoop, type Loop } from "../net/support.ts";
import { connectToLoopback, listenOnLoopback } from "../platform/support.ts";
import { pod } from "../mesh/builders.ts";
import type { TestAuthority } from "../platform/authority.ts";

export const CLIENT = "spiffe://cluster.local/ns/default/sa/client";

export const SETTINGS: WorkerSettings = {
  network: "",
  clusterId: "Kubernetes",
  packetMark: undefined,
  ipv6Enabled: false,
  illegalPorts: [15008, 15006, 15001],
  localhostAppTunnel: false,
  names: { clusterDomain: "cluster.local", preferredNamespace: undefined },
  responseBaggage: false,
  policyInfoLogging: false,
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

export class PodHarness {
  readonly loop: Loop = createLoop();
  readonly proxy: PodProxy;
  readonly port: number;
  readonly lines: string[] = [];
  readonly #workload: Workload;
  readonly #fds: number[] = [];
  readonly #client: TlsContext;

  constructor(
    server: TlsMaterial,
    client: TlsMaterial,
    policies: readonly Authorization[],
    missing: readonly string[],
  ) {
    const { io, reactor } = this.loop;
    this.#workload = pod("web", ["127.0.0.1"]);
    const service = new MeshService(
      MeshStore.fromResources({ workloads: [this.#workload], services: [], policies: [] }),
    );
    const mesh: MeshCache = new MeshCache({
      reactor,
      ask: (key, query) => void queueMicrotask(() => mesh.answer(key, service.answer(0, key, query).resources)),
      forget: () => {},
    });
    const log = createLog({
      filter: "info",
      format: "plain",
      sink: (line) => void this.lines.push(line),
      nowMs: Date.now,
    });
    const access = createAccessLog(log);
    const registry = new Registry({ nowMs: () => performance.now(), retainMs: 0 });
    const metrics = createWorkerMetrics(registry, log, () => performance.now());
    const listeners = [listenOnLoopback(), listenOnLoopback(), listenOnLoopback()];
    this.#fds = listeners.map(({ fd }) => fd);
    this.port = listeners[2].port;
    this.#client = new TlsContext("client", client);
    this.proxy = new PodProxy(
      {
        io,
        settings: SETTINGS,
        mesh,
        names: mesh,
        hosts: undefined,
        revocations: new WorkerRevocations(),
        keeper: {
          registry,
          traffic: metrics.traffic,
          access,
          log,
          records: new Set(),
          nowMs: () => performance.now(),
        },
        metrics,
        access,
        log,
        tuning: { keepalive: undefined, userTimeoutMs: undefined },
        random: Math.random,
        randomHex: (bytes) => "00".repeat(bytes),
        connectionsChanged: () => {},
        passOn: () => false,
      },
      {
        uid: "uid",
        name: "web",
        namespace: "default",
        serviceAccount: "web",
        namespaceFd: -1,
        listeners: { outbound: this.#fds[0], inboundPlaintext: this.#fds[1], inboundHbone: this.#fds[2] },
        mark: undefined,
        originalSource: false,
      },
      this.state(policies, missing),
      server,
    );
  }

  static async create(
    authority: TestAuthority,
    policies: readonly Authorization[] = [],
    missing: readonly string[] = [],
  ): Promise<PodHarness> {
    const server = await authority.material({ uris: ["spiffe://cluster.local/ns/default/sa/web"] });
    return new PodHarness(server, await authority.material({ uris: [CLIENT] }), policies, missing);
  }

  state(policies: readonly Authorization[], missing: readonly string[]): PodState {
    return {
      workload: this.#workload,
      identity: identityOf(this.#workload),
      policies,
      missingPolicies: missing as readonly PolicyKey[],
    };
  }

  /** Turns until the condition holds, and lets the mesh's answers in between. */
  async until(condition: () => boolean, what: string): Promise<void> {
    const deadline = performance.now() + 10_000;
    while (!condition()) {
      if (performance.now() > deadline) throw new Error(`not in time: ${what}\n${this.lines.join("")}`);
      this.loop.reactor.turn(5);
      await Promise.resolve();
    }
  }

  /** Asks for a connection to a port of this machine, as another node's proxy would. */
  async connect(port: number, user: TunnelUser): Promise<{ connection: HboneConnection; stream: TunnelStream }> {
    const fd = connectToLoopback(this.port);
    let open = false;
    const connection = new HboneConnection(
      this.loop.io,
      new SocketLink(this.loop.reactor, fd, new TlsSession(this.#client, fd)),
      createHboneSettings("client"),
      {
        admit: () => undefined,
        established: () => open = true,
        request: () => {},
        available: () => {},
        closed: () => {},
      },
    );
    await this.until(() => open, "the tunnel");
    const fields = [":method", "CONNECT", ":authority", `127.0.0.1:${port}`];
    const stream = connection.h2.openStream(fields, false, user) as TunnelStream;
    connection.touch();
    await this.until(() => this.proxy.connections.size > 0, "the request");
    return { connection, stream };
  }

  close(): void {
    this.proxy.close("test over");
    this.#client.close();
    for (const fd of this.#fds) closeDescriptor(fd);
  }
}
