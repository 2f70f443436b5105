import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { ECONNREFUSED, EMFILE } from "../../src/platform/errno.ts";
import { openDescriptors } from "../../src/platform/process.ts";
import { closeDescriptor, send, shutdownWrite } from "../../src/platform/socket.ts";
import { TlsContext } from "../../src/platform/tls_context.ts";
import { TestAuthority } from "../platform/authority.ts";
import { acceptOne, listenOnLoopback } from "../platform/support.ts";
import { Bench, type Client, createMaterial, type Material, settings } from "./support.ts";

let material: Material;

before(async () => {
  material = await createMaterial();
});

/** How many connections these streams share. */
function connections(clients: readonly Client[]): number {
  return new Set(clients.map((client) => client.connection)).size;
}

describe("hbone pool: sharing", () => {
  test("hbone pool: all who wait for a destination share one dial and one handshake", () => {
    const bench = new Bench(material);
    const clients = bench.open(50);
    assert.equal(bench.sockets, 1);
    assert.equal(bench.server.accepted, 1);
    assert.equal(bench.server.admitted.length, 1);
    assert.equal(connections(clients), 1);
    assert.ok(clients.every((client) => client.calls === 1));
    assert.equal(bench.open(1)[0].connection, clients[0].connection, "later ones too, at once");
    bench.close();
  });

  test("hbone pool: keys do not share", () => {
    const bench = new Bench(material);
    const [first] = bench.open(1, "one");
    const [second] = bench.open(1, "two");
    assert.notEqual(first.connection, second.connection);
    assert.equal(bench.pool.size, 2);
    bench.close();
  });

  test("hbone pool: its own limit of streams opens a second connection, and a full one is used again later", () => {
    const bench = new Bench(material, { maxStreamsPerConnection: 3 });
    const clients = bench.open(7);
    assert.equal(connections(clients), 3);
    assert.equal(bench.server.accepted, 3);
    clients[1].finish();
    bench.loop.settle();
    const again = bench.acquire();
    assert.equal(again.connection, clients[1].connection, "the slot that was freed");
    assert.equal(bench.server.accepted, 3);
    bench.close();
  });

  test("hbone pool: the peer's limit of streams counts once it is known", () => {
    const bench = new Bench(material, {}, settings("server", { maxConcurrentStreams: 2 }));
    const clients = [1, 2, 3, 4, 5].flatMap(() => bench.open(1));
    assert.equal(connections(clients), 3);
    for (const client of clients) assert.deepEqual(client.events, ["headers 200"]);
    bench.close();
  });

  test("hbone pool: who waits while all are full gets a slot that is freed before another connection is up", () => {
    const bench = new Bench(material, { maxStreamsPerConnection: 1 });
    const [first] = bench.open(1);
    const waiting = bench.acquire();
    assert.equal(waiting.calls, 0);
    first.finish();
    assert.equal(waiting.connection, first.connection);
    bench.loop.until(() => waiting.answered, "the answer");
    bench.close();
  });

  test("hbone pool: 1,000 streams, 100 a connection", () => {
    const bench = new Bench(material);
    const clients = bench.open(1_000);
    assert.equal(connections(clients), 10);
    assert.equal(bench.server.accepted, 10);
    assert.equal(bench.server.requests.length, 1_000);
    for (const client of clients) client.finish();
    bench.loop.until(() => bench.server.streams.every((stream) => stream.isClosed), "the end of all streams");
    bench.close();
  });

  test("hbone pool: a waiter that was taken out hears nothing", () => {
    const bench = new Bench(material);
    const gone = bench.acquire();
    const stays = bench.acquire();
    bench.pool.cancel("key", gone);
    bench.pool.cancel("no such key", gone);
    bench.loop.until(() => stays.answered, "the answer");
    assert.equal(gone.calls, 0);
    bench.close();
  });
});

