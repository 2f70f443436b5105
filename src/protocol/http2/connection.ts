/**
 * One HTTP/2 connection, client or server: RFC 9113. Sans-io.
 *
 * Bytes received and the time go in; events come out through handlers, and bytes to send through `output`. Misuse
 * by the owner throws; nothing a peer sends does.
 */
import { Closed } from "./closed_streams.ts";
import {
  DEFAULT_MAX_FRAME_BYTES,
  DEFAULT_WINDOW_BYTES,
  ErrorCode,
  FrameType,
  MAX_FRAME_BYTES,
  MAX_STREAM_ID,
  MAX_WINDOW_BYTES,
  PREFACE,
  Setting,
} from "./constants.ts";
import { PingPurpose, writePing } from "./control_frames.ts";
import { FrameReader } from "./frame_reader.ts";
import { Inbound } from "./inbound.ts";
import { valueOf } from "./message.ts";
import { writeUint32 } from "./output.ts";
import { Sender } from "./sender.ts";
import { Leaving, Session } from "./session.ts";
import { type Http2Stream, StreamFlag } from "./stream.ts";
import { after } from "./timers.ts";
import type { Fields, Http2Handlers, Http2Options } from "./types.ts";

/** Response headers of one stream, generously; and what a connection of few streams may still queue. */
const BACKLOG_BYTES_PER_STREAM = 16_384;
const MIN_BACKLOG_BYTES = 1 << 20;

const CANNOT_SEND = StreamFlag.CLOSED | StreamFlag.LOCAL_ENDED;

export class Http2Connection<U> {
  readonly #session: Session<U>;
  readonly #sender: Sender<U>;
  readonly #inbound: Inbound<U>;
  readonly #reader: FrameReader;
  /** Output past its soft cap, by answers that no window holds back, to which a peer may drive us. */
  readonly #maxBacklog: number;
  /** What waits to be sent: `bytes[start..end)`. Any call may move it; report what was taken with `sent`. */
  readonly output: { readonly bytes: Uint8Array; readonly start: number; readonly end: number };

  /** Queues the preface (client) and SETTINGS. Throws RangeError on options that HTTP/2 does not allow. */
  constructor(options: Http2Options, handlers: Http2Handlers<U>, nowMs: number) {
    checkRange("initialWindowBytes", options.initialWindowBytes, 1, MAX_WINDOW_BYTES);
    checkRange("connectionWindowBytes", options.connectionWindowBytes, 0, MAX_WINDOW_BYTES);
    checkRange("maxFrameBytes", options.maxFrameBytes, DEFAULT_MAX_FRAME_BYTES, MAX_FRAME_BYTES);
    checkRange("maxHeaderListBytes", options.maxHeaderListBytes, 0, MAX_FRAME_BYTES);
    const session = new Session(options, handlers, nowMs);
    this.#session = session;
    this.#maxBacklog = options.maxOutputBytes +
      Math.max(MIN_BACKLOG_BYTES, BACKLOG_BYTES_PER_STREAM * options.maxConcurrentStreams);
    this.#sender = new Sender(session);
    this.#inbound = new Inbound(session, this.#sender);
    this.#reader = new FrameReader(this.#inbound, options.bufferPool, session.isServer);
    this.output = session.output;
    session.onEnd = () => this.#reader.stopped = true;
    session.timers.peerSettingsBy = after(nowMs, options.settingsTimeoutMs);
    session.timers.settingsAckBy = after(nowMs, options.settingsTimeoutMs);
    session.timers.pingAt = after(nowMs, options.pingIntervalMs);
    writeOpening(session);
  }

  // ---- bytes

  /** The transport took `n` bytes from `output.start`. */
  sent(n: number): void {
    this.#session.output.sent(n);
    if (!this.#session.failed) this.#sender.afterSent();
  }

  /** Takes `bytes[start..end)` from the transport, in any split. Events are delivered before it returns. */
  receive(bytes: Uint8Array, start: number, end: number, nowMs: number): void {
    const session = this.#session;
    if (session.failed) return;
    session.nowMs = nowMs;
    this.#reader.read(bytes, start, end);
    if (session.output.end - session.output.start > this.#maxBacklog) {
      session.fail(ErrorCode.ENHANCE_YOUR_CALM, "the peer asks for more without reading its answers");
    }
    if (session.failed) this.#release();
    else if (!session.queue.isEmpty) this.#sender.pump();
  }

  /**
   * The transport ended, by EOF or error: open streams get `reset` and `closed`, then comes `failed` with NO_ERROR and
   * `reason`, unless the connection had failed or drained before.
   */
  receivedEof(reason?: string): void {
    const where = this.#reader.midFrame ? " inside a frame" : "";
    this.#session.lost(reason ?? `the peer closed the connection${where}`);
    this.#release();
  }

  #release(): void {
    this.#reader.close();
    this.#inbound.close();
  }

