import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { afterEach, before, beforeEach, describe, test } from "node:test";
import { ECONNRESET } from "../../src/platform/errno.ts";
import { setReceiveBuffer, setResetOnClose, shutdownWrite } from "../../src/platform/socket.ts";
import type { TlsMaterial } from "../../src/platform/tls_context.ts";
import { patternAt, type Peer } from "../net/support.ts";
import { FAR_ID, type FarConnection, NestedBench } from "./nested_bench.ts";
import { createMaterial, type Material, SERVER_ID } from "./support.ts";

let material: Material;
let far: TlsMaterial;
let bench: NestedBench;

before(async () => {
  material = await createMaterial();
  far = await material.authority.material({ uris: [FAR_ID] });
});

beforeEach(() => {
  bench = new NestedBench(material, far);
});

afterEach(() => bench.close());

const text = (value: string) => new TextEncoder().encode(value);

/** The two applications, the one that acts first. */
function sides(connection: FarConnection, first: "client" | "server"): readonly [Peer, Peer] {
  const server = connection.server as Peer;
  return first === "client" ? [connection.client, server] : [server, connection.client];
}

/** Sends `total` bytes from one peer to the other as fast as both allow, then the end; compares hashes. */
class Transfer {
  readonly #sent = createHash("sha256");
  readonly #received = createHash("sha256");
  #at = 0;
  #ended = false;
  constructor(readonly from: Peer, readonly to: Peer, readonly total: number, readonly seed: number) {}

