import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { EPOLLOUT } from "../../src/platform/epoll.ts";
import {
  EADDRINUSE,
  EAGAIN,
  EBADF,
  ECONNREFUSED,
  ECONNRESET,
  EINPROGRESS,
  EINVAL,
  EPIPE,
} from "../../src/platform/errno.ts";
import { runtime } from "../../src/platform/runtime.ts";
import { AF_INET, AF_INET6 } from "../../src/platform/sockaddr.ts";
import {
  acceptedPeer,
  acceptSocket,
  bindForeignSource,
  bindSocket,
  closeDescriptor,
  connectSocket,
  createTcpSocket,
  listenSocket,
  localAddress,
  originalDestination,
  peerAddress,
  receive,
  send,
  setKeepalive,
  setMark,
  setNoDelay,
  setReceiveBuffer,
  setResetOnClose,
  setReuseAddress,
  setReusePort,
  setSendBuffer,
  setTransparent,
  setUserTimeout,
  shutdownWrite,
  socketPair,
  takeSocketError,
} from "../../src/platform/socket.ts";
import { acceptOne, connectToLoopback, listenOnLoopback, socketOption, tcpPair, waitFor } from "./support.ts";

const SOL_SOCKET = 1;
const IPPROTO_TCP = 6;
const SOL_IP = 0;
const SOL_IPV6 = 41;
const encoder = new TextEncoder();

function openFcntl(): { fcntl: (fd: number, command: number, argument: number) => number } {
  return runtime.open("libc.so.6", { fcntl: { args: ["i32", "i32", "i32"], returns: "i32" } });
}

function closeAll(...fds: readonly number[]): void {
  for (const fd of fds) closeDescriptor(fd);
}

describe("socket: connections", () => {
  test("socket: an IPv4 connection has the same addresses at both ends", () => {
    const listener = listenOnLoopback(AF_INET);
    const client = connectToLoopback(listener.port);
    waitFor(listener.fd);
    const server = acceptSocket(listener.fd);
    const peer = acceptedPeer();
    assert.deepEqual(peer, localAddress(client));
    assert.deepEqual(peer, peerAddress(server));
    assert.deepEqual(peerAddress(client), { ip: "127.0.0.1", port: listener.port });
    assert.deepEqual(localAddress(server), { ip: "127.0.0.1", port: listener.port });
    closeAll(client, server, listener.fd);
  });

  test("socket: a dual-stack listener names an IPv4 client by its IPv4 address", () => {
    const listener = listenOnLoopback(AF_INET6);
    const v4 = connectToLoopback(listener.port, AF_INET);
    const first = acceptOne(listener.fd);
    assert.equal(acceptedPeer()?.ip, "127.0.0.1");
    assert.deepEqual(localAddress(first), { ip: "127.0.0.1", port: listener.port });
    const v6 = connectToLoopback(listener.port, AF_INET6);
    const second = acceptOne(listener.fd);
    assert.equal(acceptedPeer()?.ip, "::1");
    assert.deepEqual(localAddress(second), { ip: "::1", port: listener.port });
    closeAll(v4, first, v6, second, listener.fd);
  });

  test("socket: an IPv6 socket reaches an IPv4 address as a mapped one", () => {
    const listener = listenOnLoopback(AF_INET);
    const client = createTcpSocket(AF_INET6);
    const outcome = connectSocket(client, "127.0.0.1", listener.port, AF_INET6);
    assert.ok(outcome === 0 || outcome === -EINPROGRESS);
    const server = acceptOne(listener.fd);
    assert.deepEqual(peerAddress(client), { ip: "127.0.0.1", port: listener.port });
    closeAll(client, server, listener.fd);
  });

  test("socket: descriptors do not block and are closed on exec", () => {
    const [client, server] = tcpPair();
    const F_GETFD = 1;
    const F_GETFL = 3;
    const O_NONBLOCK = 0o4000;
    const { fcntl } = openFcntl();
    for (const fd of [client, server]) {
      assert.equal(fcntl(fd, F_GETFD, 0) & 1, 1);
      assert.equal(fcntl(fd, F_GETFL, 0) & O_NONBLOCK, O_NONBLOCK);
    }
    assert.equal(receive(server, new Uint8Array(8), 0, 8), -EAGAIN);
    closeAll(client, server);
  });

  test("socket: a refused connection is an error of the socket", () => {
    const listener = listenOnLoopback();
    closeDescriptor(listener.fd);
    const client = createTcpSocket(AF_INET);
    const outcome = connectSocket(client, "127.0.0.1", listener.port, AF_INET);
    if (outcome === -EINPROGRESS) {
      waitFor(client, EPOLLOUT);
      assert.equal(takeSocketError(client), ECONNREFUSED);
      assert.equal(takeSocketError(client), 0, "taking it clears it");
    } else assert.equal(outcome, -ECONNREFUSED);
    closeDescriptor(client);
  });

  test("socket: failures are negative errno values", () => {
    const none = 1 << 20;
    const bytes = new Uint8Array(4);
    assert.equal(bindSocket(none, "127.0.0.1", 0, AF_INET), -EBADF);
    assert.equal(listenSocket(none, 1), -EBADF);
    assert.equal(connectSocket(none, "127.0.0.1", 1, AF_INET), -EBADF);
    assert.equal(acceptSocket(none), -EBADF);
    assert.equal(receive(none, bytes, 0, 4), -EBADF);
    assert.equal(send(none, bytes, 0, 4), -EBADF);
    assert.equal(shutdownWrite(none), -EBADF);
    assert.equal(setNoDelay(none), -EBADF);
    assert.equal(setResetOnClose(none), -EBADF);
    assert.equal(takeSocketError(none), EBADF);
    assert.equal(localAddress(none), undefined);
    assert.equal(peerAddress(none), undefined);
    assert.ok(createTcpSocket(12345) < 0);
    const idle = createTcpSocket(AF_INET);
    assert.equal(acceptSocket(idle), -EINVAL);
    assert.equal(peerAddress(idle), undefined);
    closeDescriptor(idle);
  });

  test("socket: a text that is no address is the caller's bug", () => {
    const fd = createTcpSocket(AF_INET);
    assert.throws(() => connectSocket(fd, "localhost", 80, AF_INET), /"localhost" is not an IP address/);
    closeDescriptor(fd);
  });
});