  // ---- streams

  /** Sends a request. Undefined when no stream can be opened now (see `canOpen`). Client only. */
  openStream(fields: Fields, endStream: boolean, user: U): Http2Stream<U> | undefined {
    const session = this.#session;
    if (session.isServer) throw new Error("http2: a server does not open streams");
    if (!this.canOpen) return undefined;
    session.lastOwnId += 2;
    const stream = session.addStream(session.lastOwnId, user);
    stream.flags = StreamFlag.HEADERS_SENT;
    const method = valueOf(fields, ":method");
    if (method === "HEAD") stream.flags |= StreamFlag.HEAD;
    if (method === "CONNECT" && valueOf(fields, ":protocol") === "") stream.flags |= StreamFlag.CONNECT;
    session.earn();
    session.writeHeaders(stream.id, fields, endStream);
    if (endStream) session.endLocal(stream);
    return stream;
  }

  /** Sends the final response's headers. Server only, once a stream. A no-op when the stream has closed. */
  respond(stream: Http2Stream<U>, fields: Fields, endStream: boolean): void {
    if (stream.isClosed) return;
    this.#expectUnanswered(stream);
    stream.flags |= StreamFlag.HEADERS_SENT;
    this.#session.writeHeaders(stream.id, fields, endStream);
    if (endStream) this.#session.endLocal(stream);
  }

  /** Sends an interim (1xx) response. Server only, before `respond`. */
  informational(stream: Http2Stream<U>, fields: Fields): void {
    if (stream.isClosed) return;
    this.#expectUnanswered(stream);
    this.#session.writeHeaders(stream.id, fields, false);
  }

  /** Ends our half with trailer fields. */
  sendTrailers(stream: Http2Stream<U>, fields: Fields): void {
    if ((stream.flags & CANNOT_SEND) !== 0) return;
    this.#expectAnswered(stream);
    this.#session.writeHeaders(stream.id, fields, true);
    this.#session.endLocal(stream);
  }

  /**
   * How many bytes, up to `wantedBytes`, the caller may now write at `output.end + 9` of `output.bytes`; then it calls
   * `commitData`, with no other call on this connection in between. 0: blocked, `writable` follows (unless our half has
   * ended).
   */
  reserveData(stream: Http2Stream<U>, wantedBytes: number): number {
    this.#expectAnswered(stream);
    return this.#sender.reserve(stream, wantedBytes);
  }

  /** Makes `n` reserved bytes a DATA frame. `n` = 0 without `endStream` gives the reservation back. */
  commitData(stream: Http2Stream<U>, n: number, endStream: boolean): void {
    this.#sender.commit(stream, n, endStream);
  }

  /** Copies what may be sent of `bytes[start..end)` and returns how much; `endStream` applies if that is all. */
  sendData(stream: Http2Stream<U>, bytes: Uint8Array, start: number, end: number, endStream: boolean): number {
    this.#expectAnswered(stream);
    return this.#sender.send(stream, bytes, start, end, endStream);
  }

  /** Ends our half. Needs no window. */
  endStream(stream: Http2Stream<U>): void {
    this.#expectAnswered(stream);
    this.#sender.commit(stream, 0, true);
  }

  /** Gives the stream up: RST_STREAM with an ErrorCode, then `closed`. */
  resetStream(stream: Http2Stream<U>, code: number): void {
    if (stream.isClosed || this.#session.failed) return;
    this.#session.writeReset(stream.id, code);
    this.#session.close(stream, Closed.RESET_BY_US);
  }

  #expectUnanswered(stream: Http2Stream<U>): void {
    if (!this.#session.isServer) throw new Error("http2: a client does not respond");
    if ((stream.flags & StreamFlag.HEADERS_SENT) !== 0) throw new Error("http2: the stream was answered already");
  }

  #expectAnswered(stream: Http2Stream<U>): void {
    if ((stream.flags & StreamFlag.HEADERS_SENT) === 0 && (stream.flags & StreamFlag.CLOSED) === 0) {
      throw new Error("http2: DATA before the headers");
    }
  }

  /** Names the last header block carried as never indexed; a forwarder marks them on its other connection. */
  get sensitiveNames(): readonly string[] {
    return this.#inbound.receiver.message.sensitive;
  }

  /** Fields of this name are never indexed by our encoder from now on (RFC 7541 section 6.2.3). */
  markSensitive(name: string): void {
    this.#session.encoder.markSensitive(name);
  }

  // ---- the connection

  /** Takes no further streams from now on; open ones may finish. With a fault, close after flushing. */
  goaway(code: number, debug = ""): void {
    this.#session.leave(code, debug, true);
  }

