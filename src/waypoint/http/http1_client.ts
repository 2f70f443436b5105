/** One connection to an endpoint by HTTP/1.1: one request at a time, reused while both ends say so. */
import {
  type Fields,
  type Head,
  Http1Decoder,
  type Http1Limits,
  type Http1Sink,
  requestHead,
} from "../../protocol/http1/mod.ts";
import type { ByteSink, ByteStream, StreamCut } from "../transport/byte_stream.ts";
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
import { endToEnd, first, wireBytes } from "./fields.ts";
import { type BodyFraming, writeBody, writeEnd, writeText } from "./http1_writer.ts";

const NO_FIELDS: FieldList = [];
const NO_BYTES = new Uint8Array(0);

export class Http1Client implements ClientConnection, ByteSink, Http1Sink {
  readonly #stream: ByteStream;
  readonly #owner: ClientConnectionOwner;
  readonly #decoder: Http1Decoder;
  #exchange: Http1ClientExchange | undefined;
  #closed = false;
  #draining = false;
  #bodyBytes = 0;

  constructor(stream: ByteStream, limits: Http1Limits, owner: ClientConnectionOwner) {
    this.#stream = stream;
    this.#owner = owner;
    this.#decoder = new Http1Decoder("response", limits);
    stream.setSink(this);
  }

  get available(): boolean {
    return !this.#closed && !this.#draining && this.#exchange === undefined;
  }

  get activeRequests(): number {
    return this.#exchange === undefined ? 0 : 1;
  }

