import assert from "node:assert/strict";
import { test } from "node:test";
import { Epoll, EPOLLIN } from "../../src/platform/epoll.ts";
import { EAGAIN, EBADF, ECONNRESET, EINVAL, SystemError } from "../../src/platform/errno.ts";
import { closeOwned, createOwnershipTable, ownerNumber, seizeOwned } from "../../src/platform/ownership.ts";
import { openDescriptors } from "../../src/platform/process.ts";
import { closeDescriptor, receive, send, socketPair } from "../../src/platform/socket.ts";
import { tcpPair, waitFor } from "./support.ts";

const byte = new Uint8Array(1);

test("ownership: closes every descriptor of one owner and no other's", () => {
  const table = createOwnershipTable();
  const pairs = [socketPair(), socketPair()];
  const [first, second] = pairs.map((pair) => pair as readonly [number, number]);
  for (const fd of first) table[fd] = ownerNumber(1);
  for (const fd of second) table[fd] = ownerNumber(2);
  assert.equal(closeOwned(table, ownerNumber(1)), 2);
  for (const fd of first) assert.equal(receive(fd, byte, 0, 1), -EBADF);
  for (const fd of second) assert.equal(receive(fd, byte, 0, 1), -EAGAIN);
  assert.equal(closeOwned(table, ownerNumber(1)), 0, "they are nobody's any more");
  for (const fd of second) closeDescriptor(fd);
});

test("ownership: a connection of a thread that is gone ends in a reset, not in an end of stream", () => {
  for (const end of [closeOwned, seizeOwned]) {
    const table = createOwnershipTable();
    const [near, far] = tcpPair();
    send(near, byte, 0, 1);
    table[near] = 7;
    assert.equal(end(table, 7), 1);
    waitFor(far);
    let outcome = receive(far, byte, 0, 1);
    if (outcome === 1) outcome = receive(far, byte, 0, 1);
    assert.equal(outcome, -ECONNRESET);
    closeDescriptor(far);
    if (end === seizeOwned) closeDescriptor(near);
  }
});

test("ownership: seized numbers stay taken and are good for nothing, and an epoll set among them ends its user", () => {
  const before = openDescriptors();
  const table = createOwnershipTable();
  const epoll = new Epoll();
  const [near, far] = tcpPair();
  assert.equal(epoll.add(near, EPOLLIN, 1), 0);
  table[near] = 3;
  table[epoll.fd] = 3;
  assert.equal(seizeOwned(table, 3), 2);
  assert.equal(openDescriptors(), before + 3);
  assert.ok(receive(near, byte, 0, 1) <= 0);
  assert.ok(send(near, byte, 0, 1) < 0);
  assert.throws(() => epoll.wait(0), (error) => error instanceof SystemError && error.code === EINVAL);
  epoll.close();
  closeDescriptor(near);
  closeDescriptor(far);
  assert.equal(openDescriptors(), before);
});

test("ownership: numbers fit a byte, are never nobody's, and differ between neighbours", () => {
  for (let generation = 0; generation < 1_000; generation++) {
    const owner = ownerNumber(generation);
    assert.ok(owner >= 1 && owner <= 255);
    for (let other = generation + 1; other < generation + 255; other++) assert.notEqual(ownerNumber(other), owner);
  }
});