  /**
   * Graceful end. A server warns, waits a round trip for streams on their way, then names the last one it serves; a
   * client just leaves. `drained` follows when no stream is left.
   */
  drain(): void {
    const session = this.#session;
    if (session.failed || session.leaving !== Leaving.NO) return;
    session.leave(ErrorCode.NO_ERROR, "", !session.isServer);
    if (session.isServer) writePing(session, PingPurpose.DRAIN);
  }

  /** A stream can be opened now. */
  get canOpen(): boolean {
    const session = this.#session;
    return !session.failed && !this.draining && session.streams.size < session.peerMaxConcurrent &&
      session.lastOwnId < MAX_STREAM_ID;
  }

  get openStreams(): number {
    return this.#session.streams.size;
  }

  /** Streams the peer takes at once; 100 before it said. */
  get peerMaxConcurrent(): number {
    return this.#session.peerMaxConcurrent;
  }

  /** The peer takes extended CONNECT (RFC 8441). */
  get peerTakesConnectProtocol(): boolean {
    return this.#session.peerConnectProtocol;
  }

  /** Either end announced that it leaves. */
  get draining(): boolean {
    return this.#session.leaving !== Leaving.NO || this.#session.peerLeaving;
  }

  /** Error code of the failure, or -1. */
  get failedWith(): number {
    return this.#session.failedWith;
  }

  /** Why the last stream was reset for the peer's fault, or why the connection failed; for a log line. */
  get lastFault(): string {
    return this.#session.lastFault;
  }

  // ---- time

  /** When `tick` is due, or Infinity. May be earlier than anything that happens then. */
  nextDeadlineMs(): number {
    return this.#session.timers.next();
  }

  /** Acts on deadlines that passed. */
  tick(nowMs: number): void {
    const session = this.#session;
    if (session.failed) return;
    session.nowMs = nowMs;
    const { timers, options } = session;
    if (nowMs >= timers.peerSettingsBy || nowMs >= timers.settingsAckBy) {
      session.fail(ErrorCode.SETTINGS_TIMEOUT, "the peer did not send or acknowledge SETTINGS in time");
    } else if (nowMs >= timers.headersBy) {
      session.fail(ErrorCode.ENHANCE_YOUR_CALM, "a header block was left unfinished");
    } else if (nowMs >= timers.pongBy) {
      session.fail(ErrorCode.NO_ERROR, "the peer did not answer a PING in time");
    }
    if (session.failed) return this.#release();
    if (nowMs >= timers.pingAt) {
      timers.pingAt = Infinity;
      timers.pongBy = after(nowMs, options.pingTimeoutMs);
      writePing(session, PingPurpose.KEEPALIVE);
    }
    if (nowMs >= timers.drainBy) session.leave(ErrorCode.NO_ERROR, "", true);
    if (nowMs >= timers.stallCheckAt) this.#sender.checkStalls();
  }
}

function checkRange(name: string, value: number, least: number, most: number): void {
  if (Number.isInteger(value) && value >= least && value <= most) return;
  throw new RangeError(`http2: ${name} is ${value}, must be an integer from ${least} to ${most}`);
}

/** The preface of a client, SETTINGS, and the connection window beyond the RFC's. */
function writeOpening<U>(session: Session<U>): void {
  const { output, options, isServer } = session;
  const settings: number[] = [
    Setting.INITIAL_WINDOW_SIZE,
    options.initialWindowBytes,
    Setting.MAX_FRAME_SIZE,
    options.maxFrameBytes,
    Setting.MAX_HEADER_LIST_SIZE,
    options.maxHeaderListBytes,
  ];
  if (isServer) settings.push(Setting.MAX_CONCURRENT_STREAMS, options.maxConcurrentStreams);
  else settings.push(Setting.ENABLE_PUSH, 0);
  if (isServer && options.enableConnectProtocol === true) settings.push(Setting.ENABLE_CONNECT_PROTOCOL, 1);
  if (!isServer) {
    output.ensure(PREFACE.length);
    output.bytes.set(PREFACE, output.end);
    output.end += PREFACE.length;
  }
  let at = output.frame(settings.length * 3, FrameType.SETTINGS, 0, 0);
  for (let i = 0; i < settings.length; i += 2) {
    output.bytes[at] = settings[i] >>> 8;
    output.bytes[at + 1] = settings[i];
    writeUint32(output.bytes, at + 2, settings[i + 1]);
    at += 6;
  }
  const extra = session.recvWindow - DEFAULT_WINDOW_BYTES;
  if (extra > 0) writeUint32(output.bytes, output.frame(4, FrameType.WINDOW_UPDATE, 0, 0), extra);
}
