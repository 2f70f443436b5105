/**
 * The state that both directions of a connection share: streams, windows, budgets, and how things end.
 *
 * Invariants: a stream is in `streams` from birth to `close`, which runs once; every byte the peer sent is credited
 * to the connection exactly once, whatever became of its stream; after `fail` nothing more is written.
 */
import { Closed, ClosedStreams } from "./closed_streams.ts";
import {
  ASSUMED_MAX_CONCURRENT,
  DEFAULT_MAX_FRAME_BYTES,
  DEFAULT_WINDOW_BYTES,
  ErrorCode,
  Flag,
  FRAME_HEADER_BYTES,
  FrameType,
  MAX_STREAM_ID,
} from "./constants.ts";
import { Budget, DEFAULT_FLOOD_LIMITS, EARNED_PER_FRAME, type FloodLimits } from "./flood.ts";
import { HpackEncoder } from "./hpack_encoder.ts";
import { Output, writeFrameHeader, writeUint32 } from "./output.ts";
import { SendQueue } from "./send_queue.ts";
import { Http2Stream, StreamFlag } from "./stream.ts";
import { after, Timers } from "./timers.ts";
import type { Fields, Http2Handlers, Http2Options } from "./types.ts";

/** How far a connection is in leaving, RFC 9113 section 6.8. */
export const Leaving = { NO: 0, ANNOUNCED: 1, FINAL: 2 } as const;

const MAX_DEBUG_BYTES = 120;

export class Session<U> {
  readonly options: Http2Options;
  readonly handlers: Http2Handlers<U>;
  readonly isServer: boolean;
  readonly limits: FloodLimits;
  readonly output: Output;
  readonly encoder = new HpackEncoder();
  readonly streams = new Map<number, Http2Stream<U>>();
  readonly closed = new ClosedStreams();
  readonly queue = new SendQueue<U>();
  readonly timers = new Timers();
  readonly startMs: number;
  nowMs: number;

  /** Bytes this end may send on the connection; bytes the peer may; consumed bytes not yet returned. */
  sendWindow = DEFAULT_WINDOW_BYTES;
  recvWindow: number;
  #unacked = 0;
  readonly #recvCapacity: number;
  /** Window of a new stream for the peer: the RFC's until it acknowledged a smaller one of ours. */
  recvInitialWindow: number;

  peerMaxFrame = DEFAULT_MAX_FRAME_BYTES;
  peerInitialWindow = DEFAULT_WINDOW_BYTES;
  peerMaxConcurrent = ASSUMED_MAX_CONCURRENT;
  peerConnectProtocol = false;
  /** The peer's first SETTINGS came; it acknowledged ours. */
  settingsSeen = false;
  settingsAcked = false;

  /** Highest stream id the peer opened (server), and this end opened (client). */
  lastPeerId = 0;
  lastOwnId = -1;
  leaving: number = Leaving.NO;
  peerLeaving = false;
  failedWith = -1;
  /** Why the last stream or connection error happened, for a log line. */
  lastFault = "";
  /** Called once when the connection ends, before anyone is told: nothing more may be read. */
  onEnd: () => void = () => {};
  #finalId = 0;
  #drained = false;
  readonly #overhead: Budget;
  readonly #resets: Budget;

  constructor(options: Http2Options, handlers: Http2Handlers<U>, nowMs: number) {
    this.options = options;
    this.handlers = handlers;
    this.isServer = options.role === "server";
    this.limits = { ...DEFAULT_FLOOD_LIMITS, ...options.flood };
    this.output = new Output(options.bufferPool);
    this.startMs = nowMs;
    this.nowMs = nowMs;
    this.#recvCapacity = Math.max(options.connectionWindowBytes, DEFAULT_WINDOW_BYTES);
    this.recvWindow = this.#recvCapacity;
    this.recvInitialWindow = Math.max(options.initialWindowBytes, DEFAULT_WINDOW_BYTES);
    this.#overhead = new Budget(this.limits.overheadBurst, this.limits.overheadPerSecond, nowMs);
    this.#resets = new Budget(this.limits.resetBurst, this.limits.resetsPerSecond, nowMs);
  }

  get failed(): boolean {
    return this.failedWith >= 0;
  }

  // ---- budgets

