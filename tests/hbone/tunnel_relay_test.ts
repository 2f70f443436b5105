import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { afterEach, before, beforeEach, describe, test } from "node:test";
import { ECONNRESET } from "../../src/platform/errno.ts";
import { setReceiveBuffer, setResetOnClose, shutdownWrite } from "../../src/platform/socket.ts";
import { ErrorCode } from "../../src/protocol/http2/mod.ts";
import { checkPattern, patternAt, type Peer } from "../net/support.ts";
import { Random } from "../support/fuzz.ts";
import { Bench, createMaterial, type Material, settings, type Tunnel } from "./support.ts";

let material: Material;
let bench: Bench;

before(async () => {
  material = await createMaterial();
});

beforeEach(() => {
  bench = new Bench(material);
});

afterEach(() => bench.close());

function text(value: string): Uint8Array {
  return new TextEncoder().encode(value);
}

/** The two applications, the one that acts first. */
function sides(tunnel: Tunnel, first: "client" | "server"): readonly [Peer, Peer] {
  return first === "client" ? [tunnel.client, tunnel.server] : [tunnel.server, tunnel.client];
}

/** Sends until neither kernel nor tunnel takes more; returns how much that was. */
function sendUntilFull(from: Peer, seed: number): number {
  let sent = 0;
  for (let quiet = 0; quiet < 10; quiet++) {
    const n = from.send(patternAt(sent, 300_000, seed));
    sent += n;
    if (n > 0) quiet = 0;
    bench.loop.settle();
  }
  return sent;
}

