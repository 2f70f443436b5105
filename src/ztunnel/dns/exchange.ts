/**
 * One question to name servers: by UDP to up to two at once, by TCP to one whose answer was cut, twice with five seconds each
 * (reference ztunnel, section 8). The first that says what the name has, or that there is no such name, is believed.
 *
 * Against forged answers: each UDP question has a random id and a socket, so a random port, of its own, that takes datagrams
 * from that server only; what does not repeat id and question is passed over, and too much of that moves the question to TCP.
 */
import { describeErrno } from "../../platform/errno.ts";
import { AF_INET, AF_INET6, isIpv6, type SocketAddress } from "../../platform/sockaddr.ts";
import type { IoContext } from "../../net/io_context.ts";
import { Timer, type TimerTarget } from "../../net/reactor.ts";
import { UdpExchange, type UdpExchangeHandler } from "../../net/udp_socket.ts";
import { decodeMessage, encodeMessage, lowerName, type Message, OPCODE_QUERY, RCODE } from "../../protocol/dns/mod.ts";
import { TcpExchange, type TcpExchangeHandler } from "./tcp_exchange.ts";

/** What is asked, and the flags that change the answer. */
export interface UpstreamQuestion {
  readonly name: string;
  readonly type: number;
  readonly class: number;
  readonly recursionDesired: boolean;
  readonly checkingDisabled: boolean;
  readonly authenticData: boolean;
  readonly dnssecOk: boolean;
}

/** Makes the sockets that reach the name servers. */
export interface UpstreamSockets {
  createDatagramClient(family: number): number;
  createClient(family: number): number;
}

export interface ExchangeEnvironment {
  readonly io: IoContext;
  readonly sockets: UpstreamSockets;
  /** 16 random bits that nobody can foresee. */
  readonly randomId: () => number;
}

export interface ExchangeHandler {
  /** With code NOERROR or NXDOMAIN, and to this question. */
  exchanged(answer: Message): void;
  /** No server had an answer; why, in words for the log. */
  exchangeFailed(reason: string): void;
}

export const SERVER_TIMEOUT_MS = 5_000;
export const MAX_ROUNDS = 2;
const AT_ONCE = 2;
/** DNS flag day 2020: larger answers would be fragmented on some paths. */
const PAYLOAD_BYTES = 1232;
const MAX_STRANGE_ANSWERS = 16;

export class Exchange implements TimerTarget {
  readonly env: ExchangeEnvironment;
  readonly question: UpstreamQuestion;
  readonly #handler: ExchangeHandler;
  readonly #timer = new Timer(this);
  /** Not asked yet, in order. */
  #untried: SocketAddress[];
  /** Asked, but silent. */
  #silent: SocketAddress[] = [];
  #asking = new Set<ServerQuestion>();
  #rounds = 0;
  #reason = "no name server is known";
  #done = false;

  constructor(
    env: ExchangeEnvironment,
    question: UpstreamQuestion,
    servers: readonly SocketAddress[],
    handler: ExchangeHandler,
  ) {
    this.env = env;
    this.question = question;
    this.#untried = [...servers];
    this.#handler = handler;
  }

  /** The handler may be called from here. */
  start(): void {
    this.#nextRound();
  }

