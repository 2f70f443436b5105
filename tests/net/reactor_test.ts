import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type Deferred, Reactor, Timer } from "../../src/net/reactor.ts";
import { EPOLLEXCLUSIVE, EPOLLIN, EPOLLOUT, signalEventFd } from "../../src/platform/epoll.ts";
import { EBADF } from "../../src/platform/errno.ts";
import { closeOwned, createOwnershipTable } from "../../src/platform/ownership.ts";
import { closeDescriptor, receive, send, socketPair } from "../../src/platform/socket.ts";
import { openDescriptors } from "../../src/platform/process.ts";
import { listenOnLoopback } from "../platform/support.ts";
import { createLoop } from "./support.ts";

const byte = new Uint8Array(1);

function pair(): readonly [number, number] {
  const fds = socketPair();
  assert.ok(fds !== undefined);
  return fds;
}

function work(flush: (self: Deferred) => void): Deferred {
  const self: Deferred = { deferred: false, flush: () => flush(self) };
  return self;
}

describe("reactor", () => {
  test("reactor: tells a handler what its descriptor is ready for, as long as it is watched", () => {
    const { reactor } = createLoop();
    const [a, b] = pair();
    const masks: number[] = [];
    assert.equal(reactor.add(a, EPOLLIN, { ready: (mask) => masks.push(mask) }), 0);
    reactor.turn(0);
    assert.deepEqual(masks, []);
    send(b, byte, 0, 1);
    reactor.turn(1_000);
    reactor.turn(0);
    assert.deepEqual(masks, [EPOLLIN, EPOLLIN], "level-triggered: what is not read is reported again");
    reactor.modify(a, EPOLLOUT);
    reactor.turn(0);
    assert.deepEqual(masks.slice(2), [EPOLLOUT]);
    reactor.remove(a);
    reactor.turn(0);
    assert.equal(masks.length, 3);
    assert.equal(receive(a, byte, 0, 1), 1, "removing does not close");
    closeDescriptor(a);
    closeDescriptor(b);
    reactor.dispose();
  });

  test("reactor: a descriptor that cannot be watched is an errno and no handler's", () => {
    const { reactor } = createLoop();
    const before = reactor.openDescriptors;
    assert.equal(reactor.add(1 << 20, EPOLLIN, { ready: () => assert.fail() }), -EBADF);
    assert.equal(reactor.openDescriptors, before);
    reactor.remove(1 << 20);
    reactor.dispose();
  });

  test("reactor: an event of a descriptor that was closed in the same turn is not given to its number's next owner", () => {
    const { reactor } = createLoop();
    const [a, b] = pair();
    const [c, d] = pair();
    let calls = 0;
    const reopened: number[] = [];
    const closeOther = (own: number, other: number, partner: number) => () => {
      calls++;
      if (calls > 1) assert.fail("the event of the closed descriptor was delivered");
      reactor.close(other);
      closeDescriptor(partner);
      // The kernel gives the lowest free number again: the other's.
      const fresh = pair();
      assert.ok(fresh.includes(other));
      reopened.push(...fresh);
      assert.equal(reactor.add(other, EPOLLIN, { ready: () => assert.fail("a stale event reached a new handler") }), 0);
      reactor.remove(own);
    };
    reactor.add(a, EPOLLIN, { ready: closeOther(a, c, d) });
    reactor.add(c, EPOLLIN, { ready: closeOther(c, a, b) });
    send(b, byte, 0, 1);
    send(d, byte, 0, 1);
    reactor.turn(1_000);
    assert.equal(calls, 1);
    reactor.turn(0);
    for (const fd of new Set([a, b, c, d, ...reopened])) closeDescriptor(fd);
    reactor.dispose();
  });

  test("reactor: another handler may take a descriptor over", () => {
    const { reactor } = createLoop();
    const [a, b] = pair();
    const calls: string[] = [];
    reactor.add(a, EPOLLOUT, {
      ready: () => {
        calls.push("first");
        reactor.setHandler(a, { ready: () => calls.push("second") });
      },
    });
    reactor.turn(0);
    reactor.turn(0);
    assert.deepEqual(calls, ["first", "second"]);
    reactor.close(a);
    closeDescriptor(b);
    reactor.dispose();
  });

  test("reactor: deferred work runs once, after every event of its turn", () => {
    const { reactor } = createLoop();
    const pairs = [pair(), pair()];
    const order: string[] = [];
    const flush = work(() => order.push("flush"));
    for (const [a, b] of pairs) {
      reactor.add(a, EPOLLIN, {
        ready: () => {
          order.push("event");
          reactor.defer(flush);
          reactor.defer(flush);
          receive(a, byte, 0, 1);
        },
      });
      send(b, byte, 0, 1);
    }
    reactor.turn(1_000);
    assert.deepEqual(order, ["event", "event", "flush"]);
    for (const [a, b] of pairs) {
      reactor.close(a);
      closeDescriptor(b);
    }
    reactor.dispose();
  });

  test("reactor: work deferred while flushing waits for the next turn, which does not sleep", () => {
    const { reactor } = createLoop();
    let runs = 0;
    reactor.defer(work((self) => {
      if (++runs < 3) reactor.defer(self);
    }));
    const before = performance.now();
    reactor.turn(10_000);
    assert.equal(runs, 1);
    reactor.turn(10_000);
    reactor.turn(10_000);
    assert.equal(runs, 3);
    assert.ok(performance.now() - before < 5_000);
    reactor.dispose();
  });

  test("reactor: wakes up for messages, and takes them once for many signals", () => {
    let wakes = 0;
    const { reactor } = createLoop(() => wakes++);
    for (let i = 0; i < 10; i++) signalEventFd(reactor.wakeFd);
    reactor.turn(1_000);
    reactor.turn(0);
    assert.equal(wakes, 1);
    reactor.dispose();
  });

  test("reactor: sleeps until a timer is due, and no longer", () => {
    const { reactor } = createLoop();
    let at = 0;
    const started = performance.now();
    reactor.turn(0);
    reactor.setTimer(new Timer({ expired: () => at = performance.now() }), 120);
    for (let turns = 0; at === 0; turns++) {
      assert.ok(turns < 5, "it spins");
      reactor.turn(-1);
    }
    assert.ok(at - started >= 120 && at - started < 3_000);
    reactor.dispose();
  });

  test("reactor: run ends with stop, at the end of the turn", () => {
    const { reactor } = createLoop();
    const order: string[] = [];
    reactor.setTimer(
      new Timer({
        expired: () => {
          reactor.stop();
          reactor.defer(work(() => order.push("flushed")));
        },
      }),
      1,
    );
    reactor.run();
    assert.deepEqual(order, ["flushed"]);
    reactor.dispose();
  });

  test("reactor: an exception of a handler leaves run: nothing swallows a bug", () => {
    const { reactor } = createLoop();
    reactor.setTimer(
      new Timer({
        expired: () => {
          throw new Error("a bug");
        },
      }),
      1,
    );
    assert.throws(() => reactor.run(), /a bug/);
    reactor.dispose();
  });

  test("reactor: notes what its thread owns, shared listeners excepted, so that another can close it", () => {
    const before = openDescriptors();
    const table = createOwnershipTable();
    const reactor = new Reactor(() => performance.now(), () => {}, { table, owner: 9 });
    const [a, b] = pair();
    const [c, d] = pair();
    const listener = listenOnLoopback();
    reactor.add(a, EPOLLIN, { ready: () => {} });
    reactor.add(c, EPOLLIN, { ready: () => {} });
    reactor.add(listener.fd, EPOLLIN | EPOLLEXCLUSIVE, { ready: () => {} });
    assert.equal(table[a], 9);
    assert.equal(table[listener.fd], 0);
    reactor.close(c);
    assert.equal(table[c], 0);
    // Its thread dies: everything of it is closed, its epoll set and its wake-up included.
    assert.equal(closeOwned(table, 9), 3, "the socket, the epoll set, the wake-up");
    assert.equal(receive(a, byte, 0, 1), -EBADF);
    for (const fd of [b, d, listener.fd]) closeDescriptor(fd);
    assert.equal(openDescriptors(), before);
  });
});
