/**
 * The client of `bench:l7`: closed loops over HTTP/1.1 or HTTP/2 (prior knowledge), one thread on epoll, every answer checked for its status
 * and its length. It measures between two moments of the wall clock that it is given, so that whoever started it can take the
 * proxy's CPU time at the same moments.
 *
 * Use: `bun scripts/bench_l7/load.ts --target 10.96.0.1:80 --protocol http1 --connections 64 --begin EPOCH_MS --end EPOCH_MS`
 */
import process from "node:process";
import { parseArgs } from "node:util";
import { Epoll, EPOLLIN, EPOLLOUT } from "../../src/platform/epoll.ts";
import { describeErrno, EAGAIN, EINPROGRESS } from "../../src/platform/errno.ts";
import {
  connectSocket,
  createTcpSocket,
  receive,
  send,
  setNoDelay,
  takeSocketError,
} from "../../src/platform/socket.ts";
import { AF_INET } from "../../src/platform/sockaddr.ts";
import { BODY_BYTES } from "../bench/backend.ts";
import { parseEndpoint } from "../bench/endpoint.ts";
import { Histogram } from "../bench/stats.ts";
import { type Exchange, Http1Exchange, Http2Exchange } from "./exchange.ts";

/** What one run of the generator says, as JSON on one line. */
export interface LoadFigures {
  readonly requests: number;
  readonly requestsPerSecond: number;
  readonly p50Us: number;
  readonly p99Us: number;
}

/** How often a loop without events looks at the clock. */
const WAIT_MS = 5;
const STALL_MS = 15_000;

interface Options {
  readonly target: string;
  readonly protocol: string;
  readonly host: string;
  readonly token: string;
  readonly connections: number;
  /** Epoch milliseconds. */
  readonly beginMs: number;
  readonly endMs: number;
  /** One request a connection, and then nothing until the end. */
  readonly hold: boolean;
}

function run(options: Options): LoadFigures {
  const { ip, port } = parseEndpoint(options.target);
  const epoll = new Epoll();
  const input = new Uint8Array(64 * 1024);
  const exchanges: Exchange[] = [];
  const startedUs: number[] = [];
  const connected: boolean[] = [];
  const histogram = new Histogram();
  const nowUs = () => performance.now() * 1000;
  /** Of the wall clock above the monotonic one. */
  const offsetUs = Date.now() * 1000 - nowUs();
  const beginUs = options.beginMs * 1000 - offsetUs;
  const endUs = options.endMs * 1000 - offsetUs;
  let waiting = 0;

  const connect = () => {
    const fd = createTcpSocket(AF_INET);
    if (fd < 0) throw new Error(`load: cannot create a socket: ${describeErrno(-fd)}`);
    setNoDelay(fd);
    const error = connectSocket(fd, ip, port, AF_INET);
    if (error < 0 && error !== -EINPROGRESS) throw new Error(`load: cannot connect: ${describeErrno(-error)}`);
    const request = { path: "/", host: options.host, token: options.token, bodyBytes: BODY_BYTES };
    exchanges[fd] = options.protocol === "http2" ? new Http2Exchange(request) : new Http1Exchange(request);
    epoll.add(fd, EPOLLOUT, 0);
    waiting++;
  };
  const write = (fd: number, bytes: Uint8Array) => {
    const n = send(fd, bytes, 0, bytes.length);
    if (n !== bytes.length) throw new Error(`load: cannot send: ${n < 0 ? describeErrno(-n) : "short"}`);
  };
  const ask = (fd: number) => {
    startedUs[fd] = nowUs();
    write(fd, exchanges[fd]!.next());
  };

  // All at once would be a test of the backlog: a few are under way at a time.
  let left = options.connections;
  let lastUs = nowUs();
  for (;;) {
    const at = nowUs();
    if (at >= endUs) break;
    if (at - lastUs > STALL_MS * 1000 && !options.hold) throw new Error("load: no progress");
    while (left > 0 && waiting < 32) {
      connect();
      left--;
    }
    const events = epoll.wait(WAIT_MS);
    for (let i = 0; i < events; i++) {
      const fd = epoll.eventFd(i);
      if (connected[fd] !== true) {
        const error = takeSocketError(fd);
        if (error !== 0) throw new Error(`load: cannot connect to ${options.target}: ${describeErrno(error)}`);
        connected[fd] = true;
        epoll.modify(fd, EPOLLIN, 0);
        ask(fd);
        continue;
      }
      const n = receive(fd, input, 0, input.length);
      if (n === -EAGAIN) continue;
      if (n <= 0) throw new Error(`load: connection ended: ${n < 0 ? describeErrno(-n) : "end of file"}`);
      const exchange = exchanges[fd]!;
      const done = exchange.receive(input, n);
      const reply = exchange.reply();
      if (reply !== undefined) write(fd, reply);
      if (!done) continue;
      const answeredUs = nowUs();
      lastUs = answeredUs;
      if (exchange.answers === 1) waiting--;
      if (answeredUs >= beginUs) histogram.add(answeredUs - startedUs[fd]!);
      if (!options.hold) ask(fd);
    }
  }
  if (left > 0 || waiting > 0) throw new Error(`load: ${left + waiting} connections were not open in time`);
  const seconds = (endUs - beginUs) / 1e6;
  return {
    requests: histogram.count,
    requestsPerSecond: histogram.count / seconds,
    p50Us: histogram.percentile(0.5),
    p99Us: histogram.percentile(0.99),
  };
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      target: { type: "string", default: "" },
      protocol: { type: "string", default: "http1" },
      host: { type: "string", default: "server" },
      token: { type: "string", default: "" },
      connections: { type: "string", default: "64" },
      begin: { type: "string", default: "0" },
      end: { type: "string", default: "0" },
      hold: { type: "boolean", default: false },
    },
  });
  const figures = run({
    target: values.target,
    protocol: values.protocol,
    host: values.host,
    token: values.token,
    connections: Number(values.connections),
    beginMs: Number(values.begin),
    endMs: Number(values.end),
    hold: values.hold,
  });
  process.stdout.write(`${JSON.stringify(figures)}\n`, () => process.exit(0));
}
