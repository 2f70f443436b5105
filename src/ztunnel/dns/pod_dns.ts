/**
 * The DNS of one pod in one worker: takes what its applications ask, says what the mesh knows, and has the rest forwarded (reference ztunnel,
 * section 8).
 *
 * A forwarded question goes to the name server that the application itself chose: the kernel knows where a redirected packet was
 * going. So each pod's own resolv.conf counts. Where that is not to be had, ztunnel's own name servers are asked.
 */
import { formatIp, parseIp } from "../../mesh/ip.ts";
import type { Workload } from "../../mesh/mod.ts";
import type { SocketFactory } from "../../net/socket_factory.ts";
import { UdpServer } from "../../net/udp_socket.ts";
import { createConntrackSocket, originalDatagramDestination } from "../../platform/conntrack.ts";
import { arrivedAt, type DatagramPeer, peerOf } from "../../platform/datagram.ts";
import type { SocketAddress } from "../../platform/sockaddr.ts";
import { localAddress, originalDestination } from "../../platform/socket.ts";
import { RCODE } from "../../protocol/dns/mod.ts";
import type { DnsEnvironment } from "./environment.ts";
import { Forwarder } from "./forwarder.ts";
import { type Asker, DnsQuestion, type QuestionOwner } from "./question.ts";
import { encodeResponse, parseRequest, respondEmpty } from "./request.ts";
import { TcpClient } from "./tcp_client.ts";

export interface DnsPod {
  /** `namespace/name` */
  readonly name: string;
  /** As it is now. */
  readonly workload: () => Workload;
  readonly sockets: SocketFactory;
}

/** Questions of a pod that may wait in one worker, and clients by TCP. */
const MAX_WAITING = 1024;
const MAX_TCP_CLIENTS = 256;
/** Bounds the last reading, so that a flood cannot hold up the end. */
const LAST_BATCHES = 64;
const DNS_PORT = 53;

export class PodDns implements QuestionOwner {
  readonly env: DnsEnvironment;
  readonly pod: DnsPod;
  readonly forwarder: Forwarder;
  readonly #servers: UdpServer[] = [];
  readonly #clients = new Set<TcpClient>();
  /** Ports and addresses that are this proxy's own. */
  readonly #own: SocketAddress[] = [];
  #conntrack: number | undefined;
  #waiting = 0;
  #phase: "serving" | "finishing" | "finished" = "serving";
  #closed = false;

  /** `udp`: bound sockets, owned by the main thread. */
  constructor(env: DnsEnvironment, pod: DnsPod, udp: readonly number[]) {
    this.env = env;
    this.pod = pod;
    this.forwarder = new Forwarder({
      io: env.io,
      sockets: pod.sockets,
      randomId: env.randomId,
      files: env.files,
      budget: env.budget,
      hostsTtlSeconds: env.settings.ttlSeconds,
    });
    for (const fd of udp) {
      try {
        this.#serve(fd);
      } catch (error) {
        // Most likely no descriptor is left. The other workers may do better.
        env.log.log("error", "dns", "the DNS of a pod is not served by this worker", {
          pod: pod.name,
          error: (error as Error).message,
        });
      }
    }
  }

  get closed(): boolean {
    return this.#closed;
  }

