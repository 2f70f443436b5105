import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { TcpRelay, type TcpRelayEnd } from "../../src/net/tcp_relay.ts";
import { ECONNRESET } from "../../src/platform/errno.ts";
import { setReceiveBuffer, setResetOnClose, shutdownWrite } from "../../src/platform/socket.ts";
import { tcpPair } from "../platform/support.ts";
import { Random } from "../support/fuzz.ts";
import { checkPattern, createLoop, type Loop, patternAt, Peer } from "./support.ts";

interface Setup {
  readonly loop: Loop;
  readonly relay: TcpRelay;
  /** The applications at either end. */
  readonly client: Peer;
  readonly server: Peer;
  readonly ends: TcpRelayEnd[];
  dispose(): void;
}

function setUp(): Setup {
  const loop = createLoop();
  const [clientFar, clientNear] = tcpPair();
  const [serverNear, serverFar] = tcpPair();
  const ends: TcpRelayEnd[] = [];
  const relay = new TcpRelay(loop.io, clientNear, serverNear, { tcpRelayEnded: (end) => ends.push(end) });
  const client = new Peer(clientFar);
  const server = new Peer(serverFar);
  return {
    loop,
    relay,
    client,
    server,
    ends,
    dispose() {
      relay.cut("test over");
      assert.equal(ends.length, 1, "the end is told once");
      assert.equal(loop.reactor.openDescriptors, 1, "a descriptor is still watched");
      client.close();
      server.close();
      loop.reactor.dispose();
    },
  };
}

describe("tcp_relay", () => {
  test("tcp_relay: half-closes travel one by one, and the second ends it", () => {
    for (const first of ["client", "server"] as const) {
      const setup = setUp();
      const { loop, relay, ends } = setup;
      const [leaving, staying] = first === "client" ? [setup.client, setup.server] : [setup.server, setup.client];
      leaving.send(new TextEncoder().encode("last words"));
      shutdownWrite(leaving.fd);
      loop.until(() => {
        staying.read();
        return staying.ended;
      }, "the first end");
      assert.equal(staying.text(), "last words");
      assert.deepEqual(ends, []);
      staying.send(new TextEncoder().encode("a late answer"));
      loop.until(() => leaving.read() > 0, "the answer");
      assert.equal(leaving.text(), "a late answer");
      assert.ok(loop.turnFor(60) <= 2, "a half-closed connection keeps the loop awake");
      shutdownWrite(staying.fd);
      loop.until(() => {
        leaving.read();
        return leaving.ended && ends.length === 1;
      }, "the second end");
      assert.deepEqual(ends, [{ kind: "complete" }]);
      assert.deepEqual(
        [relay.fromClient(), relay.fromServer()],
        first === "client" ? [10, 13] : [13, 10],
      );
      setup.dispose();
    }
  });

  test("tcp_relay: a reset of one side is a reset of the other", () => {
    for (const first of ["client", "server"] as const) {
      const setup = setUp();
      const { loop, ends } = setup;
      const [leaving, staying] = first === "client" ? [setup.client, setup.server] : [setup.server, setup.client];
      staying.send(new Uint8Array(10));
      loop.until(() => leaving.read() > 0, "the first bytes");
      setResetOnClose(leaving.fd);
      leaving.close();
      loop.until(() => {
        staying.read();
        return staying.failure !== 0;
      }, "the reset");
      assert.equal(staying.failure, ECONNRESET);
      assert.deepEqual(ends, [{ kind: "reset", side: first, detail: "" }]);
      staying.close();
      loop.reactor.dispose();
    }
  });

  test("tcp_relay: a reader that does not read pauses the writer, in bounded memory and without spinning", () => {
    const setup = setUp();
    const { loop, relay, client, server } = setup;
    setReceiveBuffer(server.fd, 65_536);
    let sent = 0;
    let quiet = 0;
    while (quiet < 5) {
      const n = client.send(patternAt(sent, 200_000, 1));
      sent += n;
      quiet = n === 0 ? quiet + 1 : 0;
      loop.settle();
    }
    // What is not in a kernel buffer by now is one read at most.
    assert.ok(sent < 64 << 20);
    assert.ok(relay.fromClient() < sent, "the relay read all that was sent");
    assert.ok(loop.turnFor(80) <= 2, "the loop spins on a full connection");
    loop.until(() => {
      server.read();
      return server.receivedBytes === sent;
    }, "the rest");
    let offset = 0;
    for (const chunk of server.received) {
      checkPattern(chunk, offset, 1);
      offset += chunk.length;
    }
    assert.ok(loop.io.pool.idleBytes <= 1 << 20, "more than a read or two was ever queued");
    setup.dispose();
  });

  test("tcp_relay: an end of stream behind a full reader arrives after everything", () => {
    const setup = setUp();
    const { loop, client, server, ends } = setup;
    let sent = 0;
    for (let quiet = 0; quiet < 5; quiet++) {
      const n = client.send(new Uint8Array(200_000));
      sent += n;
      if (n > 0) quiet = 0;
      loop.settle();
    }
    shutdownWrite(client.fd);
    shutdownWrite(server.fd); // Nothing more comes back: the relay hangs on the full direction alone.
    assert.ok(loop.turnFor(80) <= 4, "the loop spins");
    assert.deepEqual(ends, []);
    loop.until(() => {
      server.read();
      return server.ended && ends.length === 1;
    }, "the end");
    assert.equal(server.receivedBytes, sent);
    assert.deepEqual(ends, [{ kind: "complete" }]);
    setup.dispose();
  });

  test("tcp_relay: 10 MB each way at once, in random pieces, arrive byte for byte", () => {
    const total = 10 * 1024 * 1024;
    const setup = setUp();
    const { loop, client, server, ends } = setup;
    const random = new Random(42);
    const streams = [
      { from: client, to: server, seed: 11, sent: 0, checked: 0 },
      { from: server, to: client, seed: 22, sent: 0, checked: 0 },
    ];
    loop.until(() => {
      for (const stream of streams) {
        if (stream.sent < total) {
          const want = Math.min(total - stream.sent, 1 + random.below(random.oneIn(3) ? 64 : 300_000));
          stream.sent += stream.from.send(patternAt(stream.sent, want, stream.seed));
          if (stream.sent === total) shutdownWrite(stream.from.fd);
        }
        if (!random.oneIn(4)) stream.to.read(1 + random.below(400_000));
        for (const chunk of stream.to.received.splice(0)) {
          checkPattern(chunk, stream.checked, stream.seed);
          stream.checked += chunk.length;
        }
      }
      loop.reactor.turn(0);
      return client.ended && server.ended && ends.length === 1;
    }, "both transfers");
    for (const stream of streams) assert.equal(stream.checked, total);
    assert.deepEqual(ends, [{ kind: "complete" }]);
    setup.dispose();
  });

  test("tcp_relay: a cut resets both sides and tells why", () => {
    const setup = setUp();
    setup.relay.cut("the policy changed");
    for (const peer of [setup.client, setup.server]) {
      setup.loop.until(() => {
        peer.read();
        return peer.failure !== 0;
      }, "the reset");
      assert.equal(peer.failure, ECONNRESET);
    }
    assert.deepEqual(setup.ends, [{ kind: "reset", side: "server", detail: "the policy changed" }]);
    setup.dispose();
  });
});