describe("tunnel_relay", () => {
  test("tunnel_relay: bytes go both ways and are counted by direction", () => {
    const tunnel = bench.tunnel();
    tunnel.client.send(text("question"));
    bench.loop.until(() => tunnel.server.read() > 0, "the question");
    tunnel.server.send(text("an answer"));
    bench.loop.until(() => tunnel.client.read() > 0, "the answer");
    assert.equal(tunnel.server.text(), "question");
    assert.equal(tunnel.client.text(), "an answer");
    assert.deepEqual([tunnel.clientRelay.bytesIn, tunnel.clientRelay.bytesOut], [8, 9]);
    assert.deepEqual([tunnel.serverRelay.bytesIn, tunnel.serverRelay.bytesOut], [9, 8]);
  });

  test("tunnel_relay: counts by who sent it, whichever of the two its application is", () => {
    const tunnel = bench.tunnel("client");
    tunnel.client.send(text("question"));
    bench.loop.until(() => tunnel.server.read() > 0, "the question");
    tunnel.server.send(text("an answer"));
    bench.loop.until(() => tunnel.client.read() > 0, "the answer");
    for (const relay of [tunnel.clientRelay, tunnel.serverRelay]) {
      assert.deepEqual([relay.fromClient(), relay.fromServer()], [8, 9]);
    }
  });

  test("tunnel_relay: what a client said before its tunnel was there is read at once", () => {
    const tunnel = bench.tunnel("client", text("early"));
    assert.equal(tunnel.clientRelay.bytesIn, 5, "in the turn of the answer");
    bench.loop.until(() => tunnel.server.read() > 0, "the early bytes");
    assert.equal(tunnel.server.text(), "early");
  });

  test("tunnel_relay: a client that had gone by then ends in order, one that was reset is cut", () => {
    const gone = bench.tunnel("client", text("bye"), (peer) => shutdownWrite(peer.fd));
    bench.loop.until(() => {
      gone.server.read();
      return gone.server.ended;
    }, "the end");
    assert.equal(gone.server.text(), "bye");
    shutdownWrite(gone.server.fd);
    bench.loop.until(() => gone.clientEnds.length > 0 && gone.serverEnds.length > 0, "both ends");
    assert.deepEqual([gone.clientEnds[0].kind, gone.serverEnds[0].kind], ["complete", "complete"]);

    const reset = bench.tunnel("client", undefined, (peer) => {
      setResetOnClose(peer.fd);
      peer.close();
    });
    bench.loop.until(() => reset.clientEnds.length > 0 && reset.serverEnds.length > 0, "the cut");
    assert.deepEqual([reset.clientEnds[0].kind, reset.serverEnds[0].kind], ["reset", "reset"]);
  });

  test("tunnel_relay: last bytes and the end that follows them are one frame", () => {
    const tunnel = bench.tunnel();
    const frames: [number, boolean][] = [];
    const relay = tunnel.clientRelay;
    const data = relay.data.bind(relay);
    relay.data = (stream, bytes, start, end, endStream) => {
      frames.push([end - start, endStream]);
      data(stream, bytes, start, end, endStream);
    };
    tunnel.server.send(text("all of it"));
    shutdownWrite(tunnel.server.fd);
    bench.loop.until(() => {
      tunnel.client.read();
      return tunnel.client.ended;
    }, "the end");
    assert.equal(tunnel.client.text(), "all of it");
    assert.deepEqual(frames, [[9, true]]);
    // The half that ends last completes the relays: what it ends with counts.
    let counted: readonly number[] = [];
    tunnel.clientEnds.push = () => {
      counted = [relay.bytesIn, relay.bytesOut];
      return 1;
    };
    tunnel.client.send(text("and back"));
    shutdownWrite(tunnel.client.fd);
    bench.loop.until(() => counted.length > 0 && tunnel.serverEnds.length > 0, "both ends");
    tunnel.server.read();
    assert.equal(tunnel.server.text(), "and back");
    assert.deepEqual(counted, [8, 9]);
  });

  test("tunnel_relay: each half ends by itself, and the second end completes it", () => {
    for (const first of ["client", "server"] as const) {
      const tunnel = bench.tunnel();
      const [leaving, staying] = sides(tunnel, first);
      leaving.send(text("last words"));
      shutdownWrite(leaving.fd);
      bench.loop.until(() => {
        staying.read();
        return staying.ended;
      }, "the first end");
      assert.equal(staying.text(), "last words");
      staying.send(text("a late answer"));
      bench.loop.until(() => leaving.read() > 0, "the answer");
      assert.ok(bench.loop.turnFor(60) <= 3, "a half-closed tunnel keeps the loop awake");
      assert.deepEqual([tunnel.clientEnds, tunnel.serverEnds], [[], []]);
      shutdownWrite(staying.fd);
      bench.loop.until(() => {
        leaving.read();
        return leaving.ended && tunnel.over;
      }, "the second end");
      assert.deepEqual(tunnel.clientEnds, [{ kind: "complete" }]);
      assert.deepEqual(tunnel.serverEnds, [{ kind: "complete" }]);
      assert.equal(leaving.text(), "a late answer");
    }
    assert.equal(bench.pool.size, 1, "the connection stays");
  });

  test("tunnel_relay: a reset of an application is a reset of the stream and of the other application", () => {
    for (const first of ["client", "server"] as const) {
      const tunnel = bench.tunnel();
      const [leaving, staying] = sides(tunnel, first);
      leaving.send(text("half of it"));
      bench.loop.until(() => staying.read() > 0, "the first bytes");
      setResetOnClose(leaving.fd);
      leaving.close();
      bench.loop.until(() => {
        staying.read();
        return staying.failure !== 0 && tunnel.over;
      }, "the reset");
      assert.equal(staying.failure, ECONNRESET);
      assert.equal(staying.ended, false, "a cut transfer looked complete");
      const [own, other] = first === "client"
        ? [tunnel.clientEnds, tunnel.serverEnds]
        : [tunnel.serverEnds, tunnel.clientEnds];
      assert.deepEqual(own, [{ kind: "reset", side: "application", detail: "" }]);
      assert.deepEqual(other, [{ kind: "reset", side: "tunnel", detail: "" }]);
      assert.equal(tunnel.connection.open, true);
    }
  });

  test("tunnel_relay: a connection that dies under it resets both applications", () => {
    const tunnel = bench.tunnel();
    tunnel.client.send(text("x"));
    bench.loop.until(() => tunnel.server.read() > 0, "the first byte");
    tunnel.connection.close("cable cut");
    for (const peer of [tunnel.client, tunnel.server]) {
      bench.loop.until(() => {
        peer.read();
        return peer.failure !== 0;
      }, "the reset");
      assert.equal(peer.failure, ECONNRESET);
    }
    bench.loop.until(() => tunnel.over, "both ends");
    assert.equal(tunnel.clientEnds[0].kind, "reset");
    assert.equal(tunnel.serverEnds[0].kind, "reset");
  });

  test("tunnel_relay: a stream that is reset with an error says which", () => {
    const tunnel = bench.tunnel();
    const [stream] = bench.server.streams;
    const [server] = bench.server.server.tunnels;
    server.connection.h2.resetStream(stream, ErrorCode.CONNECT_ERROR);
    server.connection.touch();
    bench.loop.until(() => tunnel.clientEnds.length > 0, "the reset");
    assert.deepEqual(tunnel.clientEnds, [{
      kind: "reset",
      side: "tunnel",
      detail: `tunnel stream reset with code ${ErrorCode.CONNECT_ERROR}`,
    }]);
  });

  test("tunnel_relay: a cut ends both sides and tells why", () => {
    const tunnel = bench.tunnel();
    tunnel.serverRelay.cut("the policy changed");
    tunnel.serverRelay.cut("again");
    assert.deepEqual(tunnel.serverEnds, [{ kind: "reset", side: "tunnel", detail: "the policy changed" }]);
    for (const peer of [tunnel.client, tunnel.server]) {
      bench.loop.until(() => {
        peer.read();
        return peer.failure !== 0;
      }, "the reset");
    }
    assert.equal(tunnel.clientEnds.length, 1);
  });

  test("tunnel_relay: what comes for a stream that was cut does not eat up the connection's window", () => {
    bench.close();
    // A small connection window: 40 streams' worth of bytes that nobody consumed would close it for good.
    bench = new Bench(
      material,
      { settings: settings("client", { connectionWindowBytes: 200_000, initialWindowBytes: 150_000 }) },
      settings("server", { connectionWindowBytes: 200_000, initialWindowBytes: 150_000 }),
    );
    for (let i = 0; i < 40; i++) {
      const tunnel = bench.tunnel();
      tunnel.client.send(patternAt(0, 120_000, i));
      bench.loop.reactor.turn(0);
      if (i % 2 === 0) tunnel.serverRelay.cut("cut while bytes are on their way");
      else {
        setReceiveBuffer(tunnel.server.fd, 4_096);
        bench.loop.settle();
        tunnel.serverRelay.cut("cut while bytes are queued");
      }
      bench.loop.until(() => tunnel.over, "the end");
    }
    const tunnel = bench.tunnel();
    const sent = sendUntilFull(tunnel.client, 1);
    bench.loop.until(() => {
      tunnel.server.read();
      return tunnel.server.receivedBytes === sent;
    }, "a transfer after all the cuts");
    assert.ok(sent > 200_000);
    assert.equal(bench.pool.size, 1);
  });
});

