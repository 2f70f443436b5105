/**
 * A CONNECT stream of an HBONE connection as a byte stream, at either end of it: bytes travel as DATA frames, credit is HTTP/2's. What is reserved is
 * written behind the header of the frame that it travels with.
 */
import type { HboneConnection, TunnelStream, TunnelUser } from "../../hbone/connection.ts";
import type { BufferPool } from "../../net/buffer_pool.ts";
import { ByteQueue } from "../../net/byte_queue.ts";
import type { Deferred } from "../../net/reactor.ts";
import { ErrorCode, type Fields } from "../../protocol/http2/mod.ts";
import type { Timing } from "../http/timing.ts";
import { type ByteSink, HIGH_WATER_BYTES, type StreamCut, type Uint8ArrayAt } from "./byte_stream.ts";
import { NOTHING, type OwnedStream, Room } from "./owned_stream.ts";

const FRAME_HEADER_BYTES = 9;

export class TunnelByteStream implements OwnedStream, Deferred {
  deferred = false;
  whenOver: (() => void) | undefined;
  peerEnded = false;
  readonly #timing: Pick<Timing, "defer">;
  readonly #pool: BufferPool;
  readonly #connection: HboneConnection;
  readonly #stream: TunnelStream;
  readonly #room = new Room();
  #sink: ByteSink | undefined;
  /** What came before there was a sink. */
  #early: ByteQueue | undefined;
  /** What the window does not take yet. Most streams never need one. */
  #queue: ByteQueue | undefined;
  #isFull = false;
  #isEnding = false;
  #isOver = false;
  /** Of a reservation that the tunnel has no room for. */
  #aside: Uint8Array | undefined;
  readonly #send = (bytes: Uint8Array, start: number, end: number): number =>
    this.#connection.h2.sendData(this.#stream, bytes, start, end, false);

  /** Takes over a stream that was answered with 200. `endStream`: the peer has nothing to send. */
  constructor(
    timing: Pick<Timing, "defer">,
    pool: BufferPool,
    connection: HboneConnection,
    stream: TunnelStream,
    endStream = false,
  ) {
    this.#timing = timing;
    this.#pool = pool;
    this.#connection = connection;
    this.#stream = stream;
    this.peerEnded = endStream;
    stream.user = new Events(this);
  }

