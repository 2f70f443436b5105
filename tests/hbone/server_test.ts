import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import {
  closeDescriptor,
  receive,
  send,
  setResetOnClose,
  shutdownWrite,
  socketPair,
} from "../../src/platform/socket.ts";
import { TlsContext } from "../../src/platform/tls_context.ts";
import { TlsSession } from "../../src/platform/tls_session.ts";
import { TestAuthority } from "../platform/authority.ts";
import { connectToLoopback } from "../platform/support.ts";
import { Random } from "../support/fuzz.ts";
import { frame, opensslClient, RawClient } from "./raw_client.ts";
import { Bench, CLIENT_ID, createMaterial, type Material, settings, TestServer } from "./support.ts";
import { createLoop, type Loop } from "../net/support.ts";

const GOAWAY = 7;
let material: Material;
let loop: Loop;
let server: TestServer;

before(async () => {
  material = await createMaterial();
});

beforeEach(() => {
  server?.close();
  loop?.reactor.dispose();
  loop = createLoop();
  server = new TestServer(loop, material.server, settings("server", {}, 400));
});

after(() => {
  server.close();
  loop.reactor.dispose();
});

function ask(...args: readonly string[]): Promise<string> {
  return opensslClient(loop, server.port, material.client, [material.authority.pem], ...args);
}