  /** Gives up without calling the handler. */
  cancel(): void {
    this.#done = true;
    this.env.io.reactor.cancelTimer(this.#timer);
    for (const asked of this.#asking) asked.close();
    this.#asking.clear();
  }

  answered(from: ServerQuestion, answer: Message): void {
    if (answer.rcode !== RCODE.NoError && answer.rcode !== RCODE.NXDomain) {
      return this.failed(from, `name server ${from.server.ip} answered with code ${answer.rcode}`);
    }
    this.cancel();
    this.#handler.exchanged(answer);
  }

  /** A server that refuses is not asked again. */
  failed(from: ServerQuestion, reason: string): void {
    this.#asking.delete(from);
    this.#reason = reason;
    if (this.#asking.size === 0 && !this.#done) this.#nextRound();
  }

  /** A server that answers by TCP gets the time anew. */
  prolong(): void {
    this.env.io.reactor.setTimer(this.#timer, SERVER_TIMEOUT_MS);
  }

  expired(): void {
    for (const asked of this.#asking) {
      asked.close();
      this.#silent.push(asked.server);
      this.#reason = `name server ${asked.server.ip} did not answer within ${SERVER_TIMEOUT_MS / 1000} s`;
    }
    this.#asking.clear();
    this.#nextRound();
  }

  #nextRound(): void {
    const servers = [...this.#untried, ...this.#silent].slice(0, AT_ONCE);
    if (servers.length === 0 || this.#rounds === MAX_ROUNDS) {
      this.cancel();
      return this.#handler.exchangeFailed(this.#reason);
    }
    this.#rounds++;
    this.#untried = this.#untried.filter((server) => !servers.includes(server));
    this.#silent = this.#silent.filter((server) => !servers.includes(server));
    this.env.io.reactor.setTimer(this.#timer, SERVER_TIMEOUT_MS);
    const asking = servers.map((server) => new ServerQuestion(this, server));
    for (const asked of asking) this.#asking.add(asked);
    // Two that fail at once would otherwise begin the next round twice.
    for (const asked of asking) {
      if (!this.#done && this.#asking.has(asked)) asked.ask();
    }
  }
}

/** The question on its way to one server. */
class ServerQuestion implements UdpExchangeHandler, TcpExchangeHandler {
  readonly server: SocketAddress;
  readonly #exchange: Exchange;
  #udp: UdpExchange | undefined;
  #tcp: TcpExchange | undefined;
  #id = 0;
  #strange = 0;
  #edns = true;

  constructor(exchange: Exchange, server: SocketAddress) {
    this.#exchange = exchange;
    this.server = server;
  }

  ask(): void {
    const { env } = this.#exchange;
    const { ip, port } = this.server;
    const family = familyOf(ip);
    const fd = env.sockets.createDatagramClient(family);
    if (fd < 0) return this.#fail(`cannot make a socket: ${describeErrno(-fd)}`);
    this.#udp = new UdpExchange(env.io.reactor, env.io.readBuffer, fd, this);
    const outcome = this.#udp.start(ip, port, family, this.#encode());
    if (outcome < 0) this.exchangeFailed(-outcome);
  }

  answered(bytes: Uint8Array): void {
    const answer = this.#accept(bytes);
    if (answer === undefined) {
      if (++this.#strange > MAX_STRANGE_ANSWERS) this.#askByTcp();
      return;
    }
    if (answer.truncated) return this.#askByTcp();
    if (this.#edns && answer.edns === undefined && refusesEdns(answer.rcode)) {
      // A server from before EDNS (RFC 6891 section 7).
      this.#edns = false;
      this.close();
      return this.ask();
    }
    this.close();
    this.#exchange.answered(this, answer);
  }

  tcpAnswered(bytes: Uint8Array): void {
    const answer = this.#accept(bytes);
    this.close();
    if (answer === undefined) this.#fail(`name server ${this.server.ip} answered something else by TCP`);
    else this.#exchange.answered(this, answer);
  }

  exchangeFailed(code: number): void {
    this.#fail(`cannot reach name server ${this.server.ip} port ${this.server.port}: ${describeErrno(code)}`);
  }

  tcpFailed(reason: string): void {
    this.#fail(`name server ${this.server.ip} by TCP: ${reason}`);
  }

  close(): void {
    this.#udp?.close();
    this.#tcp?.close();
    this.#udp = this.#tcp = undefined;
  }

  #askByTcp(): void {
    this.close();
    const { env } = this.#exchange;
    const { ip, port } = this.server;
    const family = familyOf(ip);
    const fd = env.sockets.createClient(family);
    if (fd < 0) return this.#fail(`cannot make a socket: ${describeErrno(-fd)}`);
    this.#exchange.prolong();
    const tcp = new TcpExchange(env.io, fd, this);
    this.#tcp = tcp;
    tcp.start(ip, port, family, SERVER_TIMEOUT_MS, this.#encode());
  }

  #fail(reason: string): void {
    this.close();
    this.#exchange.failed(this, reason);
  }

  #encode(): Uint8Array {
    const { env, question } = this.#exchange;
    this.#id = env.randomId();
    return encodeMessage({
      ...NO_FLAGS,
      id: this.#id,
      recursionDesired: question.recursionDesired,
      checkingDisabled: question.checkingDisabled,
      authenticData: question.authenticData,
      questions: [{ name: question.name, type: question.type, class: question.class }],
      edns: this.#edns
        ? { payloadBytes: PAYLOAD_BYTES, version: 0, dnssecOk: question.dnssecOk, options: NO_OPTIONS }
        : undefined,
    });
  }

  /** The message, if it is an answer to what was asked here. */
  #accept(bytes: Uint8Array): Message | undefined {
    if (bytes.length < 2 || (bytes[0] << 8 | bytes[1]) !== this.#id) return undefined;
    const answer = decodeMessage(bytes);
    if (answer === undefined || !answer.response || answer.opcode !== OPCODE_QUERY) return undefined;
    const { question } = this.#exchange;
    const [asked] = answer.questions;
    // A server that cannot read the question may leave it out.
    if (asked === undefined) {
      return answer.rcode === RCODE.NoError || answer.rcode === RCODE.NXDomain ? undefined : answer;
    }
    const same = answer.questions.length === 1 && asked.type === question.type && asked.class === question.class &&
      lowerName(asked.name) === lowerName(question.name);
    return same ? answer : undefined;
  }
}

const NO_OPTIONS = new Uint8Array(0);
const NO_FLAGS = {
  response: false,
  opcode: OPCODE_QUERY,
  authoritative: false,
  truncated: false,
  recursionAvailable: false,
  rcode: 0,
  answers: [],
  authorities: [],
  additionals: [],
};

function familyOf(ip: string): number {
  return isIpv6(ip) ? AF_INET6 : AF_INET;
}

function refusesEdns(rcode: number): boolean {
  return rcode === RCODE.FormErr || rcode === RCODE.NotImp;
}