  /** Charges the peer for a frame that carries nothing. False when that ended the connection. */
  chargeOverhead(cost: number, what: string): boolean {
    if (this.#overhead.spend(cost, this.nowMs)) return true;
    this.fail(ErrorCode.ENHANCE_YOUR_CALM, `flood of ${what}`);
    return false;
  }

  /** Charges the peer for a stream opened in vain. */
  chargeReset(): boolean {
    if (this.#resets.spend(1, this.nowMs)) return true;
    this.fail(ErrorCode.ENHANCE_YOUR_CALM, "flood of streams opened in vain");
    return false;
  }

  /** Something useful went over the connection. */
  earn(): void {
    this.#overhead.earn(EARNED_PER_FRAME);
  }

  /** Starts a frame that the peer provoked, and returns where its payload goes, or -1: too many wait to be read. */
  reply(length: number, type: number, flags: number, streamId: number): number {
    if (this.failed) return -1;
    if (this.output.countReply(FRAME_HEADER_BYTES + length) > this.limits.replyBytes) {
      this.fail(ErrorCode.ENHANCE_YOUR_CALM, "replies pile up that the peer does not read");
      return -1;
    }
    return this.output.frame(length, type, flags, streamId);
  }

  // ---- receive windows

  /** Returns `n` received bytes to the connection's window. */
  creditConnection(n: number): void {
    if (this.failed) return;
    this.#unacked += n;
    // The second condition matters when stalled streams hold most of the window: half of it may never come back.
    if (this.#unacked * 2 >= this.#recvCapacity || this.#unacked >= this.recvWindow) {
      if (this.#unacked === 0) return;
      this.#windowUpdate(0, this.#unacked);
      this.recvWindow += this.#unacked;
      this.#unacked = 0;
    }
  }

  /** Returns `n` received bytes to the stream's window and the connection's. */
  creditStream(stream: Http2Stream<U>, n: number): void {
    this.creditConnection(n);
    if (this.failed || (stream.flags & StreamFlag.REMOTE_ENDED) !== 0) return;
    stream.unacked += n;
    if (stream.unacked * 2 < this.options.initialWindowBytes || stream.unacked === 0) return;
    this.#windowUpdate(stream.id, stream.unacked);
    stream.recvWindow += stream.unacked;
    stream.unacked = 0;
  }

  #windowUpdate(streamId: number, increment: number): void {
    const at = this.output.frame(4, FrameType.WINDOW_UPDATE, 0, streamId);
    writeUint32(this.output.bytes, at, increment);
  }

  // ---- writing

  writeHeaders(streamId: number, fields: Fields, endStream: boolean): void {
    const { output, encoder } = this;
    const bound = encoder.bound(fields);
    output.ensure(FRAME_HEADER_BYTES + bound + FRAME_HEADER_BYTES * Math.ceil(bound / this.peerMaxFrame));
    const start = output.end + FRAME_HEADER_BYTES;
    const length = encoder.encode(fields, output.bytes, start) - start;
    const endFlag = endStream ? Flag.END_STREAM : 0;
    if (length <= this.peerMaxFrame) {
      writeFrameHeader(output.bytes, output.end, length, FrameType.HEADERS, Flag.END_HEADERS | endFlag, streamId);
      output.end = start + length;
      return;
    }
    // Rare: spread the block over frames, from the back so that nothing is overwritten.
    const size = this.peerMaxFrame;
    const last = Math.ceil(length / size) - 1;
    for (let i = last; i >= 0; i--) {
      const from = start + i * size;
      const to = from + i * FRAME_HEADER_BYTES;
      const part = i === last ? length - i * size : size;
      if (i > 0) output.bytes.copyWithin(to, from, from + part);
      const type = i === 0 ? FrameType.HEADERS : FrameType.CONTINUATION;
      const flags = (i === 0 ? endFlag : 0) | (i === last ? Flag.END_HEADERS : 0);
      writeFrameHeader(output.bytes, to - FRAME_HEADER_BYTES, part, type, flags, streamId);
    }
    output.end = start + length + last * FRAME_HEADER_BYTES;
  }

  /** RST_STREAM that the peer provoked. */
  replyReset(streamId: number, code: number): void {
    const at = this.reply(4, FrameType.RST_STREAM, 0, streamId);
    if (at >= 0) writeUint32(this.output.bytes, at, code);
  }

  writeReset(streamId: number, code: number): void {
    const at = this.output.frame(4, FrameType.RST_STREAM, 0, streamId);
    writeUint32(this.output.bytes, at, code);
  }

  #writeGoaway(lastStreamId: number, code: number, debug: string): void {
    const length = Math.min(debug.length, MAX_DEBUG_BYTES);
    const at = this.output.frame(8 + length, FrameType.GOAWAY, 0, 0);
    const bytes = this.output.bytes;
    writeUint32(bytes, at, lastStreamId);
    writeUint32(bytes, at + 4, code);
    for (let i = 0; i < length; i++) bytes[at + 8 + i] = debug.charCodeAt(i);
  }

  // ---- streams

  addStream(id: number, user: U): Http2Stream<U> {
    const stream = new Http2Stream<U>(this, id, user, this.peerInitialWindow, this.recvInitialWindow);
    this.streams.set(id, stream);
    return stream;
  }

  /** This end finished its half. */
  endLocal(stream: Http2Stream<U>): void {
    stream.flags = (stream.flags | StreamFlag.LOCAL_ENDED) & ~(StreamFlag.STARVED | StreamFlag.BLOCKED);
    this.queue.remove(stream);
    if ((stream.flags & StreamFlag.REMOTE_ENDED) !== 0) this.close(stream, Closed.ENDED);
  }

  /** After the event that ended the peer's half was delivered. */
  finishRemote(stream: Http2Stream<U>): void {
    const both = StreamFlag.LOCAL_ENDED | StreamFlag.REMOTE_ENDED;
    if ((stream.flags & (both | StreamFlag.CLOSED)) === both) this.close(stream, Closed.ENDED);
  }

  /** The stream is over: forgets it, returns what its owner still held of the connection's window. */
  close(stream: Http2Stream<U>, how: number): void {
    if ((stream.flags & StreamFlag.CLOSED) !== 0) return;
    stream.flags |= StreamFlag.CLOSED;
    this.streams.delete(stream.id);
    this.closed.add(stream.id, how);
    this.queue.remove(stream);
    const held = stream.unconsumed;
    stream.unconsumed = 0;
    if (held > 0) this.creditConnection(held);
    this.handlers.closed(stream);
    this.checkDrained();
  }

  /** The peer broke a rule on one stream: RST_STREAM, `reset`, `closed`. */
  streamError(stream: Http2Stream<U>, code: number, fault: string): void {
    if ((stream.flags & StreamFlag.CLOSED) !== 0) return;
    this.lastFault = fault;
    this.replyReset(stream.id, code);
    if (this.failed || !this.chargeReset()) return;
    this.handlers.reset(stream, code, false);
    this.close(stream, Closed.RESET_BY_US);
  }

  /** Refuses a stream that the owner never saw, or that is long closed. */
  refuse(streamId: number, code: number, fault: string): void {
    this.lastFault = fault;
    this.handlers.refused?.(code, fault);
    this.replyReset(streamId, code);
    if (this.failed || !this.chargeReset()) return;
    this.closed.add(streamId, Closed.RESET_BY_US);
  }

  // ---- the end

  /** Announces the end; `final` fixes the last stream that is still served. */
  leave(code: number, debug: string, final: boolean): void {
    if (this.failed || this.leaving === Leaving.FINAL) return;
    this.leaving = final ? Leaving.FINAL : Leaving.ANNOUNCED;
    this.#finalId = this.lastPeerId;
    this.#writeGoaway(final ? this.lastPeerId : MAX_STREAM_ID, code, debug);
    this.timers.drainBy = final ? Infinity : after(this.nowMs, this.options.pingTimeoutMs);
    this.checkDrained();
  }

  checkDrained(): void {
    const over = this.leaving === Leaving.FINAL || (this.peerLeaving && !this.isServer);
    if (!over || this.#drained || this.failed || this.streams.size > 0) return;
    this.#drained = true;
    if (this.leaving !== Leaving.FINAL) this.#writeGoaway(this.lastPeerId, ErrorCode.NO_ERROR, "");
    this.leaving = Leaving.FINAL;
    this.handlers.drained?.();
  }

  /** Ends the connection for a fault: queues GOAWAY, resets every stream, tells the owner. */
  fail(code: number, reason: string): void {
    this.#end(code, reason, true, false);
  }

  /** The transport is gone. */
  lost(reason: string): void {
    if (this.#drained && this.streams.size === 0) {
      this.timers.clear();
      return;
    }
    this.#end(ErrorCode.NO_ERROR, reason, false, true);
  }

  #end(code: number, reason: string, announce: boolean, byPeer: boolean): void {
    if (this.failed) return;
    this.failedWith = code;
    this.lastFault = reason;
    this.onEnd();
    this.timers.clear();
    if (announce) {
      const last = this.leaving === Leaving.FINAL ? this.#finalId : this.lastPeerId;
      this.#writeGoaway(last, code, reason);
    }
    const streamCode = code === ErrorCode.NO_ERROR ? ErrorCode.CANCEL : code;
    for (const stream of [...this.streams.values()]) {
      if ((stream.flags & StreamFlag.CLOSED) !== 0) continue;
      this.handlers.reset(stream, streamCode, byPeer);
      this.close(stream, Closed.RESET_BY_US);
    }
    this.handlers.failed(code, reason);
  }
}
