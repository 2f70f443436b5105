/**
 * Frames on their way in: which are legal where, RFC 9113 sections 5.1 and 6. Feeds header blocks, control frames
 * and DATA to whoever handles them; a violation ends the stream or the connection, never the process.
 */
import { Closed } from "./closed_streams.ts";
import { ErrorCode, Flag, FrameType } from "./constants.ts";
import { MAX_SETTINGS_BYTES, onGoaway, onPing, onSettings, onSettingsAck, onWindowUpdate } from "./control_frames.ts";
import { type FrameSink, Payload } from "./frame_reader.ts";
import { HeaderBlock } from "./header_block.ts";
import { HeaderReceiver } from "./header_receiver.ts";
import { readUint31, readUint32 } from "./output.ts";
import type { Sender } from "./sender.ts";
import type { Session } from "./session.ts";
import { type Http2Stream, StreamFlag } from "./stream.ts";
import { after } from "./timers.ts";

/** Default of `headerTimeoutMs`. */
const HEADER_TIMEOUT_MS = 10_000;
/** A GOAWAY may explain itself at length, but not without end. */
const MAX_GOAWAY_BYTES = 16_384;

export class Inbound<U> implements FrameSink {
  readonly receiver: HeaderReceiver<U>;
  readonly #session: Session<U>;
  readonly #sender: Sender<U>;
  readonly #block: HeaderBlock;
  readonly #maxFrame: number;
  readonly #headerTimeoutMs: number;
  #type = 0;
  #flags = 0;
  #streamId = 0;
  #settingsSeen = false;
  /** The stream of the DATA frame in progress; undefined when its bytes are only to be credited. */
  #target: Http2Stream<U> | undefined = undefined;

  constructor(session: Session<U>, sender: Sender<U>) {
    const { options } = session;
    this.#session = session;
    this.#sender = sender;
    this.#block = new HeaderBlock(options.maxHeaderListBytes, options.bufferPool);
    this.receiver = new HeaderReceiver(session);
    this.#maxFrame = options.maxFrameBytes;
    this.#headerTimeoutMs = options.headerTimeoutMs ?? HEADER_TIMEOUT_MS;
  }

  /** Gives back what is held. */
  close(): void {
    this.#block.close();
    this.#target = undefined;
  }

