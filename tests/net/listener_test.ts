import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type AcceptHandler, Listener } from "../../src/net/listener.ts";
import { Timer } from "../../src/net/reactor.ts";
import { EBADF, EINVAL, EMFILE } from "../../src/platform/errno.ts";
import { libc } from "../../src/platform/libc.ts";
import { AF_INET } from "../../src/platform/sockaddr.ts";
import type { SocketAddress } from "../../src/platform/sockaddr.ts";
import { closeDescriptor, createTcpSocket, localAddress, setResetOnClose } from "../../src/platform/socket.ts";
import { connectToLoopback, listenOnLoopback } from "../platform/support.ts";
import { createLoop } from "./support.ts";

class Accepted implements AcceptHandler {
  readonly fds: number[] = [];
  readonly peers: SocketAddress[] = [];
  readonly failures: number[] = [];
  accepted(fd: number, peer: SocketAddress): void {
    this.fds.push(fd);
    this.peers.push(peer);
  }
  acceptFailed(code: number): void {
    this.failures.push(code);
  }
}

function setUp(backlog = 128) {
  const loop = createLoop();
  const socket = listenOnLoopback(AF_INET, backlog);
  const handler = new Accepted();
  const listener = new Listener(loop.reactor, socket.fd, handler);
  const clients: number[] = [];
  return {
    loop,
    socket,
    handler,
    listener,
    connect(count: number) {
      for (let i = 0; i < count; i++) clients.push(connectToLoopback(socket.port));
      return clients;
    },
    dispose() {
      listener.close();
      for (const fd of [...clients, ...handler.fds, socket.fd]) closeDescriptor(fd);
      loop.reactor.dispose();
    },
  };
}

/** Runs `use` while no descriptor with a number of `limit` or above can be made. */
function withDescriptorLimit(limit: number, use: () => void): void {
  const RLIMIT_NOFILE = 7;
  const limits = new BigUint64Array(2);
  const bytes = new Uint8Array(limits.buffer);
  assert.equal(libc.getrlimit(RLIMIT_NOFILE, bytes), 0);
  const before = limits[0];
  limits[0] = BigInt(limit);
  assert.equal(libc.setrlimit(RLIMIT_NOFILE, bytes), 0);
  try {
    use();
  } finally {
    limits[0] = before;
    libc.setrlimit(RLIMIT_NOFILE, bytes);
  }
}