describe("socket: bytes", () => {
  test("socket: sends and receives within the given bounds", () => {
    const [client, server] = tcpPair();
    const out = encoder.encode("..hello..");
    assert.equal(send(client, out, 2, 7), 5);
    waitFor(server);
    const into = new Uint8Array(16);
    assert.equal(receive(server, into, 3, 16), 5);
    assert.deepEqual(into.subarray(0, 9), encoder.encode("\0\0\0hello\0"));
    closeAll(client, server);
  });

  test("socket: an ended half reads as end of stream while the other goes on", () => {
    const [client, server] = tcpPair();
    assert.equal(shutdownWrite(client), 0);
    waitFor(server);
    assert.equal(receive(server, new Uint8Array(8), 0, 8), 0);
    assert.equal(send(server, encoder.encode("still"), 0, 5), 5);
    waitFor(client);
    assert.equal(receive(client, new Uint8Array(8), 0, 8), 5);
    assert.equal(send(client, new Uint8Array(1), 0, 1), -EPIPE);
    closeAll(client, server);
  });

  test("socket: a close with reset reads as ECONNRESET", () => {
    const [client, server] = tcpPair();
    assert.equal(setResetOnClose(client), 0);
    closeDescriptor(client);
    waitFor(server);
    assert.equal(receive(server, new Uint8Array(8), 0, 8), -ECONNRESET);
    closeDescriptor(server);
  });

  test("socket: a full kernel buffer takes what it can, then says EAGAIN", () => {
    const [client, server] = tcpPair();
    setSendBuffer(client, 4096);
    setReceiveBuffer(server, 4096);
    const block = new Uint8Array(1 << 20);
    let sent = 0;
    for (let n = 0; n >= 0; n = send(client, block, 0, block.length)) {
      sent += n;
      assert.ok(sent < 1 << 26, "the kernel never says that it is full");
    }
    assert.equal(send(client, block, 0, block.length), -EAGAIN);
    closeAll(client, server);
  });

  test("socket: a socket pair is connected both ways and does not block", () => {
    const pair = socketPair();
    assert.ok(pair !== undefined);
    const into = new Uint8Array(8);
    assert.equal(receive(pair[0], into, 0, 8), -EAGAIN);
    assert.equal(send(pair[0], encoder.encode("ab"), 0, 2), 2);
    assert.equal(receive(pair[1], into, 0, 8), 2);
    assert.equal(send(pair[1], encoder.encode("cde"), 0, 3), 3);
    assert.equal(receive(pair[0], into, 0, 8), 3);
    assert.equal(localAddress(pair[0]), undefined, "a unix socket has no IP address");
    closeAll(...pair);
  });
});

