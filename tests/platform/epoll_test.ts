import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  createEventFd,
  drainEventFd,
  Epoll,
  EPOLLEXCLUSIVE,
  EPOLLHUP,
  EPOLLIN,
  EPOLLOUT,
  EPOLLRDHUP,
  signalEventFd,
} from "../../src/platform/epoll.ts";
import { EBADF, ENOENT } from "../../src/platform/errno.ts";
import { closeDescriptor, receive, send, shutdownWrite, socketPair } from "../../src/platform/socket.ts";
import { connectToLoopback, listenOnLoopback } from "./support.ts";

const EEXIST = 17;

function pair(): readonly [number, number] {
  const fds = socketPair();
  assert.ok(fds !== undefined);
  return fds;
}

describe("epoll", () => {
  test("epoll: reports mask, descriptor and generation of what is ready, and nothing else", () => {
    const epoll = new Epoll();
    const [a, b] = pair();
    const [c, d] = pair();
    assert.equal(epoll.add(a, EPOLLIN, 7), 0);
    assert.equal(epoll.add(c, EPOLLIN | EPOLLOUT, -2_000_000_000), 0);
    assert.equal(epoll.wait(0), 1);
    assert.equal(epoll.eventFd(0), c);
    assert.equal(epoll.eventMask(0), EPOLLOUT);
    assert.equal(epoll.eventGeneration(0), -2_000_000_000, "all 32 bits of a generation come back");
    send(b, new Uint8Array(1), 0, 1);
    assert.equal(epoll.wait(1_000), 2);
    const first = epoll.eventFd(0) === a ? 0 : 1;
    assert.equal(epoll.eventFd(first), a);
    assert.equal(epoll.eventMask(first), EPOLLIN);
    assert.equal(epoll.eventGeneration(first), 7);
    for (const fd of [a, b, c, d]) closeDescriptor(fd);
    epoll.close();
  });

  test("epoll: modify changes interest and generation, remove ends both", () => {
    const epoll = new Epoll();
    const [a, b] = pair();
    epoll.add(a, EPOLLOUT, 1);
    assert.equal(epoll.modify(a, EPOLLIN, 2), 0);
    assert.equal(epoll.wait(0), 0);
    send(b, new Uint8Array(1), 0, 1);
    assert.equal(epoll.wait(1_000), 1);
    assert.equal(epoll.eventGeneration(0), 2);
    assert.equal(epoll.remove(a), 0);
    assert.equal(epoll.wait(0), 0);
    for (const fd of [a, b]) closeDescriptor(fd);
    epoll.close();
  });

  test("epoll: failures are negative errno values", () => {
    const epoll = new Epoll();
    const [a, b] = pair();
    assert.equal(epoll.add(1 << 20, EPOLLIN, 1), -EBADF);
    assert.equal(epoll.modify(a, EPOLLIN, 1), -ENOENT);
    assert.equal(epoll.remove(a), -ENOENT);
    assert.equal(epoll.add(a, EPOLLIN, 1), 0);
    assert.equal(epoll.add(a, EPOLLIN, 1), -EEXIST);
    for (const fd of [a, b]) closeDescriptor(fd);
    epoll.close();
  });

  test("epoll: a number given out again carries a new generation, so an older event is known as stale", () => {
    const epoll = new Epoll();
    const [a, b] = pair();
    epoll.add(a, EPOLLOUT, 1);
    assert.equal(epoll.wait(0), 1);
    closeDescriptor(a);
    closeDescriptor(b);
    const [again, other] = pair();
    assert.equal(again, a, "the kernel gives out the lowest free number");
    epoll.add(again, EPOLLOUT, 2);
    assert.equal(epoll.eventFd(0), again, "the event fetched before still names the number");
    assert.equal(epoll.eventGeneration(0), 1, "but not its present registration");
    assert.equal(epoll.wait(0), 1);
    assert.equal(epoll.eventGeneration(0), 2);
    for (const fd of [again, other]) closeDescriptor(fd);
    epoll.close();
  });

  test("epoll: more ready descriptors than fit one wait come with the next", () => {
    const epoll = new Epoll();
    const fds: number[] = [];
    for (let i = 0; i < 150; i++) fds.push(...pair());
    for (const fd of fds) epoll.add(fd, EPOLLOUT, 1);
    const seen = new Set<number>();
    for (let turn = 0; turn < 3; turn++) {
      const n = epoll.wait(0);
      assert.ok(n <= 256);
      for (let i = 0; i < n; i++) seen.add(epoll.eventFd(i));
    }
    assert.equal(seen.size, fds.length);
    for (const fd of fds) closeDescriptor(fd);
    epoll.close();
  });

  test("epoll: a half-closed peer is EPOLLRDHUP, a gone one EPOLLHUP", () => {
    const epoll = new Epoll();
    const [a, b] = pair();
    epoll.add(a, EPOLLRDHUP, 1);
    assert.equal(epoll.wait(0), 0);
    shutdownWrite(b);
    assert.equal(epoll.wait(1_000), 1);
    assert.equal(epoll.eventMask(0), EPOLLRDHUP);
    closeDescriptor(b);
    assert.equal(epoll.wait(1_000), 1);
    assert.equal(epoll.eventMask(0) & EPOLLHUP, EPOLLHUP);
    closeDescriptor(a);
    epoll.close();
  });

  test("epoll: a listener may be watched exclusively in several sets", () => {
    const listener = listenOnLoopback();
    const [first, second] = [new Epoll(), new Epoll()];
    for (const epoll of [first, second]) assert.equal(epoll.add(listener.fd, EPOLLIN | EPOLLEXCLUSIVE, 1), 0);
    const client = connectToLoopback(listener.port);
    assert.equal(first.wait(1_000), 1);
    closeDescriptor(client);
    closeDescriptor(listener.fd);
    first.close();
    second.close();
  });

  test("epoll: waits as long as it was told", () => {
    const epoll = new Epoll();
    const before = performance.now();
    assert.equal(epoll.wait(30), 0);
    assert.ok(performance.now() - before >= 29);
    epoll.close();
  });
});

describe("eventfd", () => {
  test("eventfd: many signals are one wake-up, and draining ends it", () => {
    const epoll = new Epoll();
    const fd = createEventFd();
    epoll.add(fd, EPOLLIN, 1);
    assert.equal(epoll.wait(0), 0);
    for (let i = 0; i < 1_000; i++) signalEventFd(fd);
    assert.equal(epoll.wait(1_000), 1);
    drainEventFd(fd);
    assert.equal(epoll.wait(0), 0);
    drainEventFd(fd); // An empty counter does not block.
    signalEventFd(fd);
    assert.equal(epoll.wait(1_000), 1);
    epoll.close();
    closeDescriptor(fd);
    assert.equal(receive(fd, new Uint8Array(8), 0, 8), -EBADF);
  });
});
