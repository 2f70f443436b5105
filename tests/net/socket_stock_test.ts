import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { Reactor } from "../../src/net/reactor.ts";
import { SocketFactory } from "../../src/net/socket_factory.ts";
import { SocketStock } from "../../src/net/socket_stock.ts";
import { EINVAL } from "../../src/platform/errno.ts";
import { createOwnershipTable } from "../../src/platform/ownership.ts";
import { openDescriptors } from "../../src/platform/process.ts";
import { AF_INET, AF_INET6 } from "../../src/platform/sockaddr.ts";
import { closeDescriptor, socketKind } from "../../src/platform/socket.ts";

const OWNER = 7;
let nowMs: number;
let reactor: Reactor;
let stock: SocketStock;
const table = createOwnershipTable();
let before: number;

beforeEach(() => {
  nowMs = 1_000;
  before = openDescriptors();
  reactor = new Reactor(() => nowMs, () => {}, { table, owner: OWNER });
  stock = new SocketStock(
    reactor,
    new SocketFactory(-1, undefined, { keepalive: undefined, userTimeoutMs: undefined }),
  );
});

afterEach(() => {
  stock.close();
  reactor.dispose();
  assert.equal(openDescriptors(), before, "nothing stays open");
});

function take(count: number, family = AF_INET): void {
  for (let i = 0; i < count; i++) {
    const fd = stock.take(family);
    assert.ok(fd >= 0);
    assert.equal(socketKind(fd)?.family, family);
    closeDescriptor(fd);
  }
}

function pass(milliseconds: number): void {
  for (const end = nowMs + milliseconds; nowMs < end;) {
    nowMs += 50;
    reactor.turn(0);
  }
}

describe("socket_stock", () => {
  test("socket_stock: who opens few connections has nothing in stock", () => {
    take(10);
    assert.equal(stock.size, 0);
    pass(3_000);
    take(10);
    assert.equal(stock.size, 0);
  });

  test("socket_stock: who opens many has a few, which are closed when no more are asked for", () => {
    take(200);
    while (stock.size === 0) take(1);
    assert.ok(stock.size <= 8, `${stock.size} in stock`);
    pass(4_000);
    assert.equal(stock.size, 0);
  });

  test("socket_stock: what lies there is noted as this worker's, so that it is closed with it", () => {
    const owned = () => table.reduce((sum, owner) => sum + (owner === OWNER ? 1 : 0), 0);
    const idle = owned();
    take(200);
    while (stock.size === 0) take(1);
    assert.equal(owned(), idle + stock.size);
    stock.close();
    assert.equal(stock.size, 0);
    assert.equal(owned(), idle);
  });

  test("socket_stock: gives no socket of another family, and fails as a socket does", () => {
    take(200);
    while (stock.size === 0) take(1);
    take(1, AF_INET6);
    take(200, AF_INET6);
    take(1, AF_INET);
    assert.equal(stock.take(12345), -EINVAL);
    assert.equal(stock.size, 0);
  });
});
