import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { HIGH_WATER_BYTES } from "../../../src/waypoint/transport/byte_stream.ts";
import { NOTHING } from "../../../src/waypoint/transport/owned_stream.ts";
import { TunnelByteStream } from "../../../src/waypoint/transport/tunnel_stream.ts";
import { createMaterial, type Material, settings } from "../../hbone/support.ts";
import { Bench } from "../../hbone/support.ts";
import { createLoop, patternAt } from "../../net/support.ts";
import { Random } from "../../support/fuzz.ts";
import { type Ends, LogSink, socketEnds, tlsEnds, tunnelEnds } from "./support.ts";

let material: Material;
before(async () => {
  material = await createMaterial();
});

function sockets(): Ends {
  const loop = createLoop();
  const ends = socketEnds(loop);
  return {
    ...ends,
    close: () => {
      ends.close();
      loop.reactor.dispose();
    },
  };
}

const KINDS: readonly (readonly [name: string, open: () => Ends])[] = [
  ["socket", sockets],
  ["tunnel", () => tunnelEnds(material)],
  ["TLS over socket", () => tlsEnds(material, sockets())],
  ["TLS over tunnel", () => tlsEnds(material, tunnelEnds(material))],
];

function withEnds(open: () => Ends, run: (ends: Ends) => void): void {
  const ends = open();
  try {
    run(ends);
  } finally {
    ends.close();
  }
}

for (const [kind, open] of KINDS) {
  describe(`${kind} stream`, () => {
    test(`${kind} stream: bytes go both ways, and each half ends by itself`, () =>
      withEnds(open, ({ loop, near, far }) => {
        near.write("question");
        near.end();
        loop.until(() => far.ended, "the end of the question");
        assert.equal(far.text, "question");
        assert.ok(far.stream.peerEnded && !far.stream.closed);
        far.write("answer");
        loop.until(() => near.bytes === 6, "the answer");
        far.end();
        loop.until(() => near.ended && near.over === 1 && far.over === 1, "both halves");
        assert.equal(near.text, "answer");
        assert.ok(near.stream.closed && far.stream.closed);
        assert.deepEqual([near.ends, far.ends, near.cut, far.cut], [1, 1, undefined, undefined]);
      }));

    test(`${kind} stream: reserved and written pieces of every size arrive whole and in order`, () =>
      withEnds(open, ({ loop, near, far }) => {
        const random = new Random(7);
        let sent = 0;
        const total = 3_000_000;
        loop.until(() => {
          while (sent < total && near.stream.queued < HIGH_WATER_BYTES) {
            const size = Math.min(total - sent, 1 + random.below(random.oneIn(3) ? 60_000 : 900));
            const piece = patternAt(sent, size, 3);
            near.call(() => {
              if (size > 16_000 || random.oneIn(2)) return near.stream.write(piece, 0, size);
              const room = near.stream.reserve(size);
              assert.ok(room.end - room.at >= size);
              room.bytes.set(piece, room.at);
              near.stream.commit(size);
            });
            sent += size;
          }
          return far.bytes >= total;
        }, "all bytes");
        let at = 0;
        for (const part of far.parts) {
          assert.deepEqual(part, patternAt(at, part.length, 3));
          at += part.length;
        }
      }));

    test(`${kind} stream: a sink that gives no credit holds the sender up, and is served when it does`, () =>
      withEnds(open, ({ loop, near, far }) => {
        far.consumes = false;
        let sent = 0;
        const piece = new Uint8Array(64 * 1024);
        for (let quiet = 0; quiet < 20;) {
          if (near.stream.queued < HIGH_WATER_BYTES) {
            near.write(piece);
            sent += piece.length;
            quiet = 0;
          } else quiet++;
          loop.settle();
        }
        const most = 32 * 1024 * 1024;
        assert.ok(sent < most, `${sent} bytes were taken from a sender that nobody reads`);
        const held = far.bytes;
        loop.settle();
        assert.equal(far.bytes, held);
        assert.equal(near.writables, 0);
        far.release();
        loop.until(() => far.bytes === sent && near.writables === 1, "the rest");
        assert.ok(near.stream.queued === 0);
      }));

    test(`${kind} stream: what is queued goes out before the end`, () =>
      withEnds(open, ({ loop, near, far }) => {
        far.consumes = false;
        const piece = new Uint8Array(512 * 1024).fill(1);
        let sent = 0;
        while (near.stream.queued < HIGH_WATER_BYTES) {
          near.write(piece);
          sent += piece.length;
          loop.settle();
        }
        near.end();
        near.write("after the end is nothing");
        loop.settle();
        assert.ok(!far.ended);
        far.release();
        loop.until(() => far.ended, "the end");
        assert.equal(far.bytes, sent);
      }));

    test(`${kind} stream: a reset is a cut at the other end, never an end, and nothing comes after it`, () =>
      withEnds(open, ({ loop, near, far }) => {
        near.write("half of something");
        loop.until(() => far.bytes > 0, "the half");
        near.call(() => near.stream.reset());
        loop.until(() => far.cut !== undefined, "the cut");
        assert.equal(far.cut?.by, "peer");
        assert.match(far.cut?.detail ?? "", /reset by peer/);
        assert.deepEqual([far.ended, near.over, far.over, near.cut], [false, 1, 1, undefined]);
        assert.ok(near.stream.closed && far.stream.closed);
        far.call(() => {
          far.stream.write(new Uint8Array(10), 0, 10);
          far.stream.consume(5);
          far.stream.end();
          far.stream.reset();
        });
        loop.settle();
        assert.equal(far.over, 1);
      }));

    test(`${kind} stream: a reset behind our own end is still a cut`, () =>
      withEnds(open, ({ loop, near, far }) => {
        near.end();
        loop.until(() => far.ended, "the end");
        far.call(() => far.stream.reset());
        loop.until(() => near.cut !== undefined, "the cut");
        assert.ok(!near.ended);
      }));

    test(`${kind} stream: writing to a peer that is gone cuts, and not from within write`, () =>
      withEnds(open, ({ loop, near, far }) => {
        far.call(() => far.stream.reset());
        const piece = new Uint8Array(64 * 1024);
        for (let i = 0; i < 5 && near.cut === undefined; i++) {
          near.write(piece);
          loop.reactor.turn(5);
        }
        loop.until(() => near.cut !== undefined, "the cut");
      }));
  });
}

