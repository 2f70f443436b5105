/** A client's HTTP/2 connection inside the tunnel: many requests at once. */
import type { BufferPool } from "../../net/buffer_pool.ts";
import { ErrorCode, type Fields, type Http2Handlers, type Http2Stream } from "../../protocol/http2/mod.ts";
import type { ByteSink, ByteStream } from "../transport/byte_stream.ts";
import type { BodyReceiver, ExchangeBytes, ExchangeCut, FieldList, RequestHead, ServerExchange } from "./exchange.ts";
import { endToEnd, wireBytes } from "./fields.ts";
import type { HttpServerOwner } from "./http1_server.ts";
import { fromResponseHead, toRequestHead } from "./http2_fields.ts";
import { Http2Transport, type Http2TransportOptions } from "./http2_transport.ts";
import { PendingBody } from "./pending_body.ts";
import type { Timing } from "./timing.ts";

type Stream = Http2Stream<Http2Exchange | undefined>;

export class Http2Server implements Http2Handlers<Http2Exchange | undefined> {
  readonly #transport: Http2Transport<Http2Exchange | undefined>;
  readonly #owner: HttpServerOwner;
  readonly #upgrades: ReadonlySet<string>;

  constructor(
    stream: ByteStream,
    options: Omit<Http2TransportOptions, "role"> & { readonly upgrades: ReadonlySet<string> },
    pool: BufferPool,
    timing: Timing,
    owner: HttpServerOwner,
  ) {
    this.#owner = owner;
    this.#upgrades = options.upgrades;
    this.#transport = new Http2Transport(
      stream,
      { ...options, role: "server" },
      pool,
      timing,
      this,
      (reason) => owner.closed(reason),
    );
  }

  /** Where the stream's bytes go: for those that came before there was a session. */
  get sink(): ByteSink {
    return this.#transport;
  }

  drain(): void {
    this.#transport.h2.drain();
    this.#transport.touch();
  }

  close(reason: string): void {
    this.#transport.h2.goaway(ErrorCode.NO_ERROR, reason);
    this.#transport.finish(reason);
  }

  headers(stream: Stream, fields: Fields, endStream: boolean): void {
    const head = toRequestHead(fields, endStream, this.#upgrades);
    const exchange = new Http2Exchange(this.#transport, stream, head, endStream);
    stream.user = exchange;
    this.#owner.request(exchange);
    this.#transport.touch();
  }

  data(stream: Stream, bytes: Uint8Array, start: number, end: number, endStream: boolean): void {
    if (stream.user === undefined) stream.consume(end - start);
    else stream.user.receive(bytes, start, end, endStream);
  }

  trailers(stream: Stream, fields: Fields): void {
    stream.user?.receiveTrailers(fields);
  }

  writable(stream: Stream): void {
    stream.user?.streamWritable();
    this.#transport.touch();
  }

  reset(stream: Stream, code: number, byPeer: boolean): void {
    const { failedWith, lastFault } = this.#transport.h2;
    const isLost = failedWith !== -1 || !byPeer;
    stream.user?.cut({
      kind: isLost ? "connection lost" : "peer reset",
      refused: code === ErrorCode.REFUSED_STREAM,
      detail: isLost ? lastFault : `the client reset the request (code ${code})`,
    });
  }

  closed(stream: Stream): void {
    stream.user = undefined;
  }

  goaway(): void {}

  settings(): void {}

  drained(): void {
    this.#transport.finish("drained");
  }

  failed(_code: number, reason: string): void {
    this.#transport.finish(reason);
  }
}

class Http2Exchange implements ServerExchange {
  readonly head: RequestHead;
  readonly bytes: ExchangeBytes;
  bodyEnded: boolean;
  upgraded = false;
  readonly #transport: Http2Transport<Http2Exchange | undefined>;
  readonly #stream: Stream;
  readonly #pending: PendingBody<Http2Exchange | undefined>;
  #receiver: BodyReceiver | undefined;
  #answered = false;
  #over = false;

  constructor(transport: Http2Transport<Http2Exchange | undefined>, stream: Stream, head: RequestHead, ended: boolean) {
    this.#transport = transport;
    this.#stream = stream;
    this.#pending = new PendingBody(transport.h2, stream);
    this.head = head;
    this.bodyEnded = ended;
    this.bytes = { received: 0, sent: 0, headReceived: head.wireBytes, headSent: 0 };
  }

  setReceiver(receiver: BodyReceiver): void {
    this.#receiver = receiver;
  }

  consume(bytes: number): void {
    this.#stream.consume(bytes);
    this.#transport.touch();
  }

  receive(bytes: Uint8Array, start: number, end: number, ended: boolean): void {
    this.bytes.received += end - start;
    if (ended) this.bodyEnded = true;
    if (this.#receiver === undefined || this.#over) this.#stream.consume(end - start);
    else this.#receiver.data(bytes, start, end, ended);
  }

  receiveTrailers(fields: Fields): void {
    this.bodyEnded = true;
    if (!this.#over) this.#receiver?.trailers([...fields]);
  }

  streamWritable(): void {
    if (this.#pending.pump() && !this.#over) this.#receiver?.writable();
  }

  cut(cause: ExchangeCut): void {
    if (this.#over) return;
    this.#over = true;
    this.#pending.drop();
    this.#receiver?.reset(cause);
  }

  informational(status: number, headers: FieldList): void {
    if (this.#answered || this.#over) return;
    this.#transport.h2.informational(this.#stream, fromResponseHead(status, headers));
    this.#transport.touch();
  }

  respond(head: { readonly status: number; readonly headers: FieldList }, ended: boolean): void {
    if (this.#answered || this.#over) return;
    this.#answered = true;
    this.upgraded = head.status === 101;
    const fields = fromResponseHead(this.upgraded ? 200 : head.status, head.headers);
    this.bytes.headSent += wireBytes(fields);
    this.#transport.h2.respond(this.#stream, fields, ended);
    if (ended) this.#finish();
    this.#transport.touch();
  }

  get queued(): number {
    return this.#pending.length;
  }

  data(bytes: Uint8Array, start: number, end: number, ended: boolean): void {
    if (this.#over || !this.#answered) return;
    this.bytes.sent += end - start;
    this.#pending.send(bytes, start, end, ended);
    if (ended) this.#finish();
    this.#transport.touch();
  }

  trailers(fields: FieldList): void {
    if (this.#over || !this.#answered) return;
    const sent = endToEnd(fields);
    this.bytes.headSent += wireBytes(sent);
    this.#pending.sendTrailers(sent);
    this.#finish();
    this.#transport.touch();
  }

  /** The answer is whole. A request that is not is told to stop, RFC 9113 section 8.1: its answer does not need the rest. */
  #finish(): void {
    this.#over = true;
    if (!this.bodyEnded) this.#pending.whenSent(() => this.#transport.h2.resetStream(this.#stream, ErrorCode.NO_ERROR));
  }

  reset(cause: ExchangeCut): void {
    if (this.#over) return;
    this.#over = true;
    this.#pending.drop();
    this.#transport.h2.resetStream(
      this.#stream,
      cause.kind === "overload" ? ErrorCode.REFUSED_STREAM : ErrorCode.INTERNAL_ERROR,
    );
    this.#transport.touch();
  }
}