describe("tunnel_relay: backpressure", () => {
  test("tunnel_relay: an application that reads nothing holds up its own stream, in bounded memory", () => {
    for (const first of ["client", "server"] as const) {
      const tunnel = bench.tunnel();
      const other = bench.tunnel();
      const [from, to] = sides(tunnel, first);
      setReceiveBuffer(to.fd, 65_536);
      const sent = sendUntilFull(from, 3);
      const relayed = first === "client" ? tunnel.serverRelay.bytesOut : tunnel.clientRelay.bytesOut;
      // What was taken in beyond the two kernels' buffers is bounded by the stream's window of 4 MiB.
      assert.ok(relayed <= 4 * 1024 * 1024 + 16 * 1024 * 1024, `${relayed} bytes were taken in`);
      assert.ok(sent - relayed >= 0 && sent < 64 << 20);
      assert.ok(bench.loop.turnFor(80) <= 4, "the loop spins on a full tunnel");
      // The neighbour on the same connection does not notice.
      other.client.send(text("hello"));
      bench.loop.until(() => other.server.read() > 0, "the neighbour's bytes");
      bench.loop.until(() => {
        to.read();
        return to.receivedBytes === sent;
      }, "the rest");
      let offset = 0;
      for (const chunk of to.received) {
        checkPattern(chunk, offset, 3);
        offset += chunk.length;
      }
    }
  });

  test("tunnel_relay: an end of stream behind a full window arrives after everything", () => {
    const tunnel = bench.tunnel();
    const sent = sendUntilFull(tunnel.client, 4);
    shutdownWrite(tunnel.client.fd);
    bench.loop.settle();
    assert.equal(tunnel.server.ended, false);
    bench.loop.until(() => {
      tunnel.server.read();
      return tunnel.server.ended;
    }, "the end");
    assert.equal(tunnel.server.receivedBytes, sent);
    shutdownWrite(tunnel.server.fd);
    bench.loop.until(() => tunnel.over, "the end of the relays");
    assert.deepEqual(tunnel.clientEnds, [{ kind: "complete" }]);
  });

  test("tunnel_relay: a burst's memory is given back", () => {
    const tunnel = bench.tunnel();
    const sent = sendUntilFull(tunnel.client, 5);
    bench.loop.until(() => {
      tunnel.server.read();
      return tunnel.server.receivedBytes === sent;
    }, "the bytes");
    for (let i = 0; i < 10; i++) bench.loop.io.pool.shrink();
    const steps = 5;
    assert.ok(bench.loop.io.pool.idleBytes <= steps * 512 * 1024);
  });
});