  setSink(sink: ByteSink): void {
    const isFirst = this.#sink === undefined;
    this.#sink = sink;
    if (isFirst && (this.#early !== undefined || this.peerEnded)) this.#timing.defer(this);
  }

  // ---- out

  get queued(): number {
    return this.#queue === undefined ? 0 : this.#queue.length;
  }

  write(bytes: Uint8Array, start: number, end: number): void {
    if (this.#isEnding || this.#isOver || end <= start) return;
    let at = start;
    if (this.queued === 0) at += this.#connection.h2.sendData(this.#stream, bytes, start, end, false);
    if (at < end) {
      this.#queue ??= new ByteQueue(this.#pool);
      this.#queue.push(bytes, at, end);
      if (this.queued >= HIGH_WATER_BYTES) this.#isFull = true;
    }
    this.#connection.touch();
  }

  reserve(minBytes: number): Uint8ArrayAt {
    const { h2 } = this.#connection;
    if (this.queued === 0 && !this.#isEnding && !this.#isOver) {
      const room = h2.reserveData(this.#stream, minBytes);
      if (room >= minBytes) {
        const at = h2.output.end + FRAME_HEADER_BYTES;
        return this.#room.set(h2.output.bytes, at, at + room);
      }
      if (room > 0) h2.commitData(this.#stream, 0, false);
    }
    this.#aside = this.#pool.take(minBytes);
    return this.#room.set(this.#aside, 0, this.#aside.length);
  }

  commit(bytes: number): void {
    const aside = this.#aside;
    this.#room.set(NOTHING, 0, 0);
    if (aside === undefined) {
      this.#connection.h2.commitData(this.#stream, bytes, false);
      this.#connection.touch();
      return;
    }
    this.#aside = undefined;
    this.write(aside, 0, bytes);
    this.#pool.give(aside);
  }

  end(): void {
    if (this.#isEnding || this.#isOver) return;
    this.#isEnding = true;
    if (this.queued > 0) return;
    this.#connection.h2.endStream(this.#stream);
    this.#connection.touch();
  }

  reset(): void {
    this.#sink = undefined;
    if (this.#isOver) return;
    this.#isEnding = true;
    this.#connection.h2.resetStream(this.#stream, ErrorCode.CANCEL);
    this.#connection.touch();
    this.over();
  }

  consume(bytes: number): void {
    if (this.#isOver || bytes === 0) return;
    this.#stream.consume(bytes);
    this.#connection.touch();
  }

  get closed(): boolean {
    return this.#isOver;
  }

  // ---- told by the tunnel

  received(bytes: Uint8Array, start: number, end: number, ended: boolean): void {
    if (ended) this.peerEnded = true;
    if (this.#isOver) return this.#stream.consume(end - start);
    if (this.#sink !== undefined && this.#early === undefined) return this.#sink.data(bytes, start, end, ended);
    if (end > start) {
      this.#early ??= new ByteQueue(this.#pool);
      this.#early.push(bytes, start, end);
    }
    if (this.#sink !== undefined) this.#timing.defer(this);
  }

  /** Hands on what came before there was anybody to take it. Its window bounds it. */
  flush(): void {
    const early = this.#early;
    this.#early = undefined;
    early?.drain((bytes, start, end) => {
      this.#sink?.data(bytes, start, end, false);
      return end - start;
    });
    if (this.peerEnded) this.#sink?.data(NOTHING, 0, 0, true);
  }

  takesMore(): void {
    const queue = this.#queue;
    if (queue !== undefined && queue.length > 0) {
      queue.drain(this.#send);
      this.#connection.touch();
    }
    if (this.queued === 0 && this.#isEnding && !this.#isOver) {
      this.#connection.h2.endStream(this.#stream);
      this.#connection.touch();
    } else if (this.#isFull && this.queued < HIGH_WATER_BYTES) {
      this.#isFull = false;
      this.#sink?.writable();
    }
  }

  cut(code: number, byPeer: boolean): void {
    const sink = this.#sink;
    this.#sink = undefined;
    const { h2, failure } = this.#connection;
    let cut: StreamCut = { by: byPeer ? "peer" : "us", detail: "connection reset by peer" };
    if (failure?.stage === "revoked") cut = { by: "transport", detail: failure.message };
    else if (h2.failedWith !== -1) cut = { by: "transport", detail: `the tunnel was lost: ${h2.lastFault}` };
    else if (!byPeer || (code !== ErrorCode.NO_ERROR && code !== ErrorCode.CANCEL)) {
      cut = { ...cut, detail: `the tunnel's stream was reset with HTTP/2 error ${code}` };
    }
    this.over();
    sink?.broken(cut);
  }

  over(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#queue?.clear();
    this.#early?.clear();
    this.whenOver?.();
  }
}

/** What the tunnel calls: some of its words mean something else on a byte stream. */
class Events implements TunnelUser {
  constructor(readonly owner: TunnelByteStream) {}

  headers(_stream: TunnelStream, _fields: Fields, endStream: boolean): void {
    if (endStream) this.owner.received(NOTHING, 0, 0, true);
  }

  data(_stream: TunnelStream, bytes: Uint8Array, start: number, end: number, endStream: boolean): void {
    this.owner.received(bytes, start, end, endStream);
  }

  writable(): void {
    this.owner.takesMore();
  }

  reset(_stream: TunnelStream, code: number, byPeer: boolean): void {
    this.owner.cut(code, byPeer);
  }

  closed(): void {
    this.owner.over();
  }
}