  /**
   * Takes what still comes, answers it, and lets go of the sockets; false as long as questions wait for their answers: call it again.
   * Another process may serve the same sockets, or others on the same port; nothing that came here is lost to the client.
   */
  finish(): boolean {
    if (this.#phase === "serving") {
      this.#phase = "finishing";
      for (const server of this.#servers) server.pause();
      for (const client of [...this.#clients]) client.finish();
    }
    if (this.#waiting > 0) return false;
    if (this.#phase === "finishing") {
      this.#phase = "finished";
      for (const server of this.#servers) {
        for (let i = 0; i < LAST_BATCHES && server.receive(); i++);
      }
      if (this.#waiting > 0) return false;
    }
    // Answers by TCP may still be on their way out.
    if (this.#clients.size > 0) return false;
    this.close();
    return true;
  }

  /** A client by TCP, accepted by this worker or passed on to it. */
  accept(fd: number): void {
    if (this.#closed || this.#clients.size >= MAX_TCP_CLIENTS) {
      if (!this.#closed) this.env.limits.reached("dns_connections", { pod: this.pod.name });
      return this.env.io.reactor.close(fd);
    }
    const local = localAddress(fd);
    const original = originalDestination(fd);
    const chosen = local === undefined ? undefined : usable(original, local.ip, local.port);
    const client: TcpClient = new TcpClient(this.env.io, fd, {
      question: (bytes) => {
        const answer = (message: Uint8Array | undefined) => client.answer(message);
        this.#ask(bytes, { protocol: "tcp", answer, chosenServer: () => chosen });
      },
      clientClosed: () => this.#clients.delete(client),
    });
    this.#clients.add(client);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const server of this.#servers) server.close();
    for (const client of [...this.#clients]) client.close();
    this.forwarder.close();
    if (this.#conntrack !== undefined && this.#conntrack >= 0) this.env.io.reactor.close(this.#conntrack);
  }

  /** The name servers for a question. */
  serversFor(chosen: SocketAddress | undefined): readonly SocketAddress[] {
    if (chosen !== undefined) return [chosen];
    return this.env.files.resolvConf.servers.map((ip) => ({ ip, port: DNS_PORT }));
  }

  finished(): void {
    this.#waiting--;
  }

  #serve(fd: number): void {
    const local = localAddress(fd);
    if (local !== undefined) this.#own.push(local);
    const server: UdpServer = new UdpServer(this.env.io.reactor, fd, {
      datagram: (bytes, peer) => {
        this.#ask(bytes, {
          protocol: "udp",
          answer: (message) => {
            if (message !== undefined) server.send(message, peer);
          },
          chosenServer: () => local === undefined ? undefined : this.#chosenServer(peer, local),
        }, peer);
      },
    });
    this.#servers.push(server);
  }

  #ask(bytes: Uint8Array, asker: Asker, peer?: DatagramPeer): void {
    const parsed = parseRequest(bytes);
    switch (parsed.kind) {
      case "ignore":
        return asker.answer(undefined);
      case "reject": {
        // Somebody who answers answers could be kept busy for ever with a single forged datagram.
        const from = peer === undefined ? undefined : peerOf(peer);
        if (from !== undefined && (from.port === DNS_PORT || this.#own.some(({ port }) => port === from.port))) return;
        return asker.answer(encodeResponse(parsed.response, undefined, asker.protocol === "udp"));
      }
      case "question": {
        const { request, question } = parsed;
        if (this.#waiting >= MAX_WAITING) {
          this.env.limits.reached("dns_in_flight", { pod: this.pod.name });
          const refused = respondEmpty(request, RCODE.ServFail);
          return asker.answer(encodeResponse(refused, request, asker.protocol === "udp"));
        }
        this.#waiting++;
        new DnsQuestion(this, request, question, asker).start();
      }
    }
  }

  #chosenServer(peer: DatagramPeer, local: SocketAddress): SocketAddress | undefined {
    const from = peerOf(peer);
    const fromIp = from && parseIp(from.ip);
    const arrived = arrivedAt(peer);
    // Text and back makes an IPv4 address of one that was mapped into IPv6.
    const localIp = parseIp(arrived === undefined ? local.ip : formatIp(arrived));
    if (from === undefined || fromIp === undefined || localIp === undefined || fromIp.length !== localIp.length) {
      return undefined;
    }
    if (this.#conntrack === undefined) {
      this.#conntrack = this.pod.sockets.run(createConntrackSocket);
      if (this.#conntrack >= 0) this.env.io.reactor.own(this.#conntrack);
    }
    if (this.#conntrack < 0) return undefined;
    const original = originalDatagramDestination(
      this.#conntrack,
      { ip: fromIp, port: from.port },
      { ip: localIp, port: local.port },
    );
    return usable(original, formatIp(localIp), local.port);
  }
}

/** A question that came here directly has no other server; a link-local one cannot be reached without knowing its link. */
function usable(original: SocketAddress | undefined, ownIp: string, ownPort: number): SocketAddress | undefined {
  if (original === undefined || (original.ip === ownIp && original.port === ownPort)) return undefined;
  return original.ip.startsWith("fe80:") ? undefined : original;
}