describe("tunnel_relay: integrity", () => {
  test("tunnel_relay: 20 MB each way at once, in random pieces, arrive byte for byte", () => {
    const total = 20 * 1024 * 1024;
    const tunnel = bench.tunnel();
    const random = new Random(7);
    const streams = [
      { from: tunnel.client, to: tunnel.server, seed: 101, sent: 0, checked: 0 },
      { from: tunnel.server, to: tunnel.client, seed: 202, sent: 0, checked: 0 },
    ];
    const blocks = streams.map(({ seed }) => patternAt(0, total, seed));
    bench.loop.until(() => {
      for (const [i, stream] of streams.entries()) {
        if (stream.sent < total) {
          const want = Math.min(total - stream.sent, 1 + random.below(random.oneIn(4) ? 100 : 400_000));
          stream.sent += stream.from.send(blocks[i], stream.sent, stream.sent + want);
          if (stream.sent === total) shutdownWrite(stream.from.fd);
        }
        if (!random.oneIn(4)) stream.to.read(1 + random.below(500_000));
        for (const chunk of stream.to.received.splice(0)) {
          const expected = blocks[i].subarray(stream.checked, stream.checked + chunk.length);
          if (Buffer.compare(chunk, expected) !== 0) checkPattern(chunk, stream.checked, stream.seed);
          stream.checked += chunk.length;
        }
      }
      bench.loop.reactor.turn(0);
      return tunnel.over && streams.every(({ to }) => to.ended);
    }, "both transfers");
    for (const stream of streams) assert.equal(stream.checked, total);
    assert.deepEqual(tunnel.clientEnds, [{ kind: "complete" }]);
    assert.deepEqual(tunnel.serverEnds, [{ kind: "complete" }]);
  });

  test("tunnel_relay: many tunnels on one connection do not mix", () => {
    const tunnels = Array.from({ length: 40 }, () => bench.tunnel());
    const size = 100_000;
    const expected = tunnels.map((_, i) => patternAt(0, size, i));
    const sent = tunnels.map(() => 0);
    bench.loop.until(() => {
      for (const [i, tunnel] of tunnels.entries()) {
        if (sent[i] < size) {
          sent[i] += tunnel.client.send(expected[i], sent[i], Math.min(size, sent[i] + 7_000));
          if (sent[i] === size) shutdownWrite(tunnel.client.fd);
        }
        tunnel.server.read();
      }
      bench.loop.reactor.turn(0);
      return tunnels.every(({ server }) => server.ended);
    }, "all transfers");
    for (const [i, { server }] of tunnels.entries()) {
      assert.equal(Buffer.compare(Buffer.concat(server.received), expected[i]), 0, `tunnel ${i}`);
    }
    assert.equal(bench.server.accepted, 1);
  });
});