describe("hbone server: TLS as another implementation sees it", () => {
  test("hbone server: speaks TLS 1.3 with AES-GCM and h2, and gives no session ticket", async () => {
    const output = await ask("-alpn", "h2", "-sess_out", "/dev/null");
    assert.match(output, /New, TLSv1\.3, Cipher is TLS_AES_128_GCM_SHA256/);
    assert.match(output, /ALPN protocol: h2/);
    assert.match(output, /Verify return code: 0 \(ok\)/);
    assert.doesNotMatch(output, /Session Ticket arrived|TLS session ticket:/);
    assert.equal(output.match(/^ +\d+ s:/gm)?.length, 1, "the chain is the leaf alone: nobody needs our root");
    assert.deepEqual(server.admitted, [CLIENT_ID]);
    assert.deepEqual(server.failures, []);
  });

  test("hbone server: takes the other AES-GCM suite, and no other suite", async () => {
    const aes256 = await ask("-alpn", "h2", "-ciphersuites", "TLS_AES_256_GCM_SHA384");
    assert.match(aes256, /Cipher is TLS_AES_256_GCM_SHA384/);
    const chacha = await ask("-alpn", "h2", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256");
    assert.match(chacha, /alert handshake failure/);
    assert.equal(server.admitted.length, 1);
    assert.match(server.failures[0].message, /no shared cipher/);
  });

  test("hbone server: refuses TLS 1.2", async () => {
    const output = await ask("-alpn", "h2", "-tls1_2");
    assert.match(output, /alert protocol version/);
    assert.deepEqual(server.admitted, []);
    assert.match(server.failures[0].message, /unsupported protocol/);
  });

  test("hbone server: refuses a client without ALPN, or with another protocol", async () => {
    await ask();
    assert.match(server.failures[0].message, /did not negotiate h2/);
    const other = await ask("-alpn", "http/1.1,h2c");
    assert.match(other, /alert no application protocol/);
    const several = await ask("-alpn", "http/1.1,h2");
    assert.match(several, /ALPN protocol: h2/);
    assert.equal(server.admitted.length, 1);
  });

  test("hbone server: refuses a client without a certificate", async () => {
    const output = await opensslClient(loop, server.port, undefined, [material.authority.pem], "-alpn", "h2");
    assert.match(output, /alert certificate required/);
    assert.deepEqual(server.admitted, []);
    assert.equal(server.failures[0].stage, "tls");
    assert.match(server.failures[0].message, /did not return a certificate/);
  });

  test("hbone server: refuses a client of a foreign root, and one that expired", async () => {
    const foreign = await (await TestAuthority.create("foreign")).material({ uris: [CLIENT_ID] });
    await opensslClient(loop, server.port, foreign, [material.authority.pem], "-alpn", "h2");
    const expired = await material.authority.material({ uris: [CLIENT_ID], notAfterMs: -5_000 });
    await opensslClient(loop, server.port, expired, [material.authority.pem], "-alpn", "h2");
    assert.deepEqual(server.admitted, []);
    assert.match(server.failures[0].message, /certificate verification failed: unable to get local issuer/);
    assert.match(server.failures[1].message, /certificate verification failed: certificate has expired/);
  });

  test("hbone server: a client whose name is refused gets nothing and is reported", () => {
    server.refuse = "not of this trust domain";
    const client = new RawClient(loop, server.port, material.client);
    loop.until(() => server.failures.length > 0, "the refusal");
    assert.deepEqual(server.failures, [{ stage: "identity", message: "not of this trust domain" }]);
    loop.until(() => {
      client.poll();
      return client.ended;
    }, "the end");
    assert.deepEqual(client.received, []);
    client.close();
  });
});

describe("hbone server: clients that do not go on", () => {
  test("hbone server: a client that says nothing is closed after the handshake timeout", () => {
    const fd = connectToLoopback(server.port);
    loop.until(() => server.failures.length > 0, "the timeout");
    assert.deepEqual(server.failures, [{ stage: "tls", message: "TLS handshake timed out" }]);
    assert.equal(server.server.tunnels.size, 0);
    assert.equal(loop.reactor.openDescriptors, 2);
    closeDescriptor(fd);
  });

  test("hbone server: a client may leave, break or talk nonsense at every step of the handshake", () => {
    const hello = clientHello();
    const random = new Random(3);
    let attempts = 0;
    for (const how of ["end", "reset", "garbage"] as const) {
      for (const cut of [0, 1, 4, 5, 6, 40, hello.length - 1, hello.length]) {
        const fd = connectToLoopback(server.port);
        send(fd, hello, 0, cut);
        loop.settle();
        if (how === "garbage") send(fd, random.bytes(600), 0, 600);
        else if (how === "end") shutdownWrite(fd);
        else {
          setResetOnClose(fd);
          closeDescriptor(fd);
        }
        attempts++;
        loop.until(() => server.failures.length === attempts, `${how} after ${cut} bytes`);
        if (how !== "reset") closeDescriptor(fd);
      }
    }
    assert.equal(server.server.tunnels.size, 0);
    assert.ok(server.failures.every((failure) => failure.stage === "tls" && failure.message !== ""));
    const good = new RawClient(loop, server.port, material.client);
    loop.until(() => server.admitted.length === 1, "a good client afterwards");
    good.close();
  });

  test("hbone server: a context that was closed refuses the connection, not the process", () => {
    const context = server.context;
    context.close();
    const fd = connectToLoopback(server.port);
    loop.until(() => server.failures.length > 0, "the refusal");
    assert.match(server.failures[0].message, /context was closed/);
    closeDescriptor(fd);
  });
});

describe("hbone server: HTTP/2 that is none", () => {
  const cases: readonly [string, (client: RawClient) => void][] = [
    ["an HTTP/1.1 request", (client) => client.send(new TextEncoder().encode("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))],
    ["a frame before SETTINGS", (client) => {
      client.open();
      client.send(frame(0, 0, 5, new Uint8Array(3)));
    }],
    ["a frame that is too large", (client) => {
      client.open();
      client.send(new Uint8Array([0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]));
    }],
    ["a broken header block", (client) => {
      client.open();
      client.send(frame(1, 4, 1, new Uint8Array([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])));
    }],
    ["a SETTINGS frame on a stream", (client) => {
      client.open();
      client.send(frame(4, 0, 3, new Uint8Array(6)));
    }],
    ["random bytes", (client) => {
      client.open();
      client.send(new Random(9).bytes(5_000));
    }],
  ];

  for (const [what, act] of cases) {
    test(`hbone server: ${what} after TLS ends that connection alone`, () => {
      const good = new RawClient(loop, server.port, material.client);
      good.open();
      const bad = new RawClient(loop, server.port, material.client);
      act(bad);
      loop.until(() => {
        bad.poll();
        return bad.ended;
      }, "the end of the bad connection");
      assert.ok(bad.frameTypes().includes(GOAWAY), "it is told why");
      assert.equal(server.server.tunnels.size, 1);
      good.send(frame(6, 0, 0, new Uint8Array(8)));
      loop.until(() => {
        good.poll();
        return good.frameTypes().includes(6);
      }, "the good connection's PING");
      assert.equal(good.ended, false);
      assert.deepEqual(server.requests, []);
      bad.close();
      good.close();
    });
  }

  test("hbone server: a client that never opens HTTP/2 is closed", () => {
    const impatient = new TestServer(loop, material.server, settings("server", { settingsTimeoutMs: 150 }));
    const client = new RawClient(loop, impatient.port, material.client);
    loop.until(() => {
      client.poll();
      return client.ended;
    }, "the end");
    assert.equal(impatient.server.tunnels.size, 0);
    client.close();
    impatient.close();
  });

  test("hbone server: a peer that stops answering PINGs is closed", () => {
    const strict = settings("server", { pingIntervalMs: 100, pingTimeoutMs: 100 });
    const pinging = new TestServer(loop, material.server, strict);
    const client = new RawClient(loop, pinging.port, material.client);
    client.open();
    client.send(frame(4, 1, 0, new Uint8Array(0)));
    loop.until(() => {
      client.poll();
      return client.ended;
    }, "the end");
    assert.ok(client.frameTypes().includes(6));
    client.close();
    pinging.close();
  });

  test("hbone server: a client that reads nothing of a reply flood is bounded and closed", () => {
    const client = new RawClient(loop, server.port, material.client);
    client.open();
    const pings = new Uint8Array(17 * 2_000);
    for (let i = 0; i < 2_000; i++) pings.set(frame(6, 0, 0, new Uint8Array(8)), i * 17);
    for (let i = 0; i < 200 && server.server.tunnels.size > 0; i++) {
      client.send(pings);
      loop.settle();
    }
    loop.until(() => server.server.tunnels.size === 0, "the end");
    client.close();
  });
});

describe("hbone server: life", () => {
  test("hbone server: a drain says GOAWAY, serves what is open, and then ends", () => {
    const bench = new Bench(material);
    const [client] = bench.open(1);
    bench.server.server.drain();
    bench.loop.until(() => client.connection?.ending === true, "GOAWAY");
    bench.loop.turnFor(60);
    assert.deepEqual(client.events, ["headers 200"]);
    assert.equal(bench.server.server.tunnels.size, 1);
    client.finish();
    bench.loop.until(() => bench.server.server.tunnels.size === 0 && bench.pool.size === 0, "the end");
    bench.close();
  });

  test("hbone server: one that was accepted just before the drain is told to leave, its first request is served", () => {
    const bench = new Bench(material);
    const client = bench.acquire();
    bench.server.admit = (uris) => {
      bench.server.server.drain();
      return { identity: uris[0] };
    };
    bench.loop.until(() => client.answered, "the answer");
    client.finish();
    bench.loop.until(() => bench.pool.size === 0, "the end");
    bench.close();
  });

  test("hbone server: certificates are replaced under live connections", async () => {
    const bench = new Bench(material);
    const [old] = bench.open(1);
    const next = await TestAuthority.create("next");
    bench.server.context.close();
    bench.server.context = new TlsContext("server", await next.material({}, [next.pem]));
    const more = bench.acquire();
    bench.loop.until(() => more.answered, "a stream on the old connection");
    assert.equal(more.connection, old.connection);
    const [fresh] = [bench.acquire(bench.plan, "another key")];
    bench.loop.until(() => fresh.calls > 0, "a new connection");
    assert.equal(fresh.failure?.stage, "tls", "the new certificate is of another root");
    assert.equal(old.connection?.open, true);
    bench.close();
  });

  test("hbone server: knows who its clients are", () => {
    const bench = new Bench(material);
    bench.open(2);
    const [tunnel] = bench.server.server.tunnels;
    assert.equal(tunnel.identity, CLIENT_ID);
    assert.equal(tunnel.peer.ip, "127.0.0.1");
    assert.deepEqual(tunnel.local, { ip: "127.0.0.1", port: bench.server.port });
    assert.deepEqual(bench.server.requests[0].slice(0, 4), [":method", "CONNECT", ":authority", "10.0.0.1:80"]);
    bench.close();
  });
});

/** The first message of a real client, as it stands on the wire. */
function clientHello(): Uint8Array {
  const pair = socketPair();
  assert.ok(pair !== undefined);
  const context = new TlsContext("client", material.client);
  const session = new TlsSession(context, pair[0]);
  session.handshake();
  const bytes = new Uint8Array(4_096);
  const n = receive(pair[1], bytes, 0, bytes.length);
  session.free();
  context.close();
  for (const fd of pair) closeDescriptor(fd);
  return bytes.slice(0, n);
}
