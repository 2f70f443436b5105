/** One question by TCP: connect, ask, take the first answer, close. */
import { describeErrno, EAGAIN } from "../../platform/errno.ts";
import { type ConnectHandler, Connector } from "../../net/connector.ts";
import type { IoContext } from "../../net/io_context.ts";
import { type TcpSink, TcpStream } from "../../net/tcp_stream.ts";
import { frame, FrameReader } from "../../protocol/dns/mod.ts";

export interface TcpExchangeHandler {
  /** The first message that came, valid until this returns; close the exchange. */
  tcpAnswered(bytes: Uint8Array): void;
  /** The exchange is closed. */
  tcpFailed(reason: string): void;
}

export class TcpExchange implements ConnectHandler, TcpSink {
  readonly #io: IoContext;
  readonly #handler: TcpExchangeHandler;
  readonly #frames = new FrameReader((message) => {
    if (this.#closed || this.#answered) return;
    this.#answered = true;
    this.#handler.tcpAnswered(message);
  });
  #fd: number;
  #connector: Connector | undefined;
  #stream: TcpStream | undefined;
  #question: Uint8Array = new Uint8Array(0);
  #answered = false;
  #closed = false;

  /** Takes over `fd`, a fresh socket. */
  constructor(io: IoContext, fd: number, handler: TcpExchangeHandler) {
    this.#io = io;
    this.#fd = fd;
    this.#handler = handler;
  }

  /** The handler may be called from here. */
  start(ip: string, port: number, family: number, timeoutMs: number, question: Uint8Array): void {
    this.#question = question;
    const fd = this.#fd;
    this.#fd = -1;
    const connector = new Connector(this.#io.reactor, this, fd, family, ip, port, timeoutMs);
    if (!this.#closed && this.#stream === undefined) this.#connector = connector;
  }

  connected(fd: number): void {
    this.#connector = undefined;
    const stream = new TcpStream(this.#io.reactor, this.#io.pool, fd, this);
    this.#stream = stream;
    const bytes = frame(this.#question);
    const outcome = stream.write(bytes, 0, bytes.length);
    if (outcome < 0) return this.broken(-outcome);
    stream.resumeRead();
  }

  connectFailed(code: number): void {
    this.#connector = undefined;
    this.broken(code);
  }

  readable(): void {
    const stream = this.#stream!;
    const n = stream.read(this.#io.readBuffer, 0, this.#io.readBuffer.length);
    if (n === -EAGAIN) return;
    if (n < 0) return this.broken(-n);
    if (n === 0) return this.#fail("it closed the connection without an answer");
    // A view of the shared buffer: the handler decodes before anything else is read.
    this.#frames.push(this.#io.readBuffer.subarray(0, n));
  }

  drained(): void {}

  broken(code: number): void {
    this.#fail(describeErrno(code));
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#connector?.cancel();
    this.#stream?.close();
    if (this.#fd !== -1) this.#io.reactor.close(this.#fd);
    this.#fd = -1;
  }

  #fail(reason: string): void {
    if (this.#closed) return;
    this.close();
    this.#handler.tcpFailed(reason);
  }
}