  request(head: RequestHead, ended: boolean, receiver: ResponseReceiver): ClientExchange | undefined {
    if (!this.available) return undefined;
    this.#decoder.expect(head.method);
    const exchange = new Http1ClientExchange(this.#stream, head, receiver, (whole) => this.#ended(exchange, whole));
    this.#exchange = exchange;
    exchange.send(ended);
    return exchange;
  }

  drain(): void {
    this.#draining = true;
    if (this.#exchange === undefined) this.close("drained");
  }

  close(reason: string): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#decoder.close();
    if (!this.#stream.closed) this.#stream.reset();
    const exchange = this.#exchange;
    this.#exchange = undefined;
    exchange?.cut({ kind: "connection lost", refused: false, detail: reason });
    this.#owner.closed(this, reason);
  }

  // ---- bytes

  data(bytes: Uint8Array, start: number, end: number, ended: boolean): void {
    if (this.#closed) return;
    const exchange = this.#exchange;
    if (exchange?.upgraded === true) return exchange.receive(bytes, start, end, ended);
    if (end > start) {
      // Bytes that nobody asked for may be the answer to a request that a client smuggled in: never the next one's.
      if (exchange === undefined) return this.close("the endpoint sent bytes without a request");
      this.#read(bytes, start, end);
      if (this.#closed) return;
    }
    if (ended) this.#peerEnded();
  }

  #read(bytes: Uint8Array, start: number, end: number): void {
    let at = start;
    while (at < end && !this.#closed) {
      this.#bodyBytes = 0;
      const from = at;
      at = this.#decoder.read(bytes, from, end, this);
      this.#stream.consume(at - from - this.#bodyBytes);
      if (this.#decoder.fault !== undefined) return this.#fault(this.#decoder.fault.detail);
      if (!this.#decoder.complete) return;
      this.#decoder.next();
      const exchange = this.#exchange;
      if (exchange?.upgraded === true) {
        if (at < end) exchange.receive(bytes, at, end, false);
        return;
      }
      if (exchange === undefined && at < end) return this.close("the endpoint sent more than one answer");
    }
  }

  #fault(detail: string): void {
    const exchange = this.#exchange;
    this.#exchange = undefined;
    exchange?.cut({ kind: "protocol error", refused: false, detail });
    this.close(detail);
  }

  #peerEnded(): void {
    // Half an answer is a lost connection, not a wrong protocol: 503, as Envoy tells it.
    const isWithin = this.#decoder.readEof(this) !== undefined;
    this.close(isWithin ? "the endpoint ended the connection within an answer" : "the endpoint ended the connection");
  }

  writable(): void {
    this.#exchange?.receiver.writable();
  }

  broken(cause: StreamCut): void {
    const exchange = this.#exchange;
    this.#exchange = undefined;
    exchange?.cut({ kind: "connection lost", refused: false, detail: cause.detail, stream: cause });
    this.close(cause.detail);
  }

  // ---- messages

  head(head: Head): void {
    if (head.line.kind !== "response") return;
    if (head.close) this.#draining = true;
    this.#exchange?.receiveHead(head.line.status, head);
  }

  body(bytes: Uint8Array, start: number, end: number): void {
    this.#bodyBytes += end - start;
    this.#exchange?.receive(bytes, start, end, false);
  }

  complete(trailers: Fields): void {
    this.#exchange?.receiveEnd(trailers);
  }

  /** Both halves of an exchange are over; `whole`: the connection may be used again. */
  #ended(exchange: Http1ClientExchange, whole: boolean): void {
    if (this.#exchange !== exchange) return;
    this.#exchange = undefined;
    if (!whole || this.#draining) return this.close(whole ? "drained" : "an exchange was given up");
    this.#owner.availableChanged(this);
  }
}

class Http1ClientExchange implements ClientExchange {
  readonly bytes: ExchangeBytes = { received: 0, sent: 0, headReceived: 0, headSent: 0 };
  upgraded = false;
  readonly #stream: ByteStream;
  readonly #head: RequestHead;
  readonly #onEnd: (whole: boolean) => void;
  #framing: BodyFraming = "none";
  #left = 0;
  #sent = false;
  #received = false;
  #answered = false;
  #over = false;

  constructor(
    stream: ByteStream,
    head: RequestHead,
    readonly receiver: ResponseReceiver,
    onEnd: (whole: boolean) => void,
  ) {
    this.#stream = stream;
    this.#head = head;
    this.#onEnd = onEnd;
  }

  // ---- the request

  send(ended: boolean): void {
    const head = this.#head;
    const fields: FieldList = ["host", head.authority];
    for (const part of endToEnd(head.headers)) fields.push(part);
    if (head.upgrade !== "") fields.push("connection", "upgrade", "upgrade", head.upgrade);
    const length = first(head.headers, "content-length");
    if (!ended && head.upgrade === "") {
      if (length === undefined) {
        this.#framing = "chunked";
        fields.push("transfer-encoding", "chunked");
      } else {
        this.#framing = "length";
        this.#left = Number(length);
      }
    } else if (ended && length === undefined && BODY_EXPECTED.has(head.method)) {
      fields.push("content-length", "0");
    }
    const text = requestHead(head.method, head.path, fields);
    this.bytes.headSent = text.length;
    writeText(this.#stream, text);
    if (ended) this.#sent = true;
  }

  get queued(): number {
    return this.#stream.queued;
  }

  data(bytes: Uint8Array, start: number, end: number, ended: boolean): void {
    if (this.#over || this.#sent) return;
    const size = end - start;
    if (size > 0) {
      if (this.#framing === "length") {
        // A byte too many would begin a request of its own.
        if (size > this.#left) {
          return this.reset({ kind: "protocol error", refused: false, detail: "a request longer than it said" });
        }
        this.#left -= size;
      }
      this.bytes.sent += size;
      writeBody(this.#stream, this.#framing, bytes, start, end);
    }
    if (ended) this.#finish(NO_FIELDS);
  }

  trailers(fields: FieldList): void {
    if (this.#over || this.#sent) return;
    this.bytes.headSent += wireBytes(fields);
    this.#finish(fields);
  }

  #finish(trailers: FieldList): void {
    if (this.#framing === "length" && this.#left > 0) {
      return this.reset({ kind: "protocol error", refused: false, detail: "a request shorter than it said" });
    }
    writeEnd(this.#stream, this.#framing, trailers);
    this.#sent = true;
    if (this.upgraded) this.#stream.end();
    this.#check();
  }

  // ---- the answer

  receiveHead(status: number, head: Head): void {
    if (this.#over) return;
    const fields = endToEnd(head.fields);
    if (status === 101) {
      if (this.#head.upgrade === "") {
        return this.reset({ kind: "protocol error", refused: false, detail: "an upgrade that nobody asked for" });
      }
      this.upgraded = true;
      this.#framing = "close";
    } else if (status < 200) {
      return this.receiver.informational(status, fields);
    }
    this.#answered = true;
    this.bytes.headReceived += head.bytes;
    const ended = status !== 101 && head.framing.kind === "none";
    if (ended) this.#received = true;
    this.receiver.head({
      status,
      headers: fields,
      version: head.line.minor === 1 ? "1.1" : "1.0",
      wireBytes: head.bytes,
    }, ended);
  }

  receive(bytes: Uint8Array, start: number, end: number, ended: boolean): void {
    if (this.#over) return this.#stream.consume(end - start);
    this.bytes.received += end - start;
    if (ended) this.#received = true;
    this.receiver.data(bytes, start, end, ended);
    if (ended) this.#check();
  }

  receiveEnd(trailers: FieldList): void {
    // An interim answer ends without being one.
    if (this.#over || !this.#answered || this.upgraded) return;
    const wasEnded = this.#received;
    this.#received = true;
    if (!wasEnded) {
      if (trailers.length > 0) this.receiver.trailers(trailers);
      else this.receiver.data(NO_BYTES, 0, 0, true);
    }
    this.#check();
  }

  consume(bytes: number): void {
    if (!this.#stream.closed) this.#stream.consume(bytes);
  }

  /** An answer that is whole before its request ends the connection: what is left of the request would be read as the next one. */
  #check(): void {
    if (this.#over || !this.#received) return;
    this.#over = true;
    this.#onEnd(this.#sent && !this.upgraded);
  }

  cut(cause: ExchangeCut): void {
    if (this.#over) return;
    this.#over = true;
    this.receiver.reset(cause);
  }

  reset(cause: ExchangeCut): void {
    if (this.#over) return;
    this.#over = true;
    if (cause.kind === "protocol error") this.receiver.reset(cause);
    this.#onEnd(false);
  }
}

/** Methods whose missing body is said as a length of zero. */
const BODY_EXPECTED = new Set(["POST", "PUT", "PATCH"]);