describe("hbone pool: connections that end", () => {
  test("hbone pool: a connection whose peer leaves gets no new stream, and keeps those it has", () => {
    const bench = new Bench(material);
    const [first] = bench.open(1);
    const old = first.connection;
    for (const tunnel of bench.server.server.tunnels) tunnel.connection.drain();
    bench.loop.until(() => old?.ending === true, "GOAWAY");
    const [second] = bench.open(1);
    assert.notEqual(second.connection, old);
    assert.deepEqual(first.events, ["headers 200"], "the open stream goes on");
    first.finish();
    bench.loop.until(() => bench.pool.size === 1, "the end of the old connection");
    bench.close();
  });

  test("hbone pool: a connection that breaks resets its streams; the next stream dials again", () => {
    const bench = new Bench(material);
    const clients = bench.open(3);
    bench.server.server.close("killed");
    bench.loop.until(() => clients.every((client) => client.events.includes("closed")), "the resets");
    for (const client of clients) assert.deepEqual(client.events, ["headers 200", "reset 8", "closed"]);
    assert.equal(bench.pool.size, 0);
    bench.open(1);
    bench.close();
  });

  test("hbone pool: an unused connection is closed in order after a while, a used one is not", () => {
    const bench = new Bench(material, { unusedReleaseMs: 150 });
    const [kept] = bench.open(1, "kept");
    const [client] = bench.open(1, "unused");
    client.finish();
    bench.loop.until(() => bench.pool.size === 1, "the release");
    assert.equal(kept.connection?.open, true);
    assert.deepEqual(bench.server.failures, []);
    bench.loop.until(() => bench.server.server.tunnels.size === 1, "the server's end of it");
    const [again] = bench.open(1, "unused");
    assert.notEqual(again.connection, client.connection);
    bench.close();
  });

  test("hbone pool: each use begins the time anew", () => {
    const bench = new Bench(material, { unusedReleaseMs: 600 });
    const connection = bench.open(1)[0].connection;
    for (let i = 0; i < 5; i++) {
      const client = bench.acquire();
      assert.equal(client.connection, connection);
      client.finish();
      bench.loop.turnFor(180);
    }
    bench.close();
  });

  test("hbone pool: close ends everything, and later requests are told", () => {
    const bench = new Bench(material, { maxStreamsPerConnection: 1 });
    const [open] = bench.open(1);
    const waiting = bench.acquire();
    bench.pool.close("the pod is gone");
    assert.deepEqual(waiting.failure, { stage: "closed", message: "the pod is gone" });
    assert.ok(open.events.includes("closed"));
    assert.equal(bench.pool.size, 0);
    assert.equal(bench.acquire().failure?.stage, "closed");
    bench.loop.until(() => bench.server.server.tunnels.size === 0, "the server's ends");
    assert.equal(waiting.calls, 1);
    bench.close();
  });

  test("hbone pool: leaves no descriptor behind", () => {
    const before = openDescriptors();
    const bench = new Bench(material, { maxStreamsPerConnection: 2 });
    bench.open(9);
    assert.ok(openDescriptors() > before);
    bench.close();
    assert.equal(openDescriptors(), before);
  });
});

