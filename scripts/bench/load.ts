/**
 * The load generator: closed loops of HTTP/1.1 requests on epoll, one thread, every answer checked for its status and its
 * length. It samples the CPU time of the proxies itself, in the same turn in which a measurement begins and ends.
 *
 * Not wrk, because wrk checks no lengths and, on one core with the same backend, does a third less. `bench:l4` measures
 * generator and backend without proxies first and says what they can do.
 */
import { Epoll, EPOLLIN, EPOLLOUT } from "../../src/platform/epoll.ts";
import { describeErrno, EAGAIN, EINPROGRESS } from "../../src/platform/errno.ts";
import {
  closeDescriptor,
  connectSocket,
  createTcpSocket,
  receive,
  send,
  setNoDelay,
  takeSocketError,
} from "../../src/platform/socket.ts";
import { AF_INET } from "../../src/platform/sockaddr.ts";
import { parseEndpoint } from "./endpoint.ts";
import { Histogram } from "./stats.ts";

/** No answer and no progress for this long is a failure of the proxies, not a slow one. */
const STALL_MS = 15_000;
/** How often a loop without events looks at the clock. */
const WAIT_MS = 50;

const encoder = new TextEncoder();
const decoder = new TextDecoder();
/** "HTTP/1.1 200", compared byte by byte. */
const STATUS_OK = encoder.encode("HTTP/1.1 200");

function requestBytes(path: string, close: boolean): Uint8Array {
  return encoder.encode(`GET ${path} HTTP/1.1\r\nHost: bench\r\n${close ? "Connection: close\r\n" : ""}\r\n`);
}

/** What a finished answer means for its connection. */
export type Next = "again" | "close" | "hold" | "reconnect";

/** Decides after each complete answer; `latencyUs` is since the request was sent, or the connection begun. */
export type OnAnswer = (latencyUs: number) => Next;

interface Exchange {
  /** Microseconds on the monotonic clock. */
  startedUs: number;
  /** Bytes of the current answer so far, and in all once its header is read (0: not yet). */
  received: number;
  total: number;
  connected: boolean;
}

export interface LoopOptions {
  /** "ip:port" */
  readonly target: string;
  readonly path: string;
  /** The server is asked to close after the answer: one request per connection. */
  readonly closeEach: boolean;
  readonly onAnswer: OnAnswer;
}

/** Microseconds on the monotonic clock. */
export function nowUs(): number {
  return performance.now() * 1000;
}

/** A set of client connections, each with at most one request under way. */
export class ClientLoop {
  readonly #epoll = new Epoll();
  readonly #exchanges: (Exchange | undefined)[] = [];
  readonly #input: Uint8Array;
  readonly #request: Uint8Array;
  readonly #options: LoopOptions;
  readonly #ip: string;
  readonly #port: number;
  #open = 0;
  #lastProgressUs = nowUs();
  /** Length of an answer with its header; every answer of a loop has the same one. */
  #answerBytes = 0;

  constructor(options: LoopOptions, inputBytes = 64 * 1024) {
    const { ip, port } = parseEndpoint(options.target);
    this.#ip = ip;
    this.#port = port;
    this.#options = options;
    this.#input = new Uint8Array(inputBytes);
    this.#request = requestBytes(options.path, options.closeEach);
  }

  get open(): number {
    return this.#open;
  }

  /** Length of one answer in bytes, header included; 0 before the first answer. */
  get answerBytes(): number {
    return this.#answerBytes;
  }

