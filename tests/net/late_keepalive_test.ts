import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { LATE_MS, LateKeepalive } from "../../src/net/late_keepalive.ts";
import { Reactor } from "../../src/net/reactor.ts";
import { EPOLLIN } from "../../src/platform/epoll.ts";
import { AF_INET } from "../../src/platform/sockaddr.ts";
import { closeDescriptor, createTcpSocket } from "../../src/platform/socket.ts";
import { socketOption } from "../platform/support.ts";

const SOL_SOCKET = 1;
const SO_KEEPALIVE = 9;
const IPPROTO_TCP = 6;
const KEEPALIVE = { idleSeconds: 111, intervalSeconds: 12, probes: 4 };
const HANDLER = { ready() {} };

let nowMs: number;
let reactor: Reactor;
let late: LateKeepalive;
let open: number[];

beforeEach(() => {
  nowMs = 1_000;
  open = [];
  reactor = new Reactor(() => nowMs, () => {});
  late = new LateKeepalive(reactor, KEEPALIVE);
});

afterEach(() => {
  for (const fd of open) closeDescriptor(fd);
  reactor.dispose();
});

/** A socket that is watched. */
function socket(): number {
  const fd = createTcpSocket(AF_INET);
  assert.equal(reactor.add(fd, EPOLLIN, HANDLER), 0);
  open.push(fd);
  return fd;
}

function pass(milliseconds: number): void {
  for (const end = nowMs + milliseconds; nowMs < end;) {
    nowMs += 50;
    reactor.turn(0);
  }
}

const isOn = (fd: number) => socketOption(fd, SOL_SOCKET, SO_KEEPALIVE) === 1;

describe("late_keepalive", () => {
  test("late_keepalive: a connection that lives has its keepalive soon, each in its time", () => {
    const first = socket();
    late.add(first);
    pass(LATE_MS / 2);
    const second = socket();
    late.add(second);
    assert.equal(isOn(first), false);
    pass(LATE_MS / 2 + 100);
    assert.deepEqual([isOn(first), isOn(second)], [true, false]);
    pass(LATE_MS / 2);
    assert.equal(isOn(second), true);
    for (const fd of [first, second]) {
      assert.equal(socketOption(fd, IPPROTO_TCP, 4), 111);
      assert.equal(socketOption(fd, IPPROTO_TCP, 5), 12);
      assert.equal(socketOption(fd, IPPROTO_TCP, 6), 4);
    }
    const third = socket();
    late.add(third);
    pass(LATE_MS + 100);
    assert.equal(isOn(third), true, "after a rest too");
  });

  test("late_keepalive: thousands at once all have it", () => {
    const fds = Array.from({ length: 1_000 }, socket);
    for (const fd of fds) late.add(fd);
    pass(LATE_MS + 500);
    assert.ok(fds.every(isOn));
  });

  test("late_keepalive: a number that was closed and given out again is another socket", () => {
    const closed = socket();
    late.add(closed);
    reactor.close(closed);
    open.pop();
    const next = socket();
    assert.equal(next, closed, "the kernel gives out the lowest number");
    pass(LATE_MS + 500);
    assert.equal(isOn(next), false);
  });

  test("late_keepalive: a socket that is not watched is left alone, now or when its time comes", () => {
    const unwatched = createTcpSocket(AF_INET);
    open.push(unwatched);
    late.add(unwatched);
    const removed = socket();
    late.add(removed);
    reactor.remove(removed);
    pass(LATE_MS + 500);
    assert.deepEqual([isOn(unwatched), isOn(removed)], [false, false]);
  });

  test("late_keepalive: without keepalive nothing is done", () => {
    const none = new LateKeepalive(reactor, undefined);
    const fd = socket();
    none.add(fd);
    pass(LATE_MS + 500);
    assert.equal(isOn(fd), false);
  });
});
