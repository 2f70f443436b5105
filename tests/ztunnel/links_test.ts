import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import { type LinkHandler, Links } from "../../src/ztunnel/links.ts";
import type { LinkOrder } from "../../src/ztunnel/messages.ts";

let first: number | undefined;
let orders: [number, LinkOrder][];
let closed: number[];
let links: Links;
let heard: string[];

beforeEach(() => {
  first = 0;
  orders = [];
  closed = [];
  heard = [];
  links = new Links({
    first: () => first,
    send: (worker, order) => void orders.push([worker, order]),
    closeDescriptor: (fd) => void closed.push(fd),
  });
});

function handler(name: string): LinkHandler {
  return {
    connected: (uid) => void heard.push(`${name} connected ${uid}`),
    message: (bytes, fds, damage) => void heard.push(`${name} ${[...bytes]} ${fds} ${damage ?? ""}`),
    closed: (reason) => void heard.push(`${name} closed: ${reason}`),
  };
}

function message(link: number, fds: readonly number[] = []) {
  return { event: "message", link, bytes: new Uint8Array([1]), fds, damage: undefined } as const;
}

describe("links", () => {
  test("links: a connection's orders go to the first worker, its events to its handler", () => {
    const link = links.connect("/agent", handler("a"));
    assert.deepEqual(orders, [[0, { do: "connect", link: 1, path: "/agent" }]]);
    links.received(0, { event: "connected", link: 1, uid: 5 });
    links.received(0, message(1, [7]));
    link.send(new Uint8Array([2]), [8]);
    assert.deepEqual(orders[1], [0, { do: "send", link: 1, bytes: new Uint8Array([2]), fds: [8] }]);
    links.received(0, { event: "closed", link: 1, reason: "eof" });
    assert.deepEqual(heard, ["a connected 5", "a 1 7 ", "a closed: eof"]);
    link.send(new Uint8Array([3]));
    assert.equal(orders.length, 2, "nothing is sent on a link that has ended");
  });

  test("links: a lost worker ends its connections, and another one watches what listens", () => {
    links.connect("/agent", handler("a"));
    links.serve(9, () => handler("b"));
    links.received(0, { event: "accepted", link: -5, listener: 2, uid: 0 });
    first = 1;
    links.lost(0);
    assert.deepEqual(heard, [
      "a closed: the worker that watched it was lost",
      "b closed: the worker that watched it was lost",
    ]);
    assert.deepEqual(orders.at(-1), [1, { do: "accept", link: 2, fd: 9 }]);
  });

  test("links: with no worker left what listens is watched by the next that starts, and a connect fails", async () => {
    links.serve(9, () => handler("b"));
    first = undefined;
    links.lost(0);
    links.connect("/agent", handler("a"));
    await Promise.resolve();
    assert.deepEqual(heard, ["a closed: no worker is running"]);
    first = 0;
    links.retry();
    links.retry();
    assert.deepEqual(orders.slice(1), [[0, { do: "accept", link: 1, fd: 9 }]]);
  });

  test("links: descriptors that arrive for a link that was closed here are closed", () => {
    const link = links.connect("/agent", handler("a"));
    link.close();
    assert.deepEqual(orders.at(-1), [0, { do: "close", link: 1 }]);
    links.received(0, message(1, [7, 8]));
    links.received(0, { event: "closed", link: 1, reason: "late" });
    assert.deepEqual(closed, [7, 8]);
    assert.deepEqual(heard, []);
  });

  test("links: a handler that closes at once hears nothing more", () => {
    links.serve(9, (link) => {
      link.close();
      return handler("b");
    });
    links.received(0, { event: "accepted", link: -5, listener: 1, uid: 0 });
    links.received(0, message(-5, [3]));
    assert.deepEqual(heard, []);
    assert.deepEqual(closed, [3]);
  });

  test("links: the end of the listening", () => {
    const end = links.serve(9, () => handler("b"));
    end();
    assert.deepEqual(orders.at(-1), [0, { do: "close", link: 1 }]);
    links.received(0, { event: "accepted", link: -5, listener: 1, uid: 0 });
    assert.deepEqual(orders.at(-1), [0, { do: "close", link: -5 }]);
  });
});
