import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type ConnectHandler, Connector } from "../../src/net/connector.ts";
import { SocketFactory } from "../../src/net/socket_factory.ts";
import { EADDRINUSE, EBADF, ECONNREFUSED, EINVAL, ENETUNREACH, ETIMEDOUT } from "../../src/platform/errno.ts";
import { fileIdentity, insideNamespace, openNamespace, socketNamespaceIdentity } from "../../src/platform/netns.ts";
import { openDescriptors } from "../../src/platform/process.ts";
import { AF_INET, AF_INET6 } from "../../src/platform/sockaddr.ts";
import { closeDescriptor, createTcpSocket, localAddress, peerAddress, receive } from "../../src/platform/socket.ts";
import { acceptOne, createNamespace, listenOnLoopback, socketOption, type TestNamespace } from "../platform/support.ts";
import { createLoop } from "./support.ts";

class Outcome implements ConnectHandler {
  fd = -1;
  code = 0;
  calls = 0;
  connected(fd: number): void {
    this.fd = fd;
    this.calls++;
  }
  connectFailed(code: number): void {
    this.code = code;
    this.calls++;
  }
}

/** A namespace in which packets to 10.99.0.0/24 go nowhere and everything else has no route. */
let namespace: TestNamespace;
let namespaceFd: number;

before(async () => {
  namespace = await createNamespace(
    "ip link add void type veth peer name hole && ip addr add 10.99.0.1/24 dev void && ip link set void up && ip link set hole up",
  );
  namespaceFd = openNamespace(namespace.path);
  assert.ok(namespaceFd >= 0);
});

after(async () => {
  closeDescriptor(namespaceFd);
  await namespace.close();
});

