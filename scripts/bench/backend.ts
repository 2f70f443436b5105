/**
 * The application behind the proxies: an HTTP/1.1 server on epoll, cheap enough that the proxies are the bottleneck.
 *
 * `GET /` answers BODY_BYTES bytes, `GET /bytes/N` answers N bytes; `Connection: close` is honoured. Requests are not
 * pipelined and have no body: the generator in load.ts is the only client meant.
 *
 * Use: `bun scripts/bench/backend.ts --listen 127.0.0.1:8080` (prints "listening" on standard output once it does).
 */
import process from "node:process";
import { parseArgs } from "node:util";
import { Epoll, EPOLLIN, EPOLLOUT } from "../../src/platform/epoll.ts";
import { describeErrno, EAGAIN } from "../../src/platform/errno.ts";
import {
  acceptSocket,
  bindSocket,
  closeDescriptor,
  createTcpSocket,
  listenSocket,
  receive,
  send,
  setNoDelay,
  setReuseAddress,
} from "../../src/platform/socket.ts";
import { AF_INET } from "../../src/platform/sockaddr.ts";
import { parseEndpoint } from "./endpoint.ts";

/** A small JSON answer of an ordinary service. */
export const BODY_BYTES = 1024;
/** What is handed to the kernel at once of a large answer. */
const BULK_BYTES = 256 * 1024;
const BACKLOG = 4096;

interface Connection {
  /** Bytes of the current answer that are still to be sent from the bulk buffer. */
  remaining: number;
  request: string;
  closeAfter: boolean;
}

function answer(length: number, close: boolean): string {
  return `HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: ${length}\r\n${
    close ? "Connection: close\r\n" : ""
  }\r\n`;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const smallAnswer = encoder.encode(answer(BODY_BYTES, false) + "x".repeat(BODY_BYTES));
const smallAnswerThenClose = encoder.encode(answer(BODY_BYTES, true) + "x".repeat(BODY_BYTES));
const bulk = new Uint8Array(BULK_BYTES).fill(0x62);
const input = new Uint8Array(64 * 1024);

class Backend {
  readonly #epoll = new Epoll();
  readonly #connections: (Connection | undefined)[] = [];
  readonly #listener: number;

  constructor(ip: string, port: number) {
    this.#listener = check("create a socket", createTcpSocket(AF_INET));
    setReuseAddress(this.#listener);
    check(`bind ${ip}:${port}`, bindSocket(this.#listener, ip, port, AF_INET));
    check("listen", listenSocket(this.#listener, BACKLOG));
    this.#epoll.add(this.#listener, EPOLLIN, 0);
  }

  run(): never {
    for (;;) {
      const events = this.#epoll.wait(-1);
      for (let i = 0; i < events; i++) {
        const fd = this.#epoll.eventFd(i);
        if (fd === this.#listener) this.#acceptAll();
        else this.#serve(fd, this.#epoll.eventMask(i));
      }
    }
  }

  #acceptAll(): void {
    for (;;) {
      const fd = acceptSocket(this.#listener);
      if (fd < 0) return;
      setNoDelay(fd);
      this.#connections[fd] = { remaining: 0, request: "", closeAfter: false };
      this.#epoll.add(fd, EPOLLIN, 0);
    }
  }

  #serve(fd: number, mask: number): void {
    const connection = this.#connections[fd];
    if (connection === undefined) return;
    if ((mask & EPOLLOUT) !== 0 && connection.remaining > 0) return this.#sendBulk(fd, connection);
    const n = receive(fd, input, 0, input.length);
    if (n === -EAGAIN) return;
    if (n <= 0) return this.#close(fd);
    connection.request += decoder.decode(input.subarray(0, n));
    if (!connection.request.endsWith("\r\n\r\n")) return;
    const request = connection.request;
    connection.request = "";
    connection.closeAfter = request.includes("Connection: close");
    if (request.startsWith("GET / ")) {
      const bytes = connection.closeAfter ? smallAnswerThenClose : smallAnswer;
      if (send(fd, bytes, 0, bytes.length) !== bytes.length || connection.closeAfter) this.#close(fd);
      return;
    }
    const length = Number(/^GET \/bytes\/(\d+) /.exec(request)?.[1] ?? NaN);
    if (Number.isNaN(length)) return this.#close(fd);
    const head = encoder.encode(answer(length, connection.closeAfter));
    if (send(fd, head, 0, head.length) !== head.length) return this.#close(fd);
    connection.remaining = length;
    this.#epoll.modify(fd, EPOLLIN | EPOLLOUT, 0);
  }

  #sendBulk(fd: number, connection: Connection): void {
    const n = send(fd, bulk, 0, Math.min(bulk.length, connection.remaining));
    if (n === -EAGAIN) return;
    if (n < 0) return this.#close(fd);
    connection.remaining -= n;
    if (connection.remaining > 0) return;
    if (connection.closeAfter) this.#close(fd);
    else this.#epoll.modify(fd, EPOLLIN, 0);
  }

  #close(fd: number): void {
    this.#connections[fd] = undefined;
    closeDescriptor(fd);
  }
}

function check(what: string, value: number): number {
  if (value < 0) throw new Error(`backend: cannot ${what}: ${describeErrno(-value)}`);
  return value;
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { listen: { type: "string", default: "127.0.0.1:8080" } } });
  const { ip, port } = parseEndpoint(values.listen);
  const backend = new Backend(ip, port);
  process.stdout.write("listening\n", () => backend.run());
}
