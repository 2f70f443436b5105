/**
 * Complete header blocks on their way in: decodes each, whatever its stream's state, since the HPACK table must follow
 * the peer's; then opens a stream, answers one, ends one, or refuses (RFC 9113 sections 5.1, 5.1.2, 8.1, 8.5).
 */
import { Closed } from "./closed_streams.ts";
import { ErrorCode } from "./constants.ts";
import { HpackDecoder } from "./hpack_decoder.ts";
import { Message } from "./message.ts";
import { Leaving, type Session } from "./session.ts";
import { type Http2Stream, StreamFlag } from "./stream.ts";
import type { Fields } from "./types.ts";

const TOO_LARGE: Fields = [":status", "431"];

export class HeaderReceiver<U> {
  readonly message: Message;
  readonly #decoder = new HpackDecoder();
  readonly #session: Session<U>;

  constructor(session: Session<U>) {
    this.#session = session;
    this.message = new Message(session.options.maxHeaderListBytes);
  }

  get tableBytes(): number {
    return this.#decoder.tableBytes;
  }

  receive(
    streamId: number,
    endStream: boolean,
    selfDependent: boolean,
    bytes: Uint8Array,
    start: number,
    end: number,
  ): void {
    const session = this.#session;
    this.message.begin();
    if (!this.#decoder.decode(bytes, start, end, this.message)) {
      session.fail(ErrorCode.COMPRESSION_ERROR, this.#decoder.error);
      return;
    }
    const stream = session.streams.get(streamId);
    if (stream === undefined) {
      if (session.isServer && streamId > session.lastPeerId) this.#request(streamId, endStream, selfDependent);
      else this.#late(streamId);
    } else if (selfDependent) {
      session.streamError(stream, ErrorCode.PROTOCOL_ERROR, "the stream depends on itself");
    } else if ((stream.flags & StreamFlag.REMOTE_ENDED) !== 0) {
      session.streamError(stream, ErrorCode.STREAM_CLOSED, "HEADERS after the end of the stream");
    } else if ((stream.flags & StreamFlag.HEADERS_RECEIVED) === 0) {
      this.#response(stream, endStream);
    } else {
      this.#trailers(stream, endStream);
    }
  }

  /** A header block for a stream that is not open. */
  #late(streamId: number): void {
    const session = this.#session;
    const how = session.closed.how(streamId);
    if (how === Closed.ENDED) session.fail(ErrorCode.STREAM_CLOSED, "HEADERS on a stream that ended");
    else if (how === Closed.RESET_BY_PEER) {
      session.refuse(streamId, ErrorCode.STREAM_CLOSED, "HEADERS on a stream that the peer reset");
    } else if (how === Closed.FORGOTTEN && !session.closed.overflowed) {
      session.fail(ErrorCode.PROTOCOL_ERROR, "stream ids go backwards");
    } else {
      session.chargeOverhead(1, "HEADERS on closed streams");
    }
  }

  #request(streamId: number, endStream: boolean, selfDependent: boolean): void {
    const session = this.#session;
    const message = this.message;
    session.lastPeerId = streamId;
    if (session.leaving === Leaving.FINAL) {
      // The last GOAWAY told the peer that this stream is not served.
      session.closed.add(streamId, Closed.RESET_BY_US);
      session.chargeOverhead(1, "streams after GOAWAY");
      return;
    }
    if (selfDependent) return session.refuse(streamId, ErrorCode.PROTOCOL_ERROR, "the stream depends on itself");
    if (session.streams.size >= session.options.maxConcurrentStreams) {
      return session.refuse(streamId, ErrorCode.REFUSED_STREAM, "more streams than we announced");
    }
    if (message.tooLarge) return this.#tooLarge(streamId, endStream);
    const fault = message.requestFault(session.options.enableConnectProtocol === true);
    if (fault !== "") return session.refuse(streamId, ErrorCode.PROTOCOL_ERROR, `request: ${fault}`);
    const { contentLength } = message;
    if (endStream && contentLength > 0) {
      return session.refuse(streamId, ErrorCode.PROTOCOL_ERROR, "request: content-length without content");
    }
    session.earn();
    const stream = session.addStream(streamId, undefined as U);
    stream.flags = StreamFlag.HEADERS_RECEIVED;
    if (message.isConnect) stream.flags |= StreamFlag.CONNECT;
    else stream.contentLeft = contentLength;
    if (endStream) stream.flags |= StreamFlag.REMOTE_ENDED;
    session.handlers.headers(stream, message.fields, endStream);
    if (endStream) session.finishRemote(stream);
  }

  /** 431 Request Header Fields Too Large, RFC 9113 section 10.5.1; the owner never sees the request. */
  #tooLarge(streamId: number, endStream: boolean): void {
    const session = this.#session;
    session.writeHeaders(streamId, TOO_LARGE, true);
    if (!endStream) return session.refuse(streamId, ErrorCode.NO_ERROR, "request: header list too large");
    session.lastFault = "request: header list too large";
    session.closed.add(streamId, Closed.ENDED);
    session.chargeReset();
  }

  #response(stream: Http2Stream<U>, endStream: boolean): void {
    const session = this.#session;
    const message = this.message;
    if (message.tooLarge) {
      return session.streamError(stream, ErrorCode.ENHANCE_YOUR_CALM, "response: header list too large");
    }
    const fault = message.responseFault();
    if (fault !== "") return session.streamError(stream, ErrorCode.PROTOCOL_ERROR, `response: ${fault}`);
    const { status, contentLength } = message;
    if (status < 200) {
      if (endStream) {
        return session.streamError(stream, ErrorCode.PROTOCOL_ERROR, "response: ends with an interim status");
      }
      if (session.chargeOverhead(1, "interim responses")) session.handlers.headers(stream, message.fields, false);
      return;
    }
    const tunnel = (stream.flags & StreamFlag.CONNECT) !== 0 && status < 300;
    if (!tunnel) stream.flags &= ~StreamFlag.CONNECT;
    const noContent = tunnel || (stream.flags & StreamFlag.HEAD) !== 0 || status === 204 || status === 304;
    if (!noContent && endStream && contentLength > 0) {
      return session.streamError(stream, ErrorCode.PROTOCOL_ERROR, "response: content-length without content");
    }
    if (!noContent) stream.contentLeft = contentLength;
    stream.flags |= StreamFlag.HEADERS_RECEIVED;
    if (endStream) stream.flags |= StreamFlag.REMOTE_ENDED;
    session.handlers.headers(stream, message.fields, endStream);
    if (endStream) session.finishRemote(stream);
  }

  #trailers(stream: Http2Stream<U>, endStream: boolean): void {
    const session = this.#session;
    const message = this.message;
    if (!endStream) return session.streamError(stream, ErrorCode.PROTOCOL_ERROR, "trailers do not end the stream");
    if ((stream.flags & StreamFlag.CONNECT) !== 0) {
      return session.streamError(stream, ErrorCode.PROTOCOL_ERROR, "HEADERS in a tunnel");
    }
    if (message.tooLarge) {
      return session.streamError(stream, ErrorCode.ENHANCE_YOUR_CALM, "trailers: header list too large");
    }
    const fault = message.trailersFault();
    if (fault !== "") return session.streamError(stream, ErrorCode.PROTOCOL_ERROR, `trailers: ${fault}`);
    if (stream.contentLeft > 0) {
      return session.streamError(stream, ErrorCode.PROTOCOL_ERROR, "DATA does not add up to content-length");
    }
    stream.flags |= StreamFlag.REMOTE_ENDED;
    session.handlers.trailers(stream, message.fields);
    session.finishRemote(stream);
  }
}