describe("connector", () => {
  test("connector: hands over a connected descriptor that is not watched any more", () => {
    for (const family of [AF_INET, AF_INET6]) {
      const loop = createLoop();
      const listener = listenOnLoopback(family);
      const outcome = new Outcome();
      const ip = family === AF_INET ? "127.0.0.1" : "::1";
      new Connector(loop.reactor, outcome, createTcpSocket(family), family, ip, listener.port, 1_000);
      assert.equal(outcome.calls, 0, "not before a later turn");
      loop.until(() => outcome.calls > 0, "the connection");
      assert.deepEqual(peerAddress(outcome.fd), { ip, port: listener.port });
      assert.equal(loop.reactor.openDescriptors, 1);
      loop.turnFor(60);
      assert.equal(outcome.calls, 1);
      const server = acceptOne(listener.fd);
      for (const fd of [server, outcome.fd, listener.fd]) closeDescriptor(fd);
      loop.reactor.dispose();
    }
  });

  test("connector: a near connection is handed over at once, without having been watched", () => {
    for (const family of [AF_INET, AF_INET6]) {
      const loop = createLoop();
      const listener = listenOnLoopback(family);
      const outcome = new Outcome();
      const ip = family === AF_INET ? "127.0.0.1" : "::1";
      const { port } = listener;
      const connector = new Connector(loop.reactor, outcome, createTcpSocket(family), family, ip, port, 1_000, true);
      assert.equal(outcome.calls, 1);
      assert.equal(connector.done, true);
      assert.deepEqual(peerAddress(outcome.fd), { ip, port });
      assert.equal(loop.reactor.openDescriptors, 1);
      connector.cancel();
      loop.turnFor(60);
      assert.equal(outcome.calls, 1);
      assert.notEqual(peerAddress(outcome.fd), undefined, "the descriptor is its owner's");
      for (const fd of [outcome.fd, listener.fd]) closeDescriptor(fd);
      loop.reactor.dispose();
    }
  });

  test("connector: a near connection that is not there at once is waited for, and may be refused or time out", () => {
    const loop = createLoop();
    const { fd: closed, port } = listenOnLoopback();
    closeDescriptor(closed);
    const refused = new Outcome();
    new Connector(loop.reactor, refused, createTcpSocket(AF_INET), AF_INET, "127.0.0.1", port, 1_000, true);
    loop.until(() => refused.calls > 0, "the refusal");
    assert.equal(refused.code, ECONNREFUSED);
    const silent = new Outcome();
    const fd = insideNamespace(namespaceFd, () => createTcpSocket(AF_INET));
    const connector = new Connector(loop.reactor, silent, fd, AF_INET, "10.99.0.79", 80, 100, true);
    assert.equal(connector.done, false);
    loop.until(() => silent.calls > 0, "the timeout");
    assert.equal(silent.code, ETIMEDOUT);
    loop.reactor.dispose();
  });

  test("connector: a refused connection is ECONNREFUSED", () => {
    const loop = createLoop();
    const { fd, port } = listenOnLoopback();
    closeDescriptor(fd);
    const before = openDescriptors();
    const outcome = new Outcome();
    new Connector(loop.reactor, outcome, createTcpSocket(AF_INET), AF_INET, "127.0.0.1", port, 1_000);
    loop.until(() => outcome.calls > 0, "the refusal");
    assert.equal(outcome.code, ECONNREFUSED);
    assert.equal(openDescriptors(), before, "the socket is closed");
    loop.reactor.dispose();
  });

  test("connector: an address that never answers is ETIMEDOUT after the timeout, and only then", () => {
    const loop = createLoop();
    const outcome = new Outcome();
    const before = openDescriptors();
    const fd = insideNamespace(namespaceFd, () => createTcpSocket(AF_INET));
    loop.reactor.turn(0);
    const started = performance.now();
    new Connector(loop.reactor, outcome, fd, AF_INET, "10.99.0.77", 15008, 200);
    loop.until(() => outcome.calls > 0, "the timeout");
    const took = performance.now() - started;
    assert.equal(outcome.code, ETIMEDOUT);
    assert.ok(took >= 195 && took < 30_000, `${took} ms`);
    assert.equal(openDescriptors(), before);
    assert.equal(outcome.calls, 1);
    loop.reactor.dispose();
  });

  test("connector: an address without a route fails at once", () => {
    const loop = createLoop();
    const outcome = new Outcome();
    const fd = insideNamespace(namespaceFd, () => createTcpSocket(AF_INET));
    new Connector(loop.reactor, outcome, fd, AF_INET, "192.0.2.1", 80, 1_000);
    assert.equal(outcome.code, ENETUNREACH);
    assert.equal(loop.reactor.openDescriptors, 1);
    loop.turnFor(60);
    assert.equal(outcome.calls, 1);
    loop.reactor.dispose();
  });

  test("connector: after cancel nothing is reported, and the socket is closed", () => {
    const loop = createLoop();
    const outcome = new Outcome();
    const fd = insideNamespace(namespaceFd, () => createTcpSocket(AF_INET));
    const connector = new Connector(loop.reactor, outcome, fd, AF_INET, "10.99.0.78", 80, 60);
    connector.cancel();
    connector.cancel();
    assert.equal(receive(fd, new Uint8Array(1), 0, 1), -EBADF);
    loop.turnFor(150);
    assert.equal(outcome.calls, 0);
    loop.reactor.dispose();
  });

  test("connector: cancel after the connection leaves the descriptor to its owner", () => {
    const loop = createLoop();
    const listener = listenOnLoopback();
    const outcome = new Outcome();
    const fd = createTcpSocket(AF_INET);
    const connector = new Connector(loop.reactor, outcome, fd, AF_INET, "127.0.0.1", listener.port, 1_000);
    loop.until(() => outcome.calls > 0, "the connection");
    connector.cancel();
    assert.notEqual(peerAddress(fd), undefined);
    for (const open of [fd, listener.fd]) closeDescriptor(open);
    loop.reactor.dispose();
  });
});