describe("tunnel stream", () => {
  test("tunnel stream: what comes before there is a sink waits for it", () => {
    const bench = new Bench(material);
    let far: TunnelByteStream | undefined;
    bench.server.respond = (tunnel, stream) => {
      tunnel.connection.h2.respond(stream, [":status", "200"], false);
      tunnel.connection.touch();
      far = new TunnelByteStream(bench.loop.reactor, bench.loop.io.pool, tunnel.connection, stream);
    };
    const client = bench.acquire();
    bench.loop.until(() => client.answered, "the tunnel");
    const bytes = new TextEncoder().encode("early");
    client.connection?.h2.sendData(client.stream!, bytes, 0, 5, true);
    client.connection?.touch();
    bench.loop.until(() => far?.peerEnded === true, "the end");
    const sink = new LogSink(far!);
    bench.loop.until(() => sink.ended, "what waited");
    assert.equal(sink.text, "early");
    assert.equal(sink.ends, 1);
    bench.close();
  });

  test("tunnel stream: a tunnel that is lost says so", () => {
    const ends = tunnelEnds(material);
    ends.client.connection.close("the network went away");
    ends.loop.until(() => ends.near.cut !== undefined, "the cut");
    assert.deepEqual(ends.near.cut, { by: "transport", detail: "the tunnel was lost: the network went away" });
    ends.close();
  });

  test("tunnel stream: a reservation that the window has no room for is kept aside", () => {
    const bench = new Bench(material, {}, settings("server", { initialWindowBytes: 65_535 }));
    let far: LogSink | undefined;
    bench.server.respond = (tunnel, stream) => {
      tunnel.connection.h2.respond(stream, [":status", "200"], false);
      tunnel.connection.touch();
      far = new LogSink(
        new TunnelByteStream(bench.loop.reactor, bench.loop.io.pool, tunnel.connection, stream),
      );
      far.consumes = false;
    };
    const client = bench.acquire();
    bench.loop.until(() => client.answered, "the tunnel");
    const near = new LogSink(
      new TunnelByteStream(bench.loop.reactor, bench.loop.io.pool, client.connection!, client.stream!),
    );
    near.write(patternAt(0, 65_000, 1));
    near.call(() => {
      const room = near.stream.reserve(10_000);
      room.bytes.set(patternAt(65_000, 10_000, 1), room.at);
      near.stream.commit(10_000);
    });
    assert.ok(near.stream.queued > 0);
    near.call(() => {
      near.stream.reserve(100);
      near.stream.commit(0);
    });
    bench.loop.settle();
    far?.release();
    bench.loop.until(() => far?.bytes === 75_000, "all");
    let at = 0;
    for (const part of far?.parts ?? []) {
      assert.deepEqual(part, patternAt(at, part.length, 1));
      at += part.length;
    }
    assert.deepEqual(near.stream.reserve(1).bytes === NOTHING, false);
    near.stream.commit(0);
    bench.close();
  });
});