describe("listener", () => {
  test("listener: accepts what comes and tells who it is", () => {
    const setup = setUp();
    const clients = setup.connect(3);
    setup.loop.until(() => setup.handler.fds.length === 3, "three connections");
    const expected = clients.map((fd) => localAddress(fd)?.port).sort();
    assert.deepEqual(setup.handler.peers.map((peer) => peer.port).sort(), expected);
    assert.ok(setup.handler.peers.every((peer) => peer.ip === "127.0.0.1"));
    setup.dispose();
  });

  test("listener: takes a bounded number per turn, so that others get theirs", () => {
    const setup = setUp();
    setup.connect(80);
    setup.loop.reactor.turn(1_000);
    assert.equal(setup.handler.fds.length, 32);
    setup.loop.until(() => setup.handler.fds.length === 80, "the rest");
    setup.dispose();
  });

  test("listener: connections that were reset in the queue do not stop it", () => {
    const setup = setUp();
    for (const fd of setup.connect(5).splice(0)) {
      setResetOnClose(fd);
      closeDescriptor(fd);
    }
    setup.connect(1);
    setup.loop.until(() => setup.handler.peers.length >= 1, "the good one");
    assert.deepEqual(setup.handler.failures, []);
    setup.dispose();
  });

  test("listener: rests when descriptors run out, does not spin, and goes on when there are some", () => {
    const setup = setUp();
    setup.connect(4);
    // All above the lowest free number is out of bounds, so the next descriptor cannot be made.
    const lowest = createTcpSocket(AF_INET);
    closeDescriptor(lowest);
    let turns = 0;
    withDescriptorLimit(lowest, () => {
      turns = setup.loop.turnFor(500);
    });
    assert.ok(
      setup.handler.failures.length >= 2 && setup.handler.failures.length <= 6,
      "it tries again after each rest",
    );
    assert.ok(setup.handler.failures.every((code) => code === EMFILE));
    assert.equal(setup.handler.fds.length, 0);
    assert.ok(turns <= 30, `${turns} turns in 500 ms`);
    setup.loop.until(() => setup.handler.fds.length === 4, "those who waited");
    setup.dispose();
  });

  test("listener: a listening socket that is gone is reported once and not tried again", () => {
    const loop = createLoop();
    const handler = new Accepted();
    const listener = new Listener(loop.reactor, 1 << 20, handler);
    assert.deepEqual(handler.failures, [EBADF]);
    loop.turnFor(250);
    assert.deepEqual(handler.failures, [EBADF]);
    listener.close();
    loop.reactor.dispose();

    const setup = setUp();
    const SHUT_RDWR = 2;
    libc.shutdown(setup.socket.fd, SHUT_RDWR);
    setup.loop.until(() => setup.handler.failures.length > 0, "the failure");
    assert.ok(setup.loop.turnFor(250) <= 10, "it spins");
    assert.deepEqual(setup.handler.failures, [EINVAL]);
    setup.dispose();
  });

  test("listener: accepts nothing after close, from within the handler too", () => {
    const setup = setUp();
    const accepted = setup.handler.accepted.bind(setup.handler);
    setup.handler.accepted = (fd, peer) => {
      accepted(fd, peer);
      setup.listener.close();
    };
    setup.connect(3);
    setup.loop.reactor.turn(1_000);
    setup.loop.settle();
    assert.equal(setup.handler.fds.length, 1);
    setup.dispose();
  });

  test("listener: the last accepting takes all that waits, then no more", () => {
    const setup = setUp();
    setup.connect(100);
    setup.listener.acceptLast();
    assert.equal(setup.handler.fds.length, 100);
    setup.connect(1);
    setup.loop.settle();
    assert.equal(setup.handler.fds.length, 100);
    setup.listener.acceptLast();
    setup.dispose();
  });

  test("listener: closing while it rests ends the rest", () => {
    const setup = setUp();
    setup.connect(1);
    const lowest = createTcpSocket(AF_INET);
    closeDescriptor(lowest);
    withDescriptorLimit(lowest, () => setup.loop.reactor.turn(1_000));
    assert.deepEqual(setup.handler.failures, [EMFILE]);
    setup.listener.close();
    setup.loop.turnFor(200);
    assert.equal(setup.handler.fds.length, 0);
    setup.dispose();
  });

  test("listener: one socket is served by several reactors, each connection by one of them", () => {
    const setup = setUp();
    const other = createLoop();
    const second = new Accepted();
    const listener = new Listener(other.reactor, setup.socket.fd, second);
    setup.connect(50);
    setup.loop.until(() => {
      other.reactor.turn(0);
      return setup.handler.fds.length + second.fds.length === 50;
    }, "all connections");
    assert.equal(new Set([...setup.handler.fds, ...second.fds]).size, 50);
    for (const fd of second.fds) closeDescriptor(fd);
    listener.close();
    other.reactor.dispose();
    setup.dispose();
  });

  test("listener: the timers of others go on while it rests", () => {
    const setup = setUp();
    setup.connect(1);
    const lowest = createTcpSocket(AF_INET);
    closeDescriptor(lowest);
    let ticks = 0;
    const timer: Timer = new Timer({
      expired: () => {
        ticks++;
        setup.loop.reactor.setTimer(timer, 10);
      },
    });
    setup.loop.reactor.setTimer(timer, 10);
    withDescriptorLimit(lowest, () => setup.loop.turnFor(260));
    assert.ok(ticks >= 3);
    setup.dispose();
  });
});
