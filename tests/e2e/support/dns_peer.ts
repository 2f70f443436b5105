/**
 * DNS in a test mesh: a name server in a pod, whose answers a test gives, and questions from a pod as an application asks them. Both
 * are held by the test process, with the codec under test; tests/e2e/dns_test.ts also asks with the runtime's own resolver.
 */
import { SocketFactory } from "../../../src/net/socket_factory.ts";
import { UdpExchange, UdpServer } from "../../../src/net/udp_socket.ts";
import { peerOf } from "../../../src/platform/datagram.ts";
import { AF_INET, AF_INET6, isIpv6, type SocketAddress } from "../../../src/platform/sockaddr.ts";
import { closeDescriptor } from "../../../src/platform/socket.ts";
import {
  addressRecord,
  decodeMessage,
  encodeMessage,
  frame,
  FrameReader,
  type Message,
  type Question,
  type ResourceRecord,
  TYPE,
} from "../../../src/protocol/dns/mod.ts";
import { parseIp } from "../../../src/mesh/ip.ts";
import type { TestPod } from "./mesh.ts";
import { within } from "./wait.ts";

/** What a name server says; undefined: nothing. */
export interface Saying {
  readonly rcode?: number;
  readonly answers?: readonly ResourceRecord[];
  readonly authorities?: readonly ResourceRecord[];
  readonly truncated?: boolean;
}

export interface Asked {
  readonly question: Question;
  readonly request: Message;
  readonly protocol: "udp" | "tcp";
  readonly from: SocketAddress;
}

/** A name server on port 53 of a pod, both families. */
export class NameServer {
  readonly asked: Asked[] = [];
  readonly #close: (() => void)[] = [];

  constructor(readonly pod: TestPod, readonly says: (asked: Asked) => Saying | undefined) {
    const { lab } = pod.mesh;
    const sockets = new SocketFactory(pod.namespaceFd, undefined, { keepalive: undefined, userTimeoutMs: undefined });
    const fd = sockets.bindDatagram("::", 53, false);
    if (fd < 0) throw new Error(`cannot bind port 53: error ${-fd}`);
    const server: UdpServer = new UdpServer(lab.io.reactor, fd, {
      datagram: (bytes, peer) => {
        const answer = this.#answer(bytes, "udp", peerOf(peer)!);
        if (answer !== undefined) server.send(answer, peer);
      },
    });
    const tcp = pod.listen(53, (peer) => {
      void (async () => {
        while (true) {
          const prefix = await peer.readBytes(2, 60_000);
          const bytes = await peer.readBytes(prefix[0] << 8 | prefix[1], 60_000);
          const answer = this.#answer(bytes, "tcp", peer.remote);
          if (answer !== undefined) peer.write(frame(answer));
        }
      })().catch(() => peer.close());
    });
    this.#close.push(() => server.close(), () => closeDescriptor(fd), () => tcp.close());
  }

  /** Questions for a name so far. */
  times(name: string): number {
    return this.asked.filter(({ question }) => question.name.toLowerCase() === name).length;
  }

  close(): void {
    for (const close of this.#close) close();
  }

  #answer(bytes: Uint8Array, protocol: "udp" | "tcp", from: SocketAddress): Uint8Array | undefined {
    const request = decodeMessage(bytes)!;
    const asked: Asked = { question: request.questions[0], request, protocol, from };
    this.asked.push(asked);
    const saying = this.says(asked);
    if (saying === undefined) return undefined;
    const limit = protocol === "udp" ? request.edns?.payloadBytes ?? 512 : undefined;
    return encodeMessage({
      id: request.id,
      response: true,
      opcode: 0,
      authoritative: false,
      truncated: saying.truncated ?? false,
      recursionDesired: request.recursionDesired,
      recursionAvailable: true,
      authenticData: false,
      checkingDisabled: false,
      rcode: saying.rcode ?? 0,
      questions: request.questions,
      answers: saying.answers ?? [],
      authorities: saying.authorities ?? [],
      additionals: [],
      edns: request.edns,
    }, limit);
  }
}

export interface AskOptions {
  readonly type?: number;
  readonly protocol?: "udp" | "tcp";
  readonly payloadBytes?: number;
  readonly timeoutMs?: number;
  /** Sent instead of a question that is made here. */
  readonly raw?: Uint8Array;
}

/** Asks from a pod, as an application would ask the server of its resolv.conf. */
export async function ask(pod: TestPod, server: string, name: string, options: AskOptions = {}): Promise<Message> {
  const { protocol = "udp", timeoutMs = 15_000 } = options;
  const question = options.raw ?? questionBytes(name, options.type ?? TYPE.A, options.payloadBytes);
  const bytes = protocol === "udp"
    ? await askUdp(pod, server, question, timeoutMs)
    : await askTcp(pod, server, question, timeoutMs);
  const answer = decodeMessage(bytes);
  if (answer === undefined) throw new Error("the answer is malformed");
  return answer;
}

export function questionBytes(name: string, type: number, payloadBytes?: number): Uint8Array {
  return encodeMessage({
    id: Math.floor(Math.random() * 65_536),
    response: false,
    opcode: 0,
    authoritative: false,
    truncated: false,
    recursionDesired: true,
    recursionAvailable: false,
    authenticData: false,
    checkingDisabled: false,
    rcode: 0,
    questions: [{ name, type, class: 1 }],
    answers: [],
    authorities: [],
    additionals: [],
    edns: payloadBytes === undefined
      ? undefined
      : { payloadBytes, version: 0, dnssecOk: false, options: new Uint8Array(0) },
  });
}

function askUdp(pod: TestPod, server: string, question: Uint8Array, timeoutMs: number): Promise<Uint8Array> {
  const { io } = pod.mesh.lab;
  const family = isIpv6(server) ? AF_INET6 : AF_INET;
  const sockets = new SocketFactory(pod.namespaceFd, undefined, { keepalive: undefined, userTimeoutMs: undefined });
  const fd = sockets.createDatagramClient(family);
  let exchange: UdpExchange | undefined;
  return within<Uint8Array>(timeoutMs, "a DNS answer", (resolve, reject) => {
    exchange = new UdpExchange(io.reactor, io.readBuffer, fd, {
      answered: (bytes) => resolve(bytes.slice()),
      exchangeFailed: (code) => reject(new Error(`the question failed: error ${code}`)),
    });
    const outcome = exchange.start(server, 53, family, question);
    if (outcome < 0) reject(new Error(`the question failed: error ${-outcome}`));
  }).finally(() => exchange?.close());
}

async function askTcp(pod: TestPod, server: string, question: Uint8Array, timeoutMs: number): Promise<Uint8Array> {
  const peer = await pod.connect(server, 53);
  peer.write(frame(question));
  const prefix = await peer.readBytes(2, timeoutMs);
  const bytes = await peer.readBytes(prefix[0] << 8 | prefix[1], timeoutMs);
  peer.close();
  let answer = bytes;
  new FrameReader((message) => answer = message.slice()).push(frame(bytes));
  return answer;
}

export function a(name: string, ip: string, ttl = 60): ResourceRecord {
  return addressRecord(name, parseIp(ip)!, ttl);
}

/** The addresses of an answer, in order of their text. */
export function addresses(answer: Message): string[] {
  return answer.answers.filter(({ type }) => type === TYPE.A || type === TYPE.AAAA).map(({ data }) =>
    data.length === 4 ? data.join(".") : Array.from(data, (byte) => byte.toString(16).padStart(2, "0")).join("")
  ).sort();
}
