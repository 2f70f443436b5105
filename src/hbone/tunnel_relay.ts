/**
 * Copies between an application's TCP connection and a tunnel stream, with half-close both ways.
 *
 * Application bytes are received straight behind the frame header they travel with; tunnel bytes go from the decrypted
 * read buffer to the application's socket. Backpressure is the tunnel's flow control: credit is given back when the kernel has taken the
 * bytes, and reading stops while the tunnel takes none. A cut stream becomes a RST and a RST becomes a cut stream, so that a
 * truncated transfer never looks complete.
 */
import { EAGAIN, ECONNRESET, EPIPE } from "../platform/errno.ts";
import type { IoContext } from "../net/io_context.ts";
import { type TcpSink, TcpStream } from "../net/tcp_stream.ts";
import { ErrorCode, type Fields } from "../protocol/http2/mod.ts";
import type { HboneConnection, TunnelStream, TunnelUser } from "./connection.ts";

/** One read of an application's socket: with the frame's header it fills whole TLS records, so that no small one trails behind. */
const READ_BYTES = 8 * 16 * 1024 - 9;
const FRAME_HEADER_BYTES = 9;

/** How a relay ended. "complete" includes a reset by either application, which is an application's right. */
export type RelayEnd =
  | { readonly kind: "complete" }
  | {
    readonly kind: "reset";
    readonly side: "application" | "tunnel";
    readonly detail: string;
    /** A certificate of the tunnel was revoked. */
    readonly revoked?: boolean;
  };

export interface RelayOwner {
  /** Both directions are over and both ends are released. Called once. */
  relayEnded(end: RelayEnd): void;
}

export class TunnelRelay implements TcpSink, TunnelUser {
  /** Bytes from the application into the tunnel. */
  bytesIn = 0;
  /** Bytes from the tunnel to the application. */
  bytesOut = 0;
  readonly #tunnel: HboneConnection;
  readonly #stream: TunnelStream;
  readonly #tcp: TcpStream;
  readonly #owner: RelayOwner;
  readonly #application: "client" | "server";
  #streamClosed = false;
  #ended = false;

  /**
   * Takes over the descriptor and the stream; copying begins in the next turn. Not so for an application that is the client, and has
   * probably said something already: there it begins with `start`.
   */
  constructor(
    io: IoContext,
    fd: number,
    tunnel: HboneConnection,
    stream: TunnelStream,
    owner: RelayOwner,
    application: "client" | "server" = "server",
  ) {
    this.#tunnel = tunnel;
    this.#stream = stream;
    this.#owner = owner;
    stream.user = this;
    this.#tcp = new TcpStream(io.reactor, io.pool, fd, this);
    this.#application = application;
    if (application === "server") this.#tcp.resumeRead();
  }

  fromClient(): number {
    return this.#application === "client" ? this.bytesIn : this.bytesOut;
  }

  fromServer(): number {
    return this.#application === "client" ? this.bytesOut : this.bytesIn;
  }

  /** Begins, by reading what waits; the relay may end within this call. */
  start(): void {
    this.#tcp.readNow();
  }

  /** Cuts both sides, as when a policy forbids the connection from now on. */
  cut(detail: string): void {
    this.#end({ kind: "reset", side: "tunnel", detail });
  }

  readable(): void {
    const h2 = this.#tunnel.h2;
    const room = h2.reserveData(this.#stream, READ_BYTES);
    if (room === 0) {
      this.#tcp.pauseRead();
      return;
    }
    const at = h2.output.end + FRAME_HEADER_BYTES;
    let n = this.#tcp.read(h2.output.bytes, at, at + room);
    let total = n > 0 ? n : 0;
    // The end is known to be there: it travels with the last bytes.
    while (n > 0 && total < room && this.#tcp.endWaits) {
      n = this.#tcp.readOn(h2.output.bytes, at + total, at + room);
      if (n > 0) total += n;
    }
    // Counted first: the last half's end completes the relay from within.
    this.bytesIn += total;
    h2.commitData(this.#stream, total, n === 0);
    if (total > 0 || n === 0) this.#tunnel.touch();
    if (n === 0) this.#checkDone();
    else if (n < 0 && n !== -EAGAIN) this.broken(-n);
  }

  drained(bytes: number): void {
    this.#stream.consume(bytes);
    this.#tunnel.touch();
    this.#checkDone();
  }

  broken(code: number): void {
    if (code === ECONNRESET || code === EPIPE) this.#end({ kind: "reset", side: "application", detail: "" });
    else this.#end({ kind: "reset", side: "application", detail: `application socket failed with error ${code}` });
  }

  headers(_stream: TunnelStream, _fields: Fields, endStream: boolean): void {
    if (endStream) this.data(this.#stream, EMPTY, 0, 0, true);
  }

  data(stream: TunnelStream, bytes: Uint8Array, start: number, end: number, endStream: boolean): void {
    if (this.#ended) return;
    if (end > start) {
      const n = this.#tcp.write(bytes, start, end, endStream);
      if (n < 0) return this.broken(-n);
      this.bytesOut += end - start;
      if (n > 0) stream.consume(n);
    }
    if (endStream) {
      // Closing says the same as an end of stream, once nothing is left to read or to send.
      if (this.#tcp.readEnded && this.#tcp.queued === 0 && stream.localEnded) return this.#end({ kind: "complete" });
      this.#tcp.endWrite();
      this.#checkDone();
    }
  }

  writable(): void {
    this.#tcp.resumeRead();
  }

  reset(_stream: TunnelStream, code: number, byPeer: boolean): void {
    this.#streamClosed = true;
    const { h2, failure } = this.#tunnel;
    if (failure?.stage === "revoked") {
      return this.#end({ kind: "reset", side: "tunnel", detail: failure.message, revoked: true });
    }
    // An application's reset travels as CANCEL; a tunnel that is lost takes all its streams with it, by nobody's wish.
    let detail = `tunnel stream reset with code ${code}`;
    if (h2.failedWith !== -1) detail = `the tunnel was lost: ${h2.lastFault}`;
    else if (byPeer && (code === ErrorCode.NO_ERROR || code === ErrorCode.CANCEL)) detail = "";
    this.#end({ kind: "reset", side: "tunnel", detail });
  }

  closed(): void {
    this.#streamClosed = true;
    this.#checkDone();
  }

  /** Both halves are over when the stream is closed and the application has both ends of stream. */
  #checkDone(): void {
    if (this.#streamClosed && this.#tcp.readEnded && this.#tcp.writeFlushed) this.#end({ kind: "complete" });
  }

  #end(end: RelayEnd): void {
    if (this.#ended) return;
    this.#ended = true;
    if (end.kind === "complete") this.#tcp.close();
    else this.#tcp.abort();
    if (!this.#streamClosed && end.kind !== "complete") {
      this.#tunnel.h2.resetStream(this.#stream, ErrorCode.CANCEL);
      this.#tunnel.touch();
    }
    this.#owner.relayEnded(end);
  }
}

const EMPTY = new Uint8Array(0);
