/** What the tests of sockets share: loopback pairs, raw socket options, and a network namespace of their own. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { Epoll, EPOLLIN } from "../../src/platform/epoll.ts";
import { libc } from "../../src/platform/libc.ts";
import { AF_INET, AF_INET6 } from "../../src/platform/sockaddr.ts";
import {
  acceptSocket,
  bindSocket,
  closeDescriptor,
  connectSocket,
  createTcpSocket,
  listenSocket,
  localAddress,
} from "../../src/platform/socket.ts";

export const EINPROGRESS = 115;
/** No test waits longer for the kernel. */
const DEADLINE_MS = 30_000;

/** A listening socket on a free port of the loopback. */
export function listenOnLoopback(family = AF_INET, backlog = 128): { readonly fd: number; readonly port: number } {
  const fd = createTcpSocket(family);
  assert.ok(fd >= 0, `socket: ${fd}`);
  assert.equal(bindSocket(fd, family === AF_INET6 ? "::" : "127.0.0.1", 0, family), 0);
  assert.equal(listenSocket(fd, backlog), 0);
  const address = localAddress(fd);
  assert.ok(address !== undefined);
  return { fd, port: address.port };
}

/** A socket that connects to a listener of the loopback. */
export function connectToLoopback(port: number, family = AF_INET): number {
  const fd = createTcpSocket(family);
  assert.ok(fd >= 0, `socket: ${fd}`);
  const outcome = connectSocket(fd, family === AF_INET6 ? "::1" : "127.0.0.1", port, family);
  assert.ok(outcome === 0 || outcome === -EINPROGRESS, `connect: ${outcome}`);
  return fd;
}

/** Blocks until the descriptor has one of the events, and returns its mask. */
export function waitFor(fd: number, events = EPOLLIN): number {
  const epoll = new Epoll();
  try {
    assert.equal(epoll.add(fd, events, 1), 0);
    assert.equal(epoll.wait(DEADLINE_MS), 1, "the kernel reported nothing in time");
    return epoll.eventMask(0);
  } finally {
    epoll.close();
  }
}

export function acceptOne(listener: number): number {
  waitFor(listener);
  const fd = acceptSocket(listener);
  assert.ok(fd >= 0, `accept: ${fd}`);
  return fd;
}

/** Both ends of a TCP connection over the loopback: the one that connected, the one that accepted. */
export function tcpPair(): readonly [number, number] {
  const listener = listenOnLoopback();
  const client = connectToLoopback(listener.port);
  const server = acceptOne(listener.fd);
  closeDescriptor(listener.fd);
  return [client, server];
}

/** An integer option as the kernel holds it. */
export function socketOption(fd: number, level: number, option: number): number {
  const value = new Int32Array(2);
  const length = new Uint32Array([4]);
  const outcome = libc.getsockopt(fd, level, option, new Uint8Array(value.buffer), new Uint8Array(length.buffer));
  assert.equal(outcome, 0, `getsockopt ${level}/${option}`);
  return value[0];
}

/** A network namespace with its loopback up, which lives until `close`. */
export interface TestNamespace {
  /** For `openNamespace`. */
  readonly path: string;
  readonly pid: number;
  close(): Promise<void>;
}

/** Makes a network namespace; `setup` is shell text that runs inside. Needs root, of a user namespace at least. */
export async function createNamespace(setup = ":"): Promise<TestNamespace> {
  const script = `ip link set lo up && ${setup} && echo ready && exec cat`;
  const child: ChildProcess = spawn("unshare", ["-n", "sh", "-c", script], { stdio: ["pipe", "pipe", "inherit"] });
  const ended = new Promise<void>((resolve) => child.on("exit", () => resolve()));
  await new Promise<void>((resolve, reject) => {
    let text = "";
    child.stdout?.on("data", (chunk) => {
      text += String(chunk);
      if (text.includes("ready")) resolve();
    });
    child.on("exit", (code) => reject(new Error(`the namespace's process ended with ${code}: ${text}`)));
    child.on("error", reject);
  });
  const pid = child.pid as number;
  return {
    path: `/proc/${pid}/ns/net`,
    pid,
    close: () => {
      child.stdin?.end();
      return ended;
    },
  };
}