  step(readBytes = 1 << 20): void {
    while (this.#at < this.total) {
      const size = Math.min(this.total - this.#at, 1 + (this.#at * 7 + this.seed) % 200_000);
      const bytes = patternAt(this.#at, size, this.seed);
      const n = this.from.send(bytes);
      if (n <= 0) break;
      this.#sent.update(bytes.subarray(0, n));
      this.#at += n;
    }
    if (this.#at === this.total && !this.#ended) {
      this.#ended = true;
      shutdownWrite(this.from.fd);
    }
    this.to.read(readBytes);
    for (const chunk of this.to.received.splice(0)) this.#received.update(chunk);
  }

  get done(): boolean {
    return this.to.ended || this.to.failure !== 0;
  }

  check(): void {
    assert.equal(this.to.failure, 0);
    assert.equal(this.to.receivedBytes, this.total);
    assert.equal(this.#received.digest("hex"), this.#sent.digest("hex"));
  }
}

/** Sends until neither kernel nor tunnels take more; returns how much that was. */
function sendUntilFull(from: Peer, seed: number): number {
  let sent = 0;
  for (let quiet = 0; quiet < 20; quiet++) {
    const n = from.send(patternAt(sent, 300_000, seed));
    sent += n;
    if (n > 0) quiet = 0;
    bench.loop.settle();
  }
  return sent;
}

describe("nested_tunnel: the way through", () => {
  test("nested_tunnel: both requests carry the name, the inner one the network; the answer's headers come out", () => {
    const connection = bench.open();
    assert.deepEqual(bench.gateway.requests, [[":method", "CONNECT", ":authority", "echo.far.svc:80"]]);
    assert.deepEqual(bench.far.requests, [
      [":method", "CONNECT", ":authority", "echo.far.svc:80", "x-forwarded-network", "n1"],
    ]);
    assert.deepEqual(connection.answer, [":status", "200", "baggage", "k8s.deployment.name=echo"]);
    assert.deepEqual(bench.far.admitted, ["spiffe://td/ns/a/sa/client"]);
    connection.client.send(text("question"));
    bench.loop.until(() => (connection.server as Peer).read() > 0, "the question");
    connection.server?.send(text("an answer"));
    bench.loop.until(() => connection.client.read() > 0, "the answer");
    assert.equal(connection.server?.text(), "question");
    assert.equal(connection.client.text(), "an answer");
  });

  test("nested_tunnel: each half ends by itself; with the second everything is released, the outer tunnel stays", () => {
    for (const first of ["client", "server"] as const) {
      const connection = bench.open();
      const [leaving, staying] = sides(connection, first);
      leaving.send(text("last words"));
      shutdownWrite(leaving.fd);
      bench.loop.until(() => {
        staying.read();
        return staying.ended;
      }, "the first end");
      assert.equal(staying.text(), "last words");
      staying.send(text("a late answer"));
      bench.loop.until(() => leaving.read() > 0, "the answer");
      assert.ok(bench.loop.turnFor(60) <= 4, "a half-closed connection keeps the loop awake");
      shutdownWrite(staying.fd);
      bench.loop.until(() => {
        leaving.read();
        return leaving.ended && connection.over;
      }, "the second end");
      assert.deepEqual(connection.clientEnds, [{ kind: "complete" }]);
      assert.deepEqual(connection.serverEnds, [{ kind: "complete" }]);
      assert.equal(leaving.text(), "a late answer");
      bench.loop.until(() => bench.nested.size === 0 && bench.far.server.tunnels.size === 0, "the inner tunnel's end");
      bench.loop.until(
        () => bench.gateway.server.tunnels.values().next().value?.connection.h2.openStreams === 0,
        "the outer stream's end",
      );
    }
    assert.deepEqual(bench.forwardEnds, [{ kind: "complete" }, { kind: "complete" }]);
    assert.equal(bench.gateway.accepted, 1, "one outer tunnel for all");
    assert.equal(bench.far.accepted, 2, "an inner one for each");
  });

  test("nested_tunnel: 48 MB each way at once come out as they went in", () => {
    const connection = bench.open();
    const transfers = [
      new Transfer(connection.client, connection.server as Peer, 48_000_000, 3),
      new Transfer(connection.server as Peer, connection.client, 48_000_000, 5),
    ];
    const deadline = performance.now() + 60_000;
    while (!transfers.every((transfer) => transfer.done)) {
      assert.ok(performance.now() < deadline, "not in time: the transfer");
      for (const transfer of transfers) transfer.step();
      bench.loop.reactor.turn(1);
    }
    for (const transfer of transfers) transfer.check();
    bench.loop.until(() => connection.over, "the end");
    assert.deepEqual([connection.clientEnds, connection.serverEnds], [[{ kind: "complete" }], [{ kind: "complete" }]]);
  });

  test("nested_tunnel: many connections at once share the outer tunnel and do not mix", () => {
    const connections = Array.from({ length: 20 }, () => bench.open());
    const transfers = connections.flatMap((connection, i) => [
      new Transfer(connection.client, connection.server as Peer, 300_000 + i * 1000, i),
      new Transfer(connection.server as Peer, connection.client, 200_000 + i * 777, 100 + i),
    ]);
    const deadline = performance.now() + 60_000;
    while (!transfers.every((transfer) => transfer.done)) {
      assert.ok(performance.now() < deadline, "not in time: the transfers");
      for (const transfer of transfers) transfer.step(65_536);
      bench.loop.reactor.turn(1);
    }
    for (const transfer of transfers) transfer.check();
    assert.equal(bench.gateway.accepted, 1);
    bench.loop.until(() => bench.nested.size === 0, "the end of all");
  });
});

describe("nested_tunnel: backpressure", () => {
  for (const reader of ["client", "server"] as const) {
    test(`nested_tunnel: a ${reader} that does not read stops the sender, and loses nothing`, () => {
      const connection = bench.open();
      const [silent, sender] = sides(connection, reader);
      setReceiveBuffer(silent.fd, 64 * 1024);
      const sent = sendUntilFull(sender, 9);
      // The far end's stream window, what the gateway's half holds, and the kernel's buffers: not what the sender would send.
      assert.ok(sent > 4 << 20, `only ${sent} bytes went in`);
      assert.ok(sent < 40 << 20, `${sent} bytes went in and nobody read one`);
      assert.ok(bench.loop.turnFor(60) <= 4, "a connection that stands still keeps the loop awake");
      shutdownWrite(sender.fd);
      shutdownWrite(silent.fd);
      const hash = createHash("sha256");
      let at = 0;
      bench.loop.until(() => {
        at += silent.read(100_000);
        for (const chunk of silent.received.splice(0)) hash.update(chunk);
        return silent.ended || silent.failure !== 0;
      }, "all the bytes");
      assert.equal(silent.failure, 0);
      assert.equal(at, sent);
      assert.equal(hash.digest("hex"), createHash("sha256").update(patternAtLarge(sent, 9)).digest("hex"));
    });
  }

  test("nested_tunnel: what a client sent before its end arrives, though the server ended first and reads late", () => {
    const connection = bench.open();
    const server = connection.server as Peer;
    shutdownWrite(server.fd);
    bench.loop.until(() => {
      connection.client.read();
      return connection.client.ended;
    }, "the server's end");
    const sent = sendUntilFull(connection.client, 4);
    shutdownWrite(connection.client.fd);
    // Longer than a connection that closes waits for a peer that takes nothing.
    bench.loop.turnFor(2_500);
    bench.loop.until(() => {
      server.read(200_000);
      server.received.length = 0;
      return server.ended || server.failure !== 0;
    }, "all the bytes");
    assert.equal(server.failure, 0);
    assert.equal(server.receivedBytes, sent);
  });
});

describe("nested_tunnel: failures", () => {
  function failed(connection: FarConnection): unknown {
    bench.loop.until(() => connection.failure !== undefined, "the failure");
    bench.loop.settle();
    assert.equal(bench.nested.size, 0);
    return connection.failure;
  }

  test("nested_tunnel: the gateway refuses", () => {
    bench.gatewayStatus = "503";
    assert.deepEqual(failed(bench.ask()), { stage: "gateway", failure: { stage: "status", status: "503" } });
  });

  test("nested_tunnel: the gateway is not who it should be", () => {
    bench.expected = [SERVER_ID];
    const failure = failed(bench.ask()) as { stage: string; failure: { stage: string; message: string } };
    assert.equal(failure.stage, "inner");
    assert.deepEqual(failure.failure, { stage: "identity", message: `the far end is ${FAR_ID}` });
    assert.deepEqual(bench.far.requests, [], "nothing is asked of a stranger");
    bench.loop.until(() => bench.far.server.tunnels.size === 0, "the end at the stranger");
  });

  test("nested_tunnel: nothing listens behind the gateway", () => {
    bench.far.close();
    const failure = failed(bench.ask()) as { stage: string; failure: { stage: string } };
    assert.equal(failure.stage, "inner");
    assert.equal(failure.failure.stage, "closed");
  });

  test("nested_tunnel: who is behind the gateway says nothing: the handshake has a timeout", () => {
    bench.handshakeTimeoutMs = 100;
    bench.gateway.respond = (tunnel, stream) => {
      tunnel.connection.h2.respond(stream, [":status", "200"], false);
      tunnel.connection.touch();
    };
    assert.deepEqual(failed(bench.ask()), {
      stage: "inner",
      failure: { stage: "tls", message: "TLS handshake timed out" },
    });
    bench.loop.until(
      () => bench.gateway.streams[0].isClosed || bench.gateway.streams[0].remoteEnded,
      "the outer stream's end",
    );
  });

  test("nested_tunnel: given up while the handshake is under way, nothing is left", () => {
    bench.gateway.respond = (tunnel, stream) => {
      tunnel.connection.h2.respond(stream, [":status", "200"], false);
      tunnel.connection.touch();
    };
    const connection = bench.ask();
    bench.loop.until(() => bench.gateway.streams.length > 0, "the outer stream");
    bench.loop.settle();
    connection.connect.cancel();
    assert.equal(bench.nested.size, 0);
    const [stream] = bench.gateway.streams;
    bench.loop.until(() => stream.isClosed || stream.remoteEnded, "the outer stream's end");
    assert.equal(connection.failure, undefined);
  });

  test("nested_tunnel: a used outer tunnel that is lost as it is asked once more is replaced by another", () => {
    const first = bench.open();
    const forward = bench.gateway.respond;
    bench.gateway.respond = (tunnel) => {
      bench.gateway.respond = forward;
      tunnel.connection.close("test");
    };
    const second = bench.open();
    assert.equal(second.failure, undefined);
    assert.equal(bench.gateway.accepted, 2);
    bench.loop.until(() => first.clientEnds.length > 0, "the end of what it carried");
    assert.equal(first.clientEnds[0].kind, "reset");
  });

  test("nested_tunnel: a fresh outer tunnel that is lost is not tried again for ever", () => {
    bench.gateway.respond = (tunnel) => tunnel.connection.close("test");
    const failure = failed(bench.ask()) as { stage: string; failure: { stage: string; message: string } };
    assert.equal(failure.stage, "gateway");
    assert.match(failure.failure.message, /lost before it accepted/);
    assert.equal(bench.gateway.accepted, 1);
  });

  const cuts: readonly (readonly [string, () => void])[] = [
    ["the gateway resets the stream", () => bench.forwarded[0].cut("test")],
    ["the gateway's connection ends", () => bench.gateway.server.close("test")],
    ["the far proxy ends", () => bench.far.server.close("test")],
    ["the own tunnels are closed", () => {
      for (const tunnel of [...bench.nested]) tunnel.close("pod gone");
    }],
    ["the own pool is closed", () => bench.pool.close("pod gone")],
  ];
  for (const [name, cut] of cuts) {
    test(`nested_tunnel: ${name}: both applications see a reset, not an end`, () => {
      const connection = bench.open();
      const server = connection.server as Peer;
      connection.client.send(text("half a"));
      bench.loop.until(() => server.read() > 0, "the bytes");
      cut();
      for (const peer of [connection.client, server]) {
        bench.loop.until(() => {
          peer.read();
          return peer.ended || peer.failure !== 0;
        }, "the end");
        assert.equal(peer.failure, ECONNRESET);
      }
      assert.equal(connection.clientEnds[0].kind, "reset");
      bench.loop.until(() => bench.nested.size === 0, "the inner tunnel's end");
    });
  }

  for (const first of ["client", "server"] as const) {
    test(`nested_tunnel: a reset by the ${first} reaches the other side as one`, () => {
      const connection = bench.open();
      const [leaving, staying] = sides(connection, first);
      leaving.send(text("half a"));
      bench.loop.until(() => staying.read() > 0, "the bytes");
      setResetOnClose(leaving.fd);
      leaving.close();
      bench.loop.until(() => {
        staying.read();
        return staying.ended || staying.failure !== 0;
      }, "the end");
      assert.equal(staying.failure, ECONNRESET);
      bench.loop.until(() => bench.nested.size === 0 && bench.far.server.tunnels.size === 0, "the inner tunnel's end");
    });
  }

  test("nested_tunnel: the gateway ends its half in the middle: a reset, not an end", () => {
    let respond: (() => void) | undefined;
    const forward = bench.gateway.respond;
    bench.gateway.respond = (tunnel, stream, fields) => {
      forward(tunnel, stream, fields);
      respond = () => {
        tunnel.connection.h2.endStream(stream);
        tunnel.connection.touch();
      };
    };
    const connection = bench.open();
    connection.client.send(text("half a"));
    bench.loop.until(() => (connection.server as Peer).read() > 0, "the bytes");
    respond?.();
    bench.loop.until(() => {
      connection.client.read();
      return connection.client.ended || connection.client.failure !== 0;
    }, "the end");
    assert.equal(connection.client.failure, ECONNRESET);
  });
});

function patternAtLarge(length: number, seed: number): Uint8Array {
  return patternAt(0, length, seed);
}