  begin(type: number, flags: number, streamId: number, length: number): number {
    this.#type = type;
    this.#flags = flags;
    this.#streamId = streamId;
    if (length > this.#maxFrame) return this.#fail(ErrorCode.FRAME_SIZE_ERROR, "frame above the size we announced");
    if (this.#block.streamId !== 0 && (type !== FrameType.CONTINUATION || streamId !== this.#block.streamId)) {
      return this.#fail(ErrorCode.PROTOCOL_ERROR, "a frame inside a header block");
    }
    if (type === FrameType.DATA && this.#settingsSeen) return this.#beginData(flags, streamId, length);
    if (!this.#settingsSeen) {
      if (type !== FrameType.SETTINGS || (flags & Flag.ACK) !== 0) {
        return this.#fail(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS");
      }
      this.#settingsSeen = true;
    }
    switch (type) {
      case FrameType.HEADERS:
        return this.#beginHeaders(streamId, length);
      case FrameType.CONTINUATION:
        if (this.#block.streamId === 0) return this.#fail(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without HEADERS");
        return this.#beginFragment(length);
      case FrameType.SETTINGS:
        return this.#beginSettings(flags, streamId, length);
      case FrameType.PING:
        if (streamId !== 0) return this.#fail(ErrorCode.PROTOCOL_ERROR, "PING on a stream");
        return length === 8 ? Payload.WHOLE : this.#badSize("PING");
      case FrameType.GOAWAY:
        if (streamId !== 0) return this.#fail(ErrorCode.PROTOCOL_ERROR, "GOAWAY on a stream");
        return length >= 8 && length <= MAX_GOAWAY_BYTES ? Payload.WHOLE : this.#badSize("GOAWAY");
      case FrameType.WINDOW_UPDATE:
        if (length !== 4) return this.#badSize("WINDOW_UPDATE");
        if (streamId !== 0 && this.#isIdle(streamId)) return this.#idleFault("WINDOW_UPDATE");
        return Payload.WHOLE;
      case FrameType.RST_STREAM:
        if (streamId === 0) return this.#fail(ErrorCode.PROTOCOL_ERROR, "RST_STREAM on the connection");
        if (length !== 4) return this.#badSize("RST_STREAM");
        return this.#isIdle(streamId) ? this.#idleFault("RST_STREAM") : Payload.WHOLE;
      case FrameType.PRIORITY:
        return this.#beginPriority(streamId, length);
      case FrameType.PUSH_PROMISE:
        return this.#fail(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE, which nobody may send us");
      default:
        this.#session.chargeOverhead(1, "frames of unknown type");
        return Payload.SKIP;
    }
  }

  payload(bytes: Uint8Array, start: number, end: number): void {
    const session = this.#session;
    switch (this.#type) {
      case FrameType.HEADERS:
        this.#headers(bytes, start, end);
        break;
      case FrameType.CONTINUATION:
        this.#continuation(bytes, start, end);
        break;
      case FrameType.SETTINGS:
        if ((this.#flags & Flag.ACK) !== 0) onSettingsAck(session);
        else onSettings(session, this.#sender, bytes, start, end);
        break;
      case FrameType.PING:
        onPing(session, (this.#flags & Flag.ACK) !== 0, bytes, start);
        break;
      case FrameType.GOAWAY:
        onGoaway(session, bytes, start, end);
        break;
      case FrameType.WINDOW_UPDATE:
        onWindowUpdate(session, this.#sender, this.#streamId, bytes, start);
        break;
      case FrameType.RST_STREAM:
        this.#reset(readUint32(bytes, start));
        break;
      case FrameType.PRIORITY:
        this.#priority(readUint31(bytes, start));
        break;
    }
  }

  badPreface(): void {
    this.#fail(ErrorCode.PROTOCOL_ERROR, "the peer does not speak HTTP/2");
  }

  badPadding(): void {
    this.#fail(ErrorCode.PROTOCOL_ERROR, "padding longer than its frame");
  }

  // ---- DATA

  #beginData(flags: number, streamId: number, length: number): number {
    const session = this.#session;
    if (streamId === 0) return this.#fail(ErrorCode.PROTOCOL_ERROR, "DATA on the connection");
    if (length > session.recvWindow) {
      return this.#fail(ErrorCode.FLOW_CONTROL_ERROR, "more DATA than the connection's window");
    }
    session.recvWindow -= length;
    const endStream = (flags & Flag.END_STREAM) !== 0;
    if (length === 0 && !endStream && !session.chargeOverhead(1, "empty DATA")) return Payload.SKIP;
    const stream = session.streams.get(streamId);
    if (stream === undefined) {
      this.#lateData(streamId);
      return this.#discard(length);
    }
    if ((stream.flags & StreamFlag.REMOTE_ENDED) !== 0) {
      session.streamError(stream, ErrorCode.STREAM_CLOSED, "DATA after the end of the stream");
      return this.#discard(length);
    }
    if ((stream.flags & StreamFlag.HEADERS_RECEIVED) === 0) {
      session.streamError(stream, ErrorCode.PROTOCOL_ERROR, "DATA before the response");
      return this.#discard(length);
    }
    if (length > stream.recvWindow) {
      session.streamError(stream, ErrorCode.FLOW_CONTROL_ERROR, "more DATA than the stream's window");
      return this.#discard(length);
    }
    stream.recvWindow -= length;
    this.#target = stream;
    return Payload.PIECES;
  }

  /** DATA for a stream that is not open: an error, unless it may have been on its way when we reset the stream. */
  #lateData(streamId: number): void {
    const session = this.#session;
    if (this.#isIdle(streamId)) {
      this.#idleFault("DATA");
      return;
    }
    const how = session.closed.how(streamId);
    if (how === Closed.ENDED) this.#fail(ErrorCode.STREAM_CLOSED, "DATA on a stream that ended");
    else if (how === Closed.RESET_BY_PEER) {
      session.refuse(streamId, ErrorCode.STREAM_CLOSED, "DATA on a stream that the peer reset");
    } else if (how === Closed.FORGOTTEN && !session.closed.overflowed) {
      session.refuse(streamId, ErrorCode.STREAM_CLOSED, "DATA on a stream that never was");
    }
  }

  #discard(length: number): number {
    this.#session.creditConnection(length);
    return Payload.SKIP;
  }

  body(dataBytes: number, paddingBytes: number): void {
    const session = this.#session;
    const stream = this.#target;
    if (stream === undefined) return;
    if (paddingBytes > 0) {
      if (paddingBytes > dataBytes && !session.chargeOverhead(1, "padding")) return;
      session.creditStream(stream, paddingBytes);
    }
    if (dataBytes > 0 && dataBytes >= paddingBytes) session.earn();
    if (stream.contentLeft < 0) return;
    stream.contentLeft -= dataBytes;
    const ends = (this.#flags & Flag.END_STREAM) !== 0;
    if (stream.contentLeft < 0 || (ends && stream.contentLeft > 0)) {
      session.streamError(stream, ErrorCode.PROTOCOL_ERROR, "DATA does not add up to content-length");
    }
  }

  piece(bytes: Uint8Array, start: number, end: number, last: boolean): void {
    const session = this.#session;
    const stream = this.#target;
    if (last) this.#target = undefined;
    if (stream === undefined || (stream.flags & StreamFlag.CLOSED) !== 0) {
      session.creditConnection(end - start);
      return;
    }
    stream.unconsumed += end - start;
    const ends = last && (this.#flags & Flag.END_STREAM) !== 0;
    if (ends) {
      stream.flags |= StreamFlag.REMOTE_ENDED;
      session.handlers.data(stream, bytes, start, end, true);
      session.finishRemote(stream);
    } else if (end > start) {
      session.handlers.data(stream, bytes, start, end, false);
    }
  }

  // ---- header blocks

  #beginHeaders(streamId: number, length: number): number {
    const session = this.#session;
    if (streamId === 0) return this.#fail(ErrorCode.PROTOCOL_ERROR, "HEADERS on the connection");
    // A client opens odd streams; a server would open even ones only to push, which we forbid.
    if ((streamId & 1) === 0) return this.#fail(ErrorCode.PROTOCOL_ERROR, "HEADERS on a stream with an even id");
    if (!session.isServer && this.#isIdle(streamId)) return this.#idleFault("HEADERS");
    session.timers.headersBy = after(session.nowMs, this.#headerTimeoutMs);
    return this.#beginFragment(length);
  }

  #beginFragment(length: number): number {
    if (length <= this.#block.maxBytes) return Payload.WHOLE;
    return this.#fail(ErrorCode.ENHANCE_YOUR_CALM, "header block too large");
  }

  #headers(bytes: Uint8Array, start: number, end: number): void {
    const flags = this.#flags;
    if ((flags & Flag.PADDED) !== 0) {
      const padding = start < end ? bytes[start++] : 1;
      if (padding > end - start) return this.badPadding();
      end -= padding;
    }
    let selfDependent = false;
    if ((flags & Flag.PRIORITY) !== 0) {
      if (end - start < 5) return void this.#badSize("HEADERS");
      selfDependent = readUint31(bytes, start) === this.#streamId;
      start += 5;
    }
    const endStream = (flags & Flag.END_STREAM) !== 0;
    if ((flags & Flag.END_HEADERS) !== 0) {
      this.#session.timers.headersBy = Infinity;
      this.receiver.receive(this.#streamId, endStream, selfDependent, bytes, start, end);
      return;
    }
    this.#block.open(this.#streamId, endStream, selfDependent);
    this.#append(bytes, start, end);
  }

  #continuation(bytes: Uint8Array, start: number, end: number): void {
    if (!this.#append(bytes, start, end) || (this.#flags & Flag.END_HEADERS) === 0) return;
    const block = this.#block;
    const { streamId, endStream, selfDependent } = block;
    this.#session.timers.headersBy = Infinity;
    // The block is decoded before anything can write to its buffer again, but not given back before that.
    block.streamId = 0;
    this.receiver.receive(streamId, endStream, selfDependent, block.bytes, 0, block.length);
    block.close();
  }

  #append(bytes: Uint8Array, start: number, end: number): boolean {
    if (this.#block.append(bytes, start, end)) return true;
    this.#fail(ErrorCode.ENHANCE_YOUR_CALM, "header block too large or in too many frames");
    return false;
  }

  // ---- small frames

  #beginSettings(flags: number, streamId: number, length: number): number {
    if (streamId !== 0) return this.#fail(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream");
    if ((flags & Flag.ACK) !== 0) return length === 0 ? Payload.WHOLE : this.#badSize("SETTINGS acknowledgement");
    if (length % 6 !== 0) return this.#badSize("SETTINGS");
    if (length > MAX_SETTINGS_BYTES) return this.#fail(ErrorCode.ENHANCE_YOUR_CALM, "too many settings in a frame");
    return Payload.WHOLE;
  }

  #beginPriority(streamId: number, length: number): number {
    if (streamId === 0) return this.#fail(ErrorCode.PROTOCOL_ERROR, "PRIORITY on the connection");
    if (!this.#session.chargeOverhead(1, "PRIORITY")) return Payload.SKIP;
    if (length === 5) return Payload.WHOLE;
    const stream = this.#session.streams.get(streamId);
    if (stream === undefined) return this.#badSize("PRIORITY");
    this.#session.streamError(stream, ErrorCode.FRAME_SIZE_ERROR, "PRIORITY of the wrong size");
    return Payload.SKIP;
  }

  /** Priorities are of no use (RFC 9113 5.3.2); a stream that depends on itself is still an error (RFC 7540 5.3.1). */
  #priority(dependsOn: number): void {
    if (dependsOn !== this.#streamId) return;
    const fault = "the stream depends on itself";
    const stream = this.#session.streams.get(this.#streamId);
    if (stream !== undefined) this.#session.streamError(stream, ErrorCode.PROTOCOL_ERROR, fault);
    else this.#fail(ErrorCode.PROTOCOL_ERROR, fault);
  }

  #reset(code: number): void {
    const session = this.#session;
    const stream = session.streams.get(this.#streamId);
    if (stream === undefined) {
      session.chargeOverhead(1, "RST_STREAM on closed streams");
      return;
    }
    // Reset before it was answered: all the work of a request for the price of two frames (CVE-2023-44487).
    const inVain = session.isServer && (stream.flags & StreamFlag.HEADERS_SENT) === 0;
    if (inVain && !session.chargeReset()) return;
    session.handlers.reset(stream, code, true);
    session.close(stream, Closed.RESET_BY_PEER);
  }

  #isIdle(streamId: number): boolean {
    if ((streamId & 1) === 0) return true;
    return streamId > (this.#session.isServer ? this.#session.lastPeerId : this.#session.lastOwnId);
  }

  #idleFault(what: string): number {
    return this.#fail(ErrorCode.PROTOCOL_ERROR, `${what} on a stream that was never opened`);
  }

  #badSize(what: string): number {
    return this.#fail(ErrorCode.FRAME_SIZE_ERROR, `${what} of the wrong size`);
  }

  #fail(code: number, reason: string): number {
    this.#session.fail(code, reason);
    return Payload.SKIP;
  }
}
