import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type TcpSink, TcpStream } from "../../src/net/tcp_stream.ts";
import { EAGAIN, EBADF, ECONNRESET, EPIPE } from "../../src/platform/errno.ts";
import {
  closeDescriptor,
  receive,
  setReceiveBuffer,
  setResetOnClose,
  setSendBuffer,
  shutdownWrite,
} from "../../src/platform/socket.ts";
import { libc } from "../../src/platform/libc.ts";
import { tcpPair } from "../platform/support.ts";
import { checkPattern, createLoop, type Loop, patternAt, Peer } from "./support.ts";

/** Writes down what a stream reports; reads on its own unless told not to. */
class Sink implements TcpSink {
  stream!: TcpStream;
  readonly events: string[] = [];
  drainedBytes = 0;
  bytes = 0;
  reads = true;
  readableCalls = 0;
  readonly #buffer = new Uint8Array(64 * 1024);

  readable(): void {
    this.readableCalls++;
    if (!this.reads) return;
    const n = this.stream.read(this.#buffer, 0, this.#buffer.length);
    if (n > 0) this.bytes += n;
    else if (n === 0) this.events.push("end");
    else if (n !== -EAGAIN) {
      this.events.push(`read failed ${-n}`);
      this.stream.close();
    }
  }
  drained(bytes: number): void {
    this.drainedBytes += bytes;
  }
  broken(code: number): void {
    this.events.push(`broken ${code}`);
  }
}

function setUp(): { loop: Loop; stream: TcpStream; sink: Sink; peer: Peer } {
  const loop = createLoop();
  const [near, far] = tcpPair();
  const sink = new Sink();
  const stream = new TcpStream(loop.reactor, loop.io.pool, near, sink);
  sink.stream = stream;
  return { loop, stream, sink, peer: new Peer(far) };
}

/** By `struct tcp_info`, which is the same everywhere. */
function segmentsReceived(fd: number): number {
  const IPPROTO_TCP = 6;
  const TCP_INFO = 11;
  const info = new Uint32Array(64);
  const length = new Uint32Array([256]);
  assert.equal(
    libc.getsockopt(fd, IPPROTO_TCP, TCP_INFO, new Uint8Array(info.buffer), new Uint8Array(length.buffer)),
    0,
  );
  return info[35];
}

/** Writes until the kernel takes no more; returns how much was written in all, queued bytes included. */
function fill(stream: TcpStream, seed: number): number {
  let written = 0;
  for (;;) {
    const block = patternAt(written, 100_000, seed);
    const taken = stream.write(block, 0, block.length);
    assert.ok(taken >= 0);
    written += block.length;
    if (taken < block.length) return written;
  }
}

describe("tcp_stream", () => {
  test("tcp_stream: reads at once what waits, and is watched from then on", () => {
    const { loop, stream, sink, peer } = setUp();
    peer.send(patternAt(0, 10, 1));
    stream.readNow();
    assert.equal(sink.bytes, 10);
    peer.send(patternAt(10, 5, 1));
    loop.until(() => sink.bytes === 15, "what came later");
    stream.close();
    peer.close();
    loop.reactor.dispose();
  });

  test("tcp_stream: nothing to read at once is no end, and an end at once is one", () => {
    const { loop, stream, sink, peer } = setUp();
    stream.readNow();
    assert.equal(sink.readableCalls, 1);
    assert.deepEqual(sink.events, []);
    peer.send(patternAt(0, 10, 1));
    loop.until(() => sink.bytes === 10, "what came later");
    stream.close();
    peer.close();
    const other = setUp();
    shutdownWrite(other.peer.fd);
    other.stream.readNow();
    assert.deepEqual(other.sink.events, ["end"]);
    assert.ok(other.loop.turnFor(100) <= 5, "it does not spin");
    other.stream.close();
    other.peer.close();
    for (const each of [loop, other.loop]) each.reactor.dispose();
  });

  test("tcp_stream: says within readable whether the end of stream is known to be there", () => {
    const { loop, stream, sink, peer } = setUp();
    const seen: boolean[] = [];
    const readable = sink.readable.bind(sink);
    sink.readable = () => {
      seen.push(stream.endWaits);
      readable();
    };
    stream.resumeRead();
    peer.send(patternAt(0, 10, 1));
    loop.until(() => sink.bytes === 10, "the first bytes");
    assert.ok(seen.every((end) => !end));
    peer.send(patternAt(10, 10, 1));
    shutdownWrite(peer.fd);
    loop.until(() => sink.bytes === 20, "the last bytes");
    assert.equal(seen[seen.length - 1], true);
    assert.equal(stream.endWaits, false, "outside of readable nothing is said");
    stream.close();
    peer.close();
    loop.reactor.dispose();
  });

  test("tcp_stream: a failure that is met while reading on is told in the next turn, behind what came before", () => {
    const { loop, stream, sink, peer } = setUp();
    const seen: number[] = [];
    const bytes = new Uint8Array(100);
    sink.readable = () => {
      const n = stream.read(bytes, 0, 10);
      seen.push(n);
      if (n < 0) return stream.close();
      if (seen.length > 1) return;
      setResetOnClose(peer.fd);
      peer.close();
      seen.push(stream.readOn(bytes, 0, 10));
    };
    peer.send(patternAt(0, 10, 1));
    stream.resumeRead();
    loop.until(() => stream.closed, "the failure");
    assert.deepEqual(seen, [10, -EAGAIN, -ECONNRESET]);
    loop.reactor.dispose();
  });

  test("tcp_stream: last bytes and the end of stream travel together", () => {
    const segments = [true, false].map((last) => {
      const { loop, stream, peer } = setUp();
      const before = segmentsReceived(peer.fd);
      stream.write(patternAt(0, 10, 1), 0, 10, last);
      stream.endWrite();
      loop.until(() => {
        peer.read();
        return peer.ended;
      }, "the end");
      const count = segmentsReceived(peer.fd) - before;
      stream.close();
      peer.close();
      loop.reactor.dispose();
      return count;
    });
    assert.deepEqual(segments, [1, 2]);
  });

  test("tcp_stream: last bytes and the end of stream arrive, in order, also when the kernel does not take all at once", () => {
    for (const bytes of [10, 3_000_000]) {
      const { loop, stream, peer } = setUp();
      const block = patternAt(0, bytes, 3);
      assert.ok(stream.write(block, 0, block.length, true) >= 0);
      stream.endWrite();
      loop.until(() => {
        peer.read();
        return peer.ended;
      }, "the end");
      assert.equal(peer.receivedBytes, bytes);
      stream.close();
      peer.close();
      loop.reactor.dispose();
    }
  });

  test("tcp_stream: reads nothing until asked to, then all that waits", () => {
    const { loop, stream, sink, peer } = setUp();
    peer.send(new Uint8Array(1_000));
    loop.settle();
    assert.equal(sink.bytes, 0);
    stream.resumeRead();
    loop.until(() => sink.bytes === 1_000, "the bytes");
    stream.close();
    peer.close();
    loop.reactor.dispose();
  });

  test("tcp_stream: a paused reader is left alone, and the loop sleeps", () => {
    const { loop, stream, sink, peer } = setUp();
    stream.resumeRead();
    peer.send(new Uint8Array(10));
    loop.until(() => sink.bytes === 10, "the first bytes");
    stream.pauseRead();
    peer.send(new Uint8Array(10));
    assert.ok(loop.turnFor(60) <= 2, "the loop spins on a paused reader");
    assert.equal(sink.bytes, 10);
    stream.resumeRead();
    loop.until(() => sink.bytes === 20, "the rest");
    stream.close();
    peer.close();
    loop.reactor.dispose();
  });

  test("tcp_stream: queues what the kernel does not take, in order, and reports it as it goes", () => {
    const { loop, stream, sink, peer } = setUp();
    const total = fill(stream, 3);
    const queued = stream.queued;
    assert.ok(queued > 0);
    // Behind a queue nothing overtakes.
    const more = patternAt(total, 5_000, 3);
    assert.equal(stream.write(more, 0, more.length), 0);
    assert.equal(stream.queued, queued + 5_000);
    loop.until(() => {
      peer.read();
      return peer.receivedBytes === total + 5_000;
    }, "everything");
    let offset = 0;
    for (const chunk of peer.received) {
      checkPattern(chunk, offset, 3);
      offset += chunk.length;
    }
    assert.equal(sink.drainedBytes, queued + 5_000);
    assert.equal(stream.queued, 0);
    assert.ok(loop.turnFor(60) <= 2, "an empty queue keeps the loop awake");
    stream.close();
    peer.close();
    loop.reactor.dispose();
  });

  test("tcp_stream: the end of stream follows the queue", () => {
    const { loop, stream, peer } = setUp();
    const total = fill(stream, 4);
    stream.endWrite();
    assert.equal(stream.writeEnded, true);
    assert.equal(stream.writeFlushed, false);
    loop.until(() => {
      peer.read();
      return peer.ended;
    }, "the end");
    assert.equal(peer.receivedBytes, total);
    assert.equal(stream.writeFlushed, true);
    stream.endWrite(); // A second time is nothing.
    stream.close();
    peer.close();
    loop.reactor.dispose();
  });

  test("tcp_stream: each half ends by itself", () => {
    const { loop, stream, sink, peer } = setUp();
    stream.resumeRead();
    shutdownWrite(peer.fd);
    loop.until(() => sink.events.length > 0, "the peer's end");
    assert.deepEqual(sink.events, ["end"]);
    assert.equal(stream.readEnded, true);
    assert.ok(loop.turnFor(60) <= 2, "an end that was read keeps the loop awake");
    assert.equal(stream.write(new Uint8Array(9), 0, 9), 9);
    stream.endWrite();
    loop.until(() => {
      peer.read();
      return peer.ended;
    }, "our end");
    assert.equal(peer.receivedBytes, 9);
    assert.ok(loop.turnFor(60) <= 2, "two ended halves keep the loop awake");
    stream.close();
    peer.close();
    loop.reactor.dispose();
  });

  test("tcp_stream: a hung-up peer and a paused reader do not spin, and what waits is still read", () => {
    const { loop, stream, sink, peer } = setUp();
    stream.resumeRead();
    loop.settle();
    stream.pauseRead();
    stream.endWrite();
    peer.send(new Uint8Array(5_000));
    shutdownWrite(peer.fd); // Both halves are over: EPOLLHUP, whatever is asked for.
    assert.ok(loop.turnFor(100) <= 3, "the loop spins on EPOLLHUP");
    assert.equal(sink.bytes, 0);
    stream.resumeRead();
    loop.until(() => sink.events.includes("end"), "the end");
    assert.equal(sink.bytes, 5_000);
    assert.deepEqual(sink.events, ["end"]);
    stream.close();
    peer.close();
    loop.reactor.dispose();
  });

  test("tcp_stream: a reset is seen by a reader, by a paused reader and by a waiting writer", () => {
    for (const state of ["reading", "paused", "queued"] as const) {
      const { loop, stream, sink, peer } = setUp();
      stream.resumeRead();
      loop.settle();
      if (state !== "reading") stream.pauseRead();
      if (state === "queued") fill(stream, 5);
      setResetOnClose(peer.fd);
      peer.close();
      loop.until(() => sink.events.length > 0, `the reset while ${state}`);
      loop.settle();
      assert.equal(sink.events.length, 1, sink.events.join());
      assert.match(sink.events[0], new RegExp(`^(broken|read failed) (${ECONNRESET}|${EPIPE})$`));
      assert.equal(stream.closed, true);
      assert.equal(loop.io.reactor.openDescriptors, 1);
      loop.reactor.dispose();
    }
  });

  test("tcp_stream: writing to a reset connection fails with its errno", () => {
    const { loop, stream, peer } = setUp();
    setResetOnClose(peer.fd);
    peer.close();
    const code = -stream.write(new Uint8Array(1), 0, 1);
    assert.ok(code === ECONNRESET || code === EPIPE);
    stream.close();
    loop.reactor.dispose();
  });

  test("tcp_stream: close delivers what the kernel has, abort tells the peer that something is missing", () => {
    const closed = setUp();
    closed.stream.write(new Uint8Array(100), 0, 100);
    closed.stream.close();
    closed.loop.until(() => {
      closed.peer.read();
      return closed.peer.ended;
    }, "the end");
    assert.equal(closed.peer.receivedBytes, 100);
    assert.equal(receive(closed.stream.fd, new Uint8Array(1), 0, 1), -EBADF);
    const aborted = setUp();
    aborted.stream.abort();
    aborted.loop.until(() => {
      aborted.peer.read();
      return aborted.peer.failure !== 0;
    }, "the reset");
    assert.equal(aborted.peer.failure, ECONNRESET);
    for (const { stream, sink, peer, loop } of [closed, aborted]) {
      stream.close();
      stream.abort();
      stream.endWrite();
      stream.resumeRead();
      loop.settle();
      assert.deepEqual(sink.events, [], "a stream that its owner closed reports nothing");
      peer.close();
      loop.reactor.dispose();
    }
  });

  test("tcp_stream: gives its queue's memory back when it is closed", () => {
    const { loop, stream, peer } = setUp();
    setSendBuffer(stream.fd, 4096);
    setReceiveBuffer(peer.fd, 4096);
    fill(stream, 6);
    assert.equal(loop.io.pool.idleBytes, 0);
    stream.close();
    assert.ok(loop.io.pool.idleBytes > 0);
    peer.close();
    loop.reactor.dispose();
  });

  test("tcp_stream: a released descriptor goes on elsewhere", () => {
    const { loop, stream, sink, peer } = setUp();
    stream.resumeRead();
    const fd = stream.release();
    peer.send(new Uint8Array(10));
    loop.settle();
    assert.equal(sink.bytes, 0);
    assert.equal(receive(fd, new Uint8Array(100), 0, 100), 10);
    closeDescriptor(fd);
    peer.close();
    loop.reactor.dispose();
  });

  test("tcp_stream: another sink may take over", () => {
    const { loop, stream, sink, peer } = setUp();
    const next = new Sink();
    next.stream = stream;
    stream.resumeRead();
    stream.setSink(next);
    peer.send(new Uint8Array(10));
    loop.until(() => next.bytes === 10, "the bytes");
    assert.equal(sink.bytes, 0);
    stream.close();
    peer.close();
    loop.reactor.dispose();
  });
});