describe("hbone pool: dials that fail", () => {
  test("hbone pool: a refused connection answers all who wait, with its errno", () => {
    const bench = new Bench(material);
    const { fd, port } = listenOnLoopback();
    closeDescriptor(fd);
    const plan = { ...bench.plan, port };
    const clients = [bench.acquire(plan), bench.acquire(plan), bench.acquire(plan)];
    bench.loop.until(() => clients.every((client) => client.calls > 0), "the failure");
    for (const client of clients) {
      assert.deepEqual(client.failure, { stage: "connect", code: ECONNREFUSED });
      assert.equal(client.calls, 1);
    }
    assert.equal(bench.sockets, 1);
    assert.equal(bench.pool.size, 0);
    bench.open(1); // The failure is not remembered.
    bench.close();
  });

  test("hbone pool: a socket that cannot be made is answered at once", () => {
    const bench = new Bench(material);
    const client = bench.acquire({ ...bench.plan, createSocket: () => -EMFILE });
    assert.deepEqual(client.failure, { stage: "connect", code: EMFILE });
    bench.open(1);
    bench.close();
  });

  test("hbone pool: a server with a wrong name is an identity failure, whoever signed it", () => {
    const bench = new Bench(material);
    const clients = [1, 2].map(() => bench.acquire({ ...bench.plan, admit: () => "not the one" }));
    bench.loop.until(() => clients.every((client) => client.calls > 0), "the refusal");
    for (const client of clients) {
      assert.deepEqual(client.failure, { stage: "identity", message: "not the one" });
      assert.equal(client.stream, undefined);
    }
    bench.loop.settle();
    assert.deepEqual(bench.server.requests, []);
    bench.close();
  });

  test("hbone pool: a server of a foreign root is a TLS failure that says so", async () => {
    const foreign = await TestAuthority.create("foreign");
    const bench = new Bench({ ...material, server: await foreign.material({}, [material.authority.pem]) });
    const client = bench.acquire();
    bench.loop.until(() => client.calls > 0, "the failure");
    assert.equal(client.failure?.stage, "tls");
    assert.match((client.failure as { message: string }).message, /certificate verification failed/);
    bench.close();
  });

  test("hbone pool: a client whose certificate the server refuses learns it, and its streams end", async () => {
    const foreign = await TestAuthority.create("foreign");
    const bench = new Bench({ ...material, client: await foreign.material({}, [material.authority.pem]) });
    const client = bench.acquire();
    // In TLS 1.3 the client is done before the server has judged it.
    bench.loop.until(() => client.failure !== undefined || client.events.includes("closed"), "the refusal");
    bench.loop.until(() => bench.server.failures.length > 0, "the server's word");
    assert.match(bench.server.failures[0].message, /certificate verification failed/);
    assert.equal(client.answered, false);
    assert.deepEqual(bench.server.requests, []);
    bench.close();
  });

  test("hbone pool: a peer that never says a word in TLS is given up after the timeout", () => {
    const bench = new Bench(material, { settings: settings("client", {}, 120) });
    const silent = listenOnLoopback();
    const client = bench.acquire({ ...bench.plan, port: silent.port });
    bench.loop.until(() => client.calls > 0, "the timeout");
    assert.deepEqual(client.failure, { stage: "tls", message: "TLS handshake timed out" });
    closeDescriptor(silent.fd);
    bench.close();
  });

  test("hbone pool: a peer that closes or talks plaintext within the handshake is a TLS failure", () => {
    for (const behaviour of ["end", "close", "plaintext"] as const) {
      const bench = new Bench(material);
      const listener = listenOnLoopback();
      const client = bench.acquire({ ...bench.plan, port: listener.port });
      const fd = acceptOne(listener.fd);
      bench.loop.settle();
      if (behaviour === "end") shutdownWrite(fd);
      if (behaviour === "plaintext") sendText(fd, "HTTP/1.1 400 Bad Request\r\n\r\n");
      if (behaviour === "close") closeDescriptor(fd);
      bench.loop.until(() => client.calls > 0, behaviour);
      assert.equal(client.failure?.stage, "tls", behaviour);
      assert.notEqual((client.failure as { message: string }).message, "");
      if (behaviour !== "close") closeDescriptor(fd);
      closeDescriptor(listener.fd);
      bench.close();
    }
  });

  test("hbone pool: a peer that shakes hands but never opens HTTP/2 is given up", () => {
    const bench = new Bench(material, { settings: settings("client", { settingsTimeoutMs: 150 }) });
    bench.server.admit = () => ({ identity: "x" });
    // The server's end is held before it can write: it never sends its SETTINGS.
    const client = bench.acquire();
    bench.server.server.owner.admit = () => {
      for (const tunnel of bench.server.server.tunnels) tunnel.connection.flush = () => {};
      return { identity: "x" };
    };
    bench.loop.until(() => client.events.includes("closed"), "the end");
    assert.deepEqual(client.events, ["reset 4", "closed"]);
    bench.loop.until(() => bench.pool.size === 0, "the end of the connection");
    bench.close();
  });

  test("hbone pool: a context that was closed meanwhile fails the dial, not the process", () => {
    const bench = new Bench(material);
    const context = new TlsContext("client", material.client);
    const client = bench.acquire({ ...bench.plan, context });
    context.close();
    bench.loop.until(() => client.calls > 0, "the failure");
    assert.equal(client.failure?.stage, "tls");
    bench.close();
  });

  test("hbone pool: a plan whose context is replaced dials with the present one", () => {
    const bench = new Bench(material, { maxStreamsPerConnection: 1 });
    let context = new TlsContext("client", material.client);
    const plan = {
      ...bench.plan,
      get context() {
        return context;
      },
    };
    const clients = [bench.acquire(plan), bench.acquire(plan), bench.acquire(plan)];
    bench.loop.until(() => clients[0].answered, "the first stream");
    context.close();
    context = new TlsContext("client", material.client);
    bench.loop.until(() => clients.every((client) => client.answered), "the others");
    context.close();
    bench.close();
  });

  test("hbone pool: a waiter that asks again from its failure is served by a new dial", () => {
    const bench = new Bench(material);
    const second: Client[] = [];
    const first = bench.acquire({ ...bench.plan, admit: () => "no" });
    const failed = first.tunnelFailed.bind(first);
    first.tunnelFailed = (failure) => {
      failed(failure);
      second.push(bench.acquire());
    };
    bench.loop.until(() => second[0]?.answered === true, "the second try");
    assert.equal(bench.sockets, 2);
    bench.close();
  });

  test("hbone pool: closing it while a dial is on its way answers once and closes the socket", () => {
    const before = openDescriptors();
    const bench = new Bench(material);
    const client = bench.acquire();
    bench.loop.reactor.turn(0);
    bench.pool.close("over");
    assert.equal(client.failure?.stage, "closed");
    bench.loop.settle();
    assert.equal(client.calls, 1);
    bench.close();
    assert.equal(openDescriptors(), before);
  });

  test("hbone pool: a stream opened from within the answer of another's end is no trouble", () => {
    const bench = new Bench(material, { maxStreamsPerConnection: 1 });
    const [first] = bench.open(1);
    const chain: Client[] = [];
    for (let i = 0; i < 5; i++) chain.push(bench.acquire());
    for (const client of [first, ...chain]) {
      bench.loop.until(() => client.answered, "a turn in the chain");
      client.finish();
    }
    bench.close();
  });
});

function sendText(fd: number, text: string): void {
  const bytes = new TextEncoder().encode(text);
  send(fd, bytes, 0, bytes.length);
}
