/** The DNS of a pod in a worker, on the loopback: without redirection, so that ztunnel's own name servers are asked. */
import assert from "node:assert/strict";
import { closureForName } from "../../../src/mesh/dns_closure.ts";
import { createService, createWorkload, MeshStore, type NetworkAddress } from "../../../src/mesh/mod.ts";
import { Connector } from "../../../src/net/connector.ts";
import { TcpStream } from "../../../src/net/tcp_stream.ts";
import { Listener } from "../../../src/net/listener.ts";
import { UdpExchange } from "../../../src/net/udp_socket.ts";
import { AF_INET } from "../../../src/platform/sockaddr.ts";
import { closeDescriptor, localAddress } from "../../../src/platform/socket.ts";
import {
  addressRecord,
  decodeMessage,
  encodeMessage,
  FrameReader,
  type Message,
  TYPE,
} from "../../../src/protocol/dns/mod.ts";
import type { DnsQuery } from "../../../src/telemetry/dns_metrics.ts";
import { CacheBudget } from "../../../src/ztunnel/dns/answer_cache.ts";
import { PodDns } from "../../../src/ztunnel/dns/pod_dns.ts";
import { MeshCache } from "../../../src/ztunnel/mesh_cache.ts";
import { EMPTY } from "../../protocol/dns/support.ts";
import { FakeServer, files, Loop, PLAIN_SOCKETS } from "./support.ts";

const SHOP = createService({
  name: "shop",
  namespace: "town",
  hostname: "shop.town.svc.cluster.local",
  vips: ["/10.96.0.1" as NetworkAddress, "/10.96.0.2" as NetworkAddress],
});
const WORKLOAD = createWorkload({ name: "client", namespace: "town", canonicalName: "client" });

/** Run by `cleanUp`, the last first. */
export const cleanups: (() => void)[] = [];
export function cleanUp(): void {
  for (const cleanup of cleanups.splice(0).reverse()) cleanup();
}

export interface LabOptions {
  readonly says?: ConstructorParameters<typeof FakeServer>[1];
  readonly ttlSeconds?: number;
  readonly ipv6Enabled?: boolean;
  /** The main thread does not answer. */
  readonly deaf?: true;
}

export class PodLab {
  readonly loop = new Loop();
  readonly store = MeshStore.fromResources({ workloads: [], services: [SHOP], policies: [] });
  readonly upstream: FakeServer;
  readonly counts: string[] = [];
  readonly limits: string[] = [];
  readonly lines: string[] = [];
  readonly dns: PodDns;
  readonly udp: number;
  readonly tcp: number;

  constructor(options: LabOptions = {}) {
    const { loop } = this;
    this.upstream = new FakeServer(
      loop,
      options.says ?? (({ question: { name } }) => ({
        answers: [addressRecord(name, Uint8Array.of(192, 0, 2, 1), 60)],
      })),
    );
    const mesh: MeshCache = new MeshCache({
      reactor: loop.reactor,
      ask: (key, query) => {
        if (query.kind !== "dns" || options.deaf) return;
        mesh.answer(key, closureForName(this.store, query.name, query.scope).resources);
      },
      forget() {},
    });
    const count = (what: string) => (query: DnsQuery) =>
      void this.counts.push(`${what} ${query.type} ${query.protocol}`);
    this.dns = new PodDns(
      {
        io: loop.io,
        settings: {
          clusterDomain: "cluster.local",
          preferredNamespace: undefined,
          ttlSeconds: options.ttlSeconds ?? 30,
          ipv6Enabled: options.ipv6Enabled ?? true,
          systemSearch: false,
        },
        mesh,
        files: files({ "/etc/resolv.conf": "nameserver 127.0.0.1", "/etc/hosts": "192.0.2.50 fixed.example" }),
        budget: new CacheBudget(1 << 20),
        metrics: {
          request: count("request"),
          upstreamRequest: count("upstream"),
          upstreamFailure: count("failure"),
          upstreamAnswered: (query) => count("answered")(query),
        },
        limits: { reached: (limit) => void this.limits.push(limit) },
        log: {
          enabled: () => true,
          log: (level, target, _message, fields) => void this.lines.push(JSON.stringify([level, target, fields])),
        },
        random: () => 0,
        randomId: () => 4711,
      },
      { name: "town/client", workload: () => WORKLOAD, sockets: PLAIN_SOCKETS },
      [this.udp = PLAIN_SOCKETS.bindDatagram("127.0.0.1", 0, false)],
    );
    // Port 53 of the loopback is not this test's: the fake server is asked instead.
    this.dns.serversFor = () => [this.upstream.address];
    const { fd: tcp } = PLAIN_SOCKETS.listen({
      ip: "127.0.0.1",
      port: 0,
      ipv6Enabled: false,
      reusePort: false,
      transparent: false,
    });
    this.tcp = tcp;
    const listener = new Listener(loop.reactor, tcp, { accepted: (fd) => this.dns.accept(fd), acceptFailed() {} });
    cleanups.push(
      () => this.upstream.close(),
      () => closeDescriptor(tcp),
      () => listener.close(),
      () => closeDescriptor(this.udp),
      () => this.dns.close(),
    );
  }

  ask(name: string, changes: Partial<Message> = {}): Message {
    const { loop } = this;
    let answer: Message | undefined;
    const fd = PLAIN_SOCKETS.createDatagramClient(AF_INET);
    const exchange = new UdpExchange(loop.reactor, loop.io.readBuffer, fd, {
      answered: (bytes) => void (answer = decodeMessage(bytes)),
      exchangeFailed: (code) => assert.fail(`error ${code}`),
    });
    exchange.start("127.0.0.1", localAddress(this.udp)!.port, AF_INET, question(name, changes));
    loop.until(() => answer !== undefined, `an answer for ${name}`);
    exchange.close();
    return answer!;
  }

  connect(): TcpAsker {
    return new TcpAsker(this.loop, localAddress(this.tcp)!.port);
  }
}

export function question(name: string, changes: Partial<Message> = {}, type: number = TYPE.A): Uint8Array {
  return encodeMessage({ ...EMPTY, id: 99, recursionDesired: true, questions: [{ name, type, class: 1 }], ...changes });
}

export class TcpAsker {
  readonly answers: Message[] = [];
  ended = false;
  #stream!: TcpStream;

  constructor(loop: Loop, port: number) {
    const reader = new FrameReader((message) => void this.answers.push(decodeMessage(message)!));
    let connected = false;
    new Connector(
      loop.reactor,
      {
        connected: (fd) => {
          connected = true;
          this.#stream = new TcpStream(loop.reactor, loop.io.pool, fd, {
            readable: () => {
              const n = this.#stream.read(loop.io.readBuffer, 0, loop.io.readBuffer.length);
              if (n > 0) reader.push(loop.io.readBuffer.slice(0, n));
              else if (n === 0) this.close();
            },
            drained() {},
            broken: () => void (this.ended = true),
          });
          this.#stream.resumeRead();
        },
        connectFailed: (code) => assert.fail(`error ${code}`),
      },
      PLAIN_SOCKETS.createClient(AF_INET),
      AF_INET,
      "127.0.0.1",
      port,
      5_000,
    );
    loop.until(() => connected, "a connection");
    cleanups.push(() => this.close());
  }

  write(bytes: Uint8Array): void {
    this.#stream.write(bytes, 0, bytes.length);
  }

  finish(): void {
    this.#stream.endWrite();
  }

  close(): void {
    this.ended = true;
    this.#stream.close();
  }
}