describe("socket: options", () => {
  test("socket: options reach the kernel", () => {
    const fd = createTcpSocket(AF_INET);
    assert.equal(setNoDelay(fd), 0);
    assert.equal(socketOption(fd, IPPROTO_TCP, 1), 1);
    assert.equal(setKeepalive(fd, { idleSeconds: 181, intervalSeconds: 17, probes: 7 }), 0);
    assert.equal(socketOption(fd, SOL_SOCKET, 9), 1);
    assert.equal(socketOption(fd, IPPROTO_TCP, 4), 181);
    assert.equal(socketOption(fd, IPPROTO_TCP, 5), 17);
    assert.equal(socketOption(fd, IPPROTO_TCP, 6), 7);
    assert.equal(setUserTimeout(fd, 271_000), 0);
    assert.equal(socketOption(fd, IPPROTO_TCP, 18), 271_000);
    assert.equal(setReuseAddress(fd), 0);
    assert.equal(socketOption(fd, SOL_SOCKET, 2), 1);
    assert.equal(setReusePort(fd), 0);
    assert.equal(socketOption(fd, SOL_SOCKET, 15), 1);
    assert.equal(setMark(fd, 1337), 0);
    assert.equal(socketOption(fd, SOL_SOCKET, 36), 1337);
    // The kernel doubles buffer sizes for its own bookkeeping (socket(7)).
    assert.equal(setSendBuffer(fd, 20_000), 0);
    assert.equal(socketOption(fd, SOL_SOCKET, 7), 40_000);
    assert.equal(setReceiveBuffer(fd, 20_000), 0);
    assert.equal(socketOption(fd, SOL_SOCKET, 8), 40_000);
    closeDescriptor(fd);
  });

  test("socket: a transparent socket is so for both families", () => {
    const v4 = createTcpSocket(AF_INET);
    assert.equal(setTransparent(v4, AF_INET), 0);
    assert.equal(socketOption(v4, SOL_IP, 19), 1);
    const v6 = createTcpSocket(AF_INET6);
    assert.equal(setTransparent(v6, AF_INET6), 0);
    assert.equal(socketOption(v6, SOL_IP, 19), 1);
    assert.equal(socketOption(v6, SOL_IPV6, 75), 1);
    closeAll(v4, v6);
  });

  test("socket: takes a source address that is not this machine's", () => {
    const v4 = createTcpSocket(AF_INET);
    assert.equal(bindForeignSource(v4, "203.0.113.7", AF_INET), 0);
    assert.equal(localAddress(v4)?.ip, "203.0.113.7");
    const v6 = createTcpSocket(AF_INET6);
    assert.equal(bindForeignSource(v6, "2001:db8::7", AF_INET6), 0);
    assert.equal(localAddress(v6)?.ip, "2001:db8::7");
    const plain = createTcpSocket(AF_INET);
    assert.ok(bindSocket(plain, "203.0.113.7", 0, AF_INET) < 0, "the address is a local one: the test proves nothing");
    closeAll(v4, v6, plain);
  });

  test("socket: only SO_REUSEPORT lets two listeners share a port", () => {
    const listen = (port: number, reusePort: boolean): number => {
      const fd = createTcpSocket(AF_INET);
      if (reusePort) setReusePort(fd);
      else setReuseAddress(fd);
      const bound = bindSocket(fd, "127.0.0.1", port, AF_INET);
      const outcome = bound < 0 ? bound : listenSocket(fd, 8);
      if (outcome === 0) return fd;
      closeDescriptor(fd);
      return outcome;
    };
    const first = listen(0, true);
    const port = localAddress(first)?.port as number;
    const second = listen(port, true);
    assert.ok(second >= 0);
    assert.equal(listen(port, false), -EADDRINUSE);
    closeAll(first, second);
  });

  test("socket: a connection that was not redirected has no other destination than its own", () => {
    for (const family of [AF_INET, AF_INET6]) {
      const listener = listenOnLoopback(family);
      const client = connectToLoopback(listener.port, family);
      const server = acceptOne(listener.fd);
      const original = originalDestination(server);
      // Where connection tracking is on the kernel knows an answer, and it is the true one.
      if (original !== undefined) assert.deepEqual(original, localAddress(server));
      closeAll(client, server, listener.fd);
    }
    assert.equal(originalDestination(1 << 20), undefined);
  });
});

test("errno: is right each time among a quarter of a million failing calls and allocations", () => {
  const idle = createTcpSocket(AF_INET);
  const pair = socketPair();
  assert.ok(pair !== undefined);
  const bytes = new Uint8Array(16);
  let garbage: unknown[] = [];
  for (let i = 0; i < 125_000; i++) {
    assert.equal(receive(pair[0], bytes, 0, 16), -EAGAIN);
    assert.equal(acceptSocket(idle), -EINVAL);
    garbage.push({ i, text: `${i}` });
    if (garbage.length > 5_000) garbage = [];
  }
  closeAll(idle, ...pair);
});
