/**
 * DATA on its way out: windows, the output cap, and whose turn it is. RFC 9113 sections 5.2 and 6.9.
 *
 * A stream that could not send waits in one of two places: for its own window (STARVED), or in the queue for
 * the connection's window and room in the output. Each wait ends with one `writable`.
 */
import {
  DEFAULT_MAX_FRAME_BYTES,
  ErrorCode,
  Flag,
  FRAME_HEADER_BYTES,
  FrameType,
  MAX_WINDOW_BYTES,
} from "./constants.ts";
import { writeFrameHeader } from "./output.ts";
import type { Session } from "./session.ts";
import { type Http2Stream, StreamFlag } from "./stream.ts";

const CANNOT_SEND = StreamFlag.CLOSED | StreamFlag.LOCAL_ENDED;

export class Sender<U> {
  readonly #session: Session<U>;
  readonly #maxOutput: number;
  readonly #stallMs: number;
  #pumping = false;

  constructor(session: Session<U>) {
    this.#session = session;
    this.#maxOutput = session.options.maxOutputBytes;
    this.#stallMs = session.options.zeroWindowTimeoutMs ?? 0;
  }

  /** Bytes that may be written behind a frame header at `output.end`, up to `wanted`; 0: wait for `writable`. */
  reserve(stream: Http2Stream<U>, wanted: number): number {
    const session = this.#session;
    if ((stream.flags & CANNOT_SEND) !== 0 || session.failed) return 0;
    const output = session.output;
    const room = this.#maxOutput - (output.end - output.start);
    if (room <= 0 || session.sendWindow <= 0) {
      if (session.sendWindow <= 0) this.#noteBlocked(stream);
      session.queue.add(stream);
      return 0;
    }
    if (stream.sendWindow <= 0) {
      stream.flags |= StreamFlag.STARVED;
      this.#noteBlocked(stream);
      return 0;
    }
    // The cap is soft, so that what is left of it never makes for tiny frames.
    const n = Math.min(
      wanted,
      stream.sendWindow,
      session.sendWindow,
      session.peerMaxFrame,
      Math.max(room, DEFAULT_MAX_FRAME_BYTES),
    );
    output.ensure(FRAME_HEADER_BYTES + n);
    return n;
  }

  /** Turns `n` reserved bytes into a DATA frame. */
  commit(stream: Http2Stream<U>, n: number, endStream: boolean): void {
    const session = this.#session;
    if ((stream.flags & CANNOT_SEND) !== 0 || session.failed) return;
    const output = session.output;
    if (n === 0 && !endStream) {
      output.release();
      return;
    }
    output.ensure(FRAME_HEADER_BYTES + n);
    const flags = endStream ? Flag.END_STREAM : 0;
    writeFrameHeader(output.bytes, output.end, n, FrameType.DATA, flags, stream.id);
    output.end += FRAME_HEADER_BYTES + n;
    if (n > 0) {
      stream.sendWindow -= n;
      session.sendWindow -= n;
      stream.flags &= ~StreamFlag.BLOCKED;
      session.earn();
    }
    if (endStream) session.endLocal(stream);
  }

  /** Copies as much of `bytes[start..end)` as may be sent now; returns how much. */
  send(stream: Http2Stream<U>, bytes: Uint8Array, start: number, end: number, endStream: boolean): number {
    let pos = start;
    while (pos < end) {
      const n = this.reserve(stream, end - pos);
      if (n === 0) return pos - start;
      const output = this.#session.output;
      output.bytes.set(bytes.subarray(pos, pos + n), output.end + FRAME_HEADER_BYTES);
      pos += n;
      this.commit(stream, n, endStream && pos === end);
    }
    if (start === end && endStream) this.commit(stream, 0, true);
    return pos - start;
  }

  /** Tells waiting streams that they may send, for as long as there is window and room. */
  pump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    const { queue, output, handlers } = this.#session;
    while (!queue.isEmpty && this.#session.sendWindow > 0 && output.end - output.start < this.#maxOutput) {
      const stream = queue.take();
      if (stream === undefined || this.#session.failed) break;
      stream.flags &= ~StreamFlag.BLOCKED;
      handlers.writable(stream);
    }
    this.#pumping = false;
  }

  /** After the transport took bytes. Waits for half of the cap, so that streams send in large pieces. */
  afterSent(): void {
    const { queue, output } = this.#session;
    if (!queue.isEmpty && (output.end - output.start) * 2 <= this.#maxOutput) this.pump();
  }

  /** WINDOW_UPDATE for the connection. False: the window is past its limit. */
  growConnection(increment: number): boolean {
    if (this.#session.sendWindow > MAX_WINDOW_BYTES - increment) return false;
    this.#session.sendWindow += increment;
    return true;
  }

  /** WINDOW_UPDATE or SETTINGS for a stream; `delta` may be negative. False: the window is past its limit. */
  growStream(stream: Http2Stream<U>, delta: number): boolean {
    if (stream.sendWindow > MAX_WINDOW_BYTES - delta) return false;
    stream.sendWindow += delta;
    if (stream.sendWindow > 0 && (stream.flags & StreamFlag.STARVED) !== 0) {
      stream.flags &= ~StreamFlag.STARVED;
      this.#session.queue.add(stream);
    }
    return true;
  }

  /** Resets streams that the peer's window has held up for too long. */
  checkStalls(): void {
    const session = this.#session;
    const oldest = this.#age() - this.#stallMs;
    let next = Infinity;
    for (const stream of [...session.streams.values()]) {
      if ((stream.flags & StreamFlag.BLOCKED) === 0) continue;
      if (stream.blockedAtMs <= oldest) {
        session.streamError(stream, ErrorCode.CANCEL, "the peer's window stayed closed");
      } else next = Math.min(next, session.startMs + stream.blockedAtMs + this.#stallMs);
    }
    if (!session.failed) session.timers.stallCheckAt = next;
  }

  #noteBlocked(stream: Http2Stream<U>): void {
    if (this.#stallMs <= 0 || (stream.flags & StreamFlag.BLOCKED) !== 0) return;
    stream.flags |= StreamFlag.BLOCKED;
    // Rounded up, so that a check is never early.
    stream.blockedAtMs = this.#age() + 1;
    const { timers, startMs } = this.#session;
    timers.stallCheckAt = Math.min(timers.stallCheckAt, startMs + stream.blockedAtMs + this.#stallMs);
  }

  #age(): number {
    return Math.floor(this.#session.nowMs - this.#session.startMs);
  }
}
