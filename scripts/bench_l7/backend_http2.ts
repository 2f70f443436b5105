/**
 * The application behind the waypoint where it speaks HTTP/2 (prior knowledge): every request is answered at once with the same 1,024 bytes, without
 * a look at its fields. Requests have no body: load.ts is the only client meant.
 *
 * Use: `bun scripts/bench_l7/backend_http2.ts --listen 0.0.0.0:8081`
 */
import process from "node:process";
import { parseArgs } from "node:util";
import { Epoll, EPOLLIN } from "../../src/platform/epoll.ts";
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
import { BODY_BYTES } from "../bench/backend.ts";
import { parseEndpoint } from "../bench/endpoint.ts";
import {
  ACK,
  concat,
  DATA,
  eachFrame,
  END_HEADERS,
  END_STREAM,
  frame,
  HEADERS,
  literal,
  PING,
  PREFACE,
  SETTINGS,
  STATUS_200,
} from "./exchange.ts";

const BACKLOG = 4096;

const head = Uint8Array.from([
  STATUS_200,
  ...literal("content-type", "text/plain"),
  ...literal("content-length", String(BODY_BYTES)),
]);

interface Connection {
  greeted: boolean;
  left: Uint8Array | undefined;
}

function answer(stream: number): Uint8Array[] {
  const body = new Uint8Array(BODY_BYTES).fill(0x78);
  return [frame(HEADERS, END_HEADERS, stream, head), frame(DATA, END_STREAM, stream, body)];
}

const template = concat(answer(0));
const dataAt = frame(HEADERS, END_HEADERS, 0, head).length;

function answerBytes(stream: number): Uint8Array {
  const bytes = template.slice();
  const view = new DataView(bytes.buffer);
  view.setUint32(5, stream);
  view.setUint32(dataAt + 5, stream);
  return bytes;
}

function serve(ip: string, port: number): never {
  const epoll = new Epoll();
  const connections: (Connection | undefined)[] = [];
  const input = new Uint8Array(64 * 1024);
  const listener = check("create a socket", createTcpSocket(AF_INET));
  setReuseAddress(listener);
  check(`bind ${ip}:${port}`, bindSocket(listener, ip, port, AF_INET));
  check("listen", listenSocket(listener, BACKLOG));
  epoll.add(listener, EPOLLIN, 0);
  const close = (fd: number) => {
    connections[fd] = undefined;
    closeDescriptor(fd);
  };
  const read = (fd: number, connection: Connection) => {
    const n = receive(fd, input, 0, input.length);
    if (n === -EAGAIN) return;
    if (n <= 0) return close(fd);
    let bytes = input;
    let length = n;
    const replies: Uint8Array[] = [];
    if (!connection.greeted) {
      // Clients send it in one piece with what follows.
      if (n < PREFACE.length) return close(fd);
      connection.greeted = true;
      bytes = input.slice(PREFACE.length, n);
      length = bytes.length;
      replies.push(frame(SETTINGS, 0, 0, new Uint8Array(0)));
    }
    connection.left = eachFrame(connection.left, bytes, length, (type, flags, stream, from, start, end) => {
      if (type === SETTINGS && (flags & ACK) === 0) replies.push(frame(SETTINGS, ACK, 0, new Uint8Array(0)));
      else if (type === PING && (flags & ACK) === 0) replies.push(frame(PING, ACK, 0, from.slice(start, end)));
      else if (type === HEADERS && (flags & END_STREAM) !== 0) replies.push(answerBytes(stream));
    });
    if (replies.length === 0) return;
    const out = replies.length === 1 ? replies[0]! : concat(replies);
    if (send(fd, out, 0, out.length) !== out.length) close(fd);
  };
  for (;;) {
    const events = epoll.wait(-1);
    for (let i = 0; i < events; i++) {
      const fd = epoll.eventFd(i);
      if (fd !== listener) {
        const connection = connections[fd];
        if (connection !== undefined) read(fd, connection);
        continue;
      }
      for (let accepted = acceptSocket(listener); accepted >= 0; accepted = acceptSocket(listener)) {
        setNoDelay(accepted);
        connections[accepted] = { greeted: false, left: undefined };
        epoll.add(accepted, EPOLLIN, 0);
      }
    }
  }
}

function check(what: string, value: number): number {
  if (value < 0) throw new Error(`backend: cannot ${what}: ${describeErrno(-value)}`);
  return value;
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { listen: { type: "string", default: "127.0.0.1:8081" } } });
  const { ip, port } = parseEndpoint(values.listen);
  process.stdout.write("listening\n", () => serve(ip, port));
}
