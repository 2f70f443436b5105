/** One connection to an endpoint by HTTP/2: as many requests at once as both ends take. */
import type { BufferPool } from "../../net/buffer_pool.ts";
import { ErrorCode, type Fields, type Http2Handlers, type Http2Stream } from "../../protocol/http2/mod.ts";
import type { ByteStream } from "../transport/byte_stream.ts";
import type {
  ClientConnection,
  ClientConnectionOwner,
  ClientExchange,
  ExchangeBytes,
  ExchangeCut,
  FieldList,
  RequestHead,
  ResponseReceiver,
} from "./exchange.ts";
import { endToEnd, wireBytes } from "./fields.ts";
import { fromRequestHead, toResponseHead } from "./http2_fields.ts";
import { Http2Transport, type Http2TransportOptions } from "./http2_transport.ts";
import { PendingBody } from "./pending_body.ts";
import type { Timing } from "./timing.ts";

type Stream = Http2Stream<Http2ClientExchange | undefined>;

export class Http2Client implements ClientConnection, Http2Handlers<Http2ClientExchange | undefined> {
  readonly #transport: Http2Transport<Http2ClientExchange | undefined>;
  readonly #owner: ClientConnectionOwner;
  readonly #maxStreams: number;
  #draining = false;

  constructor(
    stream: ByteStream,
    options: Omit<Http2TransportOptions, "role">,
    pool: BufferPool,
    timing: Timing,
    owner: ClientConnectionOwner,
  ) {
    this.#owner = owner;
    this.#maxStreams = options.maxConcurrentStreams;
    this.#transport = new Http2Transport(
      stream,
      // A server opens no streams.
      { ...options, maxConcurrentStreams: 0, role: "client" },
      pool,
      timing,
      this,
      (reason) => owner.closed(this, reason),
    );
  }

  get available(): boolean {
    const { h2, closed } = this.#transport;
    return !closed && !this.#draining && h2.canOpen && h2.openStreams < this.#maxStreams;
  }

  get activeRequests(): number {
    return this.#transport.h2.openStreams;
  }

  request(head: RequestHead, ended: boolean, receiver: ResponseReceiver): ClientExchange | undefined {
    if (!this.available) return undefined;
    const fields = fromRequestHead(head);
    const stream = this.#transport.h2.openStream(fields, ended && head.upgrade === "", undefined);
    if (stream === undefined) return undefined;
    const exchange = new Http2ClientExchange(this.#transport, stream, head, receiver, wireBytes(fields));
    stream.user = exchange;
    this.#transport.touch();
    return exchange;
  }

  drain(): void {
    this.#draining = true;
    this.#transport.h2.drain();
    this.#transport.touch();
  }

  close(reason: string): void {
    this.#transport.h2.goaway(ErrorCode.NO_ERROR, reason);
    this.#transport.h2.receivedEof(reason);
    this.#transport.finish(reason);
  }

  headers(stream: Stream, fields: Fields, endStream: boolean): void {
    stream.user?.receiveHead(fields, endStream);
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
      detail: isLost ? lastFault : `the endpoint reset the request (code ${code})`,
    });
  }

  closed(stream: Stream): void {
    stream.user = undefined;
    this.#owner.availableChanged(this);
  }

  goaway(): void {
    this.#draining = true;
    this.#owner.availableChanged(this);
  }

  settings(): void {
    this.#owner.availableChanged(this);
  }

  drained(): void {
    this.#transport.finish("drained");
  }

  failed(_code: number, reason: string): void {
    this.#transport.finish(reason);
  }
}

class Http2ClientExchange implements ClientExchange {
  readonly bytes: ExchangeBytes;
  readonly #transport: Http2Transport<Http2ClientExchange | undefined>;
  readonly #stream: Stream;
  readonly #pending: PendingBody<Http2ClientExchange | undefined>;
  readonly #isUpgrade: boolean;
  readonly #receiver: ResponseReceiver;
  #over = false;

  constructor(
    transport: Http2Transport<Http2ClientExchange | undefined>,
    stream: Stream,
    head: RequestHead,
    receiver: ResponseReceiver,
    headBytes: number,
  ) {
    this.#transport = transport;
    this.#stream = stream;
    this.#pending = new PendingBody(transport.h2, stream);
    this.#isUpgrade = head.upgrade !== "";
    this.#receiver = receiver;
    this.bytes = { received: 0, sent: 0, headReceived: 0, headSent: headBytes };
  }

  receiveHead(fields: Fields, ended: boolean): void {
    if (this.#over) return;
    const head = toResponseHead(fields);
    if (head.status < 200) return this.#receiver.informational(head.status, head.headers);
    this.bytes.headReceived += head.wireBytes;
    if (ended) this.#over = true;
    // An upgrade that was taken is a 101 to whoever asked by HTTP/1.1.
    const status = this.#isUpgrade && head.status === 200 ? 101 : head.status;
    this.#receiver.head({ ...head, status }, ended);
    if (ended) this.#stopRequest();
  }

  receive(bytes: Uint8Array, start: number, end: number, ended: boolean): void {
    if (this.#over) return this.#stream.consume(end - start);
    this.bytes.received += end - start;
    if (ended) this.#over = true;
    this.#receiver.data(bytes, start, end, ended);
    if (ended) this.#stopRequest();
  }

  receiveTrailers(fields: Fields): void {
    if (this.#over) return;
    this.#over = true;
    this.bytes.headReceived += wireBytes(fields);
    this.#receiver.trailers([...fields]);
    this.#stopRequest();
  }

  /** The answer is whole: what is left of the request is not wanted. */
  #stopRequest(): void {
    this.#pending.drop();
    if (!this.#stream.localEnded) this.#transport.h2.resetStream(this.#stream, ErrorCode.CANCEL);
    this.#transport.touch();
  }

  streamWritable(): void {
    if (this.#pending.pump() && !this.#over) this.#receiver.writable();
  }

  cut(cause: ExchangeCut): void {
    if (this.#over) return;
    this.#over = true;
    this.#pending.drop();
    this.#receiver.reset(cause);
  }

  get queued(): number {
    return this.#pending.length;
  }

  data(bytes: Uint8Array, start: number, end: number, ended: boolean): void {
    if (this.#over) return;
    this.bytes.sent += end - start;
    this.#pending.send(bytes, start, end, ended);
    this.#transport.touch();
  }

  trailers(fields: FieldList): void {
    if (this.#over) return;
    const sent = endToEnd(fields);
    this.bytes.headSent += wireBytes(sent);
    this.#pending.sendTrailers(sent);
    this.#transport.touch();
  }

  consume(bytes: number): void {
    this.#stream.consume(bytes);
    this.#transport.touch();
  }

  reset(_cause: ExchangeCut): void {
    if (this.#over) return;
    this.#over = true;
    this.#pending.drop();
    this.#transport.h2.resetStream(this.#stream, ErrorCode.CANCEL);
    this.#transport.touch();
  }
}