describe("socket_factory", () => {
  const SOL_SOCKET = 1;
  const IPPROTO_TCP = 6;
  const tuning = { keepalive: { idleSeconds: 111, intervalSeconds: 12, probes: 4 }, userTimeoutMs: 9_000 };

  test("socket_factory: a client socket has mark and tuning, and lies in its namespace", () => {
    const factory = new SocketFactory(namespaceFd, 1337, tuning);
    for (const family of [AF_INET, AF_INET6]) {
      const fd = factory.createClient(family);
      assert.ok(fd >= 0);
      assert.equal(socketOption(fd, SOL_SOCKET, 36), 1337);
      assert.equal(socketOption(fd, IPPROTO_TCP, 1), 1);
      assert.equal(socketOption(fd, SOL_SOCKET, 9), 1);
      assert.equal(socketOption(fd, IPPROTO_TCP, 4), 111);
      assert.equal(socketOption(fd, IPPROTO_TCP, 18), 9_000);
      closeDescriptor(fd);
    }
    assert.equal(factory.createClient(12345), -EINVAL);
  });

  test("socket_factory: several at a time are like one, but for keepalive", () => {
    const factory = new SocketFactory(namespaceFd, 1337, tuning);
    const spares: number[] = [];
    const first = factory.createClients(AF_INET, 3, spares);
    assert.equal(spares.length, 3);
    assert.equal(new Set([first, ...spares]).size, 4);
    for (const fd of [first, ...spares]) {
      assert.equal(socketNamespaceIdentity(fd), fileIdentity(namespaceFd));
      assert.equal(socketOption(fd, SOL_SOCKET, 36), 1337);
      assert.equal(socketOption(fd, IPPROTO_TCP, 1), 1);
      assert.equal(socketOption(fd, SOL_SOCKET, 9), 0);
      assert.equal(socketOption(fd, IPPROTO_TCP, 18), 9_000);
      closeDescriptor(fd);
    }
    assert.equal(factory.createClients(12345, 3, spares), -EINVAL);
    assert.equal(new SocketFactory(1 << 20, undefined, tuning).createClients(AF_INET, 3, spares), -EBADF);
    assert.equal(spares.length, 3, "nothing is left of an attempt before");
  });

  test("socket_factory: what is not asked for is left as the kernel has it", () => {
    const factory = new SocketFactory(-1, undefined, { keepalive: undefined, userTimeoutMs: undefined });
    const fd = factory.createClient(AF_INET);
    assert.equal(socketOption(fd, SOL_SOCKET, 36), 0);
    assert.equal(socketOption(fd, SOL_SOCKET, 9), 0);
    assert.equal(socketOption(fd, IPPROTO_TCP, 18), 0);
    closeDescriptor(fd);
  });

  test("socket_factory: listens inside the namespace, for both families if IPv6 is on", () => {
    const factory = new SocketFactory(namespaceFd, 1337, tuning);
    const options = { port: 0, ipv6Enabled: true, reusePort: true, transparent: true } as const;
    const dual = factory.listen(options);
    assert.ok(dual.fd >= 0);
    assert.equal(dual.transparent, true);
    assert.equal(socketOption(dual.fd, SOL_SOCKET, 36), 1337);
    const { ip, port } = localAddress(dual.fd) as { ip: string; port: number };
    assert.equal(ip, "::");
    const client = factory.createClient(AF_INET);
    const loop = createLoop();
    const outcome = new Outcome();
    new Connector(loop.reactor, outcome, client, AF_INET, "127.0.0.1", port, 1_000);
    loop.until(() => outcome.calls > 0, "a connection over IPv4 to the dual-stack listener");
    assert.equal(outcome.code, 0);
    const v4 = factory.listen({ ...options, ipv6Enabled: false, transparent: false });
    assert.equal(v4.transparent, false);
    assert.equal(localAddress(v4.fd)?.ip, "0.0.0.0");
    assert.equal(socketOption(v4.fd, 0, 19), 0);
    for (const fd of [dual.fd, v4.fd, client]) closeDescriptor(fd);
    loop.reactor.dispose();
  });

  test("socket_factory: a conflict is an errno, unless both sides share the port", () => {
    const factory = new SocketFactory(namespaceFd, undefined, tuning);
    const shared = { port: 15008, ipv6Enabled: true, reusePort: true, transparent: undefined } as const;
    const first = factory.listen(shared);
    const second = factory.listen(shared);
    assert.ok(first.fd >= 0 && second.fd >= 0);
    const before = openDescriptors();
    assert.equal(factory.listen({ ...shared, reusePort: false }).fd, -EADDRINUSE);
    assert.equal(openDescriptors(), before, "a failed listener leaves nothing open");
    closeDescriptor(first.fd);
    closeDescriptor(second.fd);
  });

  test("socket_factory: takes a client's address as the source where it may", () => {
    const factory = new SocketFactory(namespaceFd, undefined, tuning);
    const fd = factory.createClient(AF_INET);
    assert.equal(factory.takeSource(fd, "10.1.2.3", AF_INET), 0);
    assert.equal(localAddress(fd)?.ip, "10.1.2.3");
    closeDescriptor(fd);
  });

  test("socket_factory: a namespace that is gone is an errno", () => {
    const factory = new SocketFactory(1 << 20, undefined, tuning);
    assert.equal(factory.createClient(AF_INET), -EBADF);
    assert.equal(factory.listen({ port: 0, ipv6Enabled: true, reusePort: false, transparent: undefined }).fd, -EBADF);
  });
});
