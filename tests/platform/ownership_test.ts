import assert from "node:assert/strict";
import { test } from "node:test";
import { closeOwned, createOwnershipTable, ownerNumber } from "../../src/platform/ownership.ts";
import { EAGAIN, EBADF } from "../../src/platform/errno.ts";
import { closeDescriptor, receive, socketPair } from "../../src/platform/socket.ts";

test("ownership: closes every descriptor of one owner and no other's", () => {
  const table = createOwnershipTable();
  const pairs = [socketPair(), socketPair()];
  const [first, second] = pairs.map((pair) => pair as readonly [number, number]);
  for (const fd of first) table[fd] = ownerNumber(1);
  for (const fd of second) table[fd] = ownerNumber(2);
  assert.equal(closeOwned(table, ownerNumber(1)), 2);
  const byte = new Uint8Array(1);
  for (const fd of first) assert.equal(receive(fd, byte, 0, 1), -EBADF);
  for (const fd of second) assert.equal(receive(fd, byte, 0, 1), -EAGAIN);
  assert.equal(closeOwned(table, ownerNumber(1)), 0, "they are nobody's any more");
  for (const fd of second) closeDescriptor(fd);
});

test("ownership: numbers fit a byte, are never nobody's, and differ between neighbours", () => {
  for (let generation = 0; generation < 1_000; generation++) {
    const owner = ownerNumber(generation);
    assert.ok(owner >= 1 && owner <= 255);
    for (let other = generation + 1; other < generation + 255; other++) assert.notEqual(ownerNumber(other), owner);
  }
});