  connect(): void {
    const fd = createTcpSocket(AF_INET);
    if (fd < 0) throw new Error(`load: cannot create a socket: ${describeErrno(-fd)}`);
    setNoDelay(fd);
    const error = connectSocket(fd, this.#ip, this.#port, AF_INET);
    if (error < 0 && error !== -EINPROGRESS) throw new Error(`load: cannot connect: ${describeErrno(-error)}`);
    this.#exchanges[fd] = { startedUs: nowUs(), received: 0, total: 0, connected: false };
    this.#epoll.add(fd, EPOLLOUT, 0);
    this.#open++;
  }

  /** Handles events until `done` says so. Throws on any wrong answer or reset, and when nothing happens for `stallMs`. */
  run(done: () => boolean, stallMs = STALL_MS): void {
    this.#lastProgressUs = nowUs();
    while (!done()) {
      const events = this.#epoll.wait(WAIT_MS);
      for (let i = 0; i < events; i++) this.#handle(this.#epoll.eventFd(i));
      if (events > 0) this.#lastProgressUs = nowUs();
      else if (nowUs() - this.#lastProgressUs > stallMs * 1000) {
        throw new Error(`load: no progress for ${stallMs / 1000} s with ${this.#open} connections open`);
      }
    }
  }

  /** Closes every connection that is open, held ones too. */
  closeAll(): void {
    for (let fd = 0; fd < this.#exchanges.length; fd++) if (this.#exchanges[fd] !== undefined) this.#close(fd);
  }

  dispose(): void {
    this.closeAll();
    this.#epoll.close();
  }

  #handle(fd: number): void {
    const exchange = this.#exchanges[fd];
    if (exchange === undefined) return;
    if (!exchange.connected) return this.#established(fd, exchange);
    const n = receive(fd, this.#input, 0, this.#input.length);
    if (n === -EAGAIN) return;
    if (n < 0) throw new Error(`load: connection failed: ${describeErrno(-n)}`);
    if (n === 0) return this.#ended(fd, exchange);
    if (exchange.received === 0) this.#readHeader(exchange, n);
    exchange.received += n;
    if (exchange.received > exchange.total) throw new Error("load: more bytes than the answer's length");
    // With closeEach the connection ends when the server closed it, so that this is part of what is measured.
    if (exchange.received === exchange.total && !this.#options.closeEach) this.#answered(fd, exchange);
  }

  #established(fd: number, exchange: Exchange): void {
    const error = takeSocketError(fd);
    if (error !== 0) throw new Error(`load: cannot connect to ${this.#options.target}: ${describeErrno(error)}`);
    exchange.connected = true;
    this.#epoll.modify(fd, EPOLLIN, 0);
    this.#sendRequest(fd, exchange);
  }

  #sendRequest(fd: number, exchange: Exchange): void {
    exchange.received = 0;
    const n = send(fd, this.#request, 0, this.#request.length);
    if (n !== this.#request.length) throw new Error(`load: cannot send a request: ${describeErrno(-n)}`);
  }

  #readHeader(exchange: Exchange, n: number): void {
    for (let i = 0; i < STATUS_OK.length; i++) {
      if (n <= i || this.#input[i] !== STATUS_OK[i]) {
        throw new Error(`load: answer is not 200: ${decoder.decode(this.#input.subarray(0, Math.min(n, 64)))}`);
      }
    }
    if (this.#answerBytes === 0) {
      const text = decoder.decode(this.#input.subarray(0, Math.min(n, 4096)));
      const headerBytes = text.indexOf("\r\n\r\n") + 4;
      const length = /content-length: (\d+)/i.exec(text)?.[1];
      if (headerBytes < 4 || length === undefined) throw new Error("load: answer without a whole header");
      this.#answerBytes = headerBytes + Number(length);
    }
    exchange.total = this.#answerBytes;
  }

  #ended(fd: number, exchange: Exchange): void {
    if (!this.#options.closeEach || exchange.total === 0 || exchange.received !== exchange.total) {
      throw new Error(`load: connection closed after ${exchange.received} of ${exchange.total} bytes`);
    }
    this.#answered(fd, exchange);
  }

  #answered(fd: number, exchange: Exchange): void {
    const now = nowUs();
    const next = this.#options.onAnswer(now - exchange.startedUs);
    switch (next) {
      case "again":
        exchange.startedUs = now;
        return this.#sendRequest(fd, exchange);
      case "hold":
        exchange.received = exchange.total = 0;
        return;
      case "reconnect":
        this.#close(fd);
        return this.connect();
      case "close":
        return this.#close(fd);
    }
  }

  #close(fd: number): void {
    this.#exchanges[fd] = undefined;
    closeDescriptor(fd);
    this.#open--;
  }
}

/** The latencies of a run, kept from the moment the warm-up ended. */
export function createRecorder(): { readonly histogram: Histogram; readonly record: (latencyUs: number) => void } {
  const histogram = new Histogram();
  return { histogram, record: (latencyUs) => histogram.add(latencyUs) };
}
