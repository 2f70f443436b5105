/** One request and its answer on a client's HTTP/1.1 connection. */
import { type Head, responseHead } from "../../protocol/http1/mod.ts";
import type { ByteStream } from "../transport/byte_stream.ts";
import type { BodyReceiver, ExchangeBytes, ExchangeCut, FieldList, RequestHead, ServerExchange } from "./exchange.ts";
import { endToEnd, first, wireBytes } from "./fields.ts";
import { type BodyFraming, writeBody, writeEnd, writeText } from "./http1_writer.ts";

export interface Http1ExchangeOwner {
  /** The connection takes no request after this one. */
  isDraining(): boolean;
  /** The answer is whole. `reusable`: the connection can take another request. */
  ended(reusable: boolean): void;
}

const NO_FIELDS: FieldList = [];

export class Http1Exchange implements ServerExchange {
  readonly head: RequestHead;
  readonly bytes: ExchangeBytes;
  bodyEnded: boolean;
  upgraded = false;
  readonly #stream: ByteStream;
  readonly #owner: Http1ExchangeOwner;
  #receiver: BodyReceiver | undefined;
  #framing: BodyFraming = "none";
  #answered = false;
  #ended = false;
  #close = false;
  /** Of an answer with a content-length: what is missing. */
  #left = 0;
  readonly #isHead: boolean;

  constructor(stream: ByteStream, head: RequestHead, wire: Head, owner: Http1ExchangeOwner) {
    this.#stream = stream;
    this.head = head;
    this.#owner = owner;
    this.#isHead = head.method === "HEAD";
    this.bodyEnded = wire.framing.kind === "none";
    this.bytes = { received: 0, sent: 0, headReceived: wire.bytes, headSent: 0 };
  }

  // ---- the request

  setReceiver(receiver: BodyReceiver): void {
    this.#receiver = receiver;
  }

  consume(bytes: number): void {
    this.#stream.consume(bytes);
  }

  requestData(bytes: Uint8Array, start: number, end: number): void {
    this.bytes.received += end - start;
    // Nobody wants it any more: the answer is over, or never looked at it.
    if (this.#receiver === undefined || this.#ended) this.#stream.consume(end - start);
    else this.#receiver.data(bytes, start, end, false);
  }

  requestComplete(trailers: FieldList): void {
    if (this.bodyEnded) return;
    this.bodyEnded = true;
    if (this.#ended) return;
    if (trailers.length > 0) this.#receiver?.trailers(trailers);
    else this.#receiver?.data(NO_BYTES, 0, 0, true);
  }

  /** After an upgrade. */
  tunnelData(bytes: Uint8Array, start: number, end: number, ended: boolean): void {
    this.bytes.received += end - start;
    if (this.#receiver === undefined) this.#stream.consume(end - start);
    else this.#receiver.data(bytes, start, end, ended);
  }

  /** The connection is lost, or the message was none. */
  cut(cause: ExchangeCut): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#receiver?.reset(cause);
  }

  streamWritable(): void {
    if (!this.#ended) this.#receiver?.writable();
  }

  // ---- the answer

  informational(status: number, headers: FieldList): void {
    if (this.#answered || this.#ended || this.head.version === "1.0") return;
    this.#write(responseHead(status, endToEnd(headers)));
  }

  respond(head: { readonly status: number; readonly headers: FieldList }, ended: boolean): void {
    if (this.#answered || this.#ended) return;
    this.#answered = true;
    if (head.status === 101) return this.#switch(head.headers);
    const fields = endToEnd(head.headers);
    this.#frame(head.status, fields, ended);
    // A request that is not whole would be read as the next one's head.
    this.#close ||= this.#owner.isDraining() || !this.bodyEnded;
    if (this.#close) fields.push("connection", "close");
    else if (this.head.version === "1.0") fields.push("connection", "keep-alive");
    this.#write(responseHead(head.status, fields));
    if (ended || this.#framing === "none") this.#finish();
  }

  /** How the body's end is found by a client, and so what it may hold. */
  #frame(status: number, fields: FieldList, ended: boolean): void {
    const bodiless = this.#isHead || status === 204 || status === 304;
    const length = first(fields, "content-length");
    if (bodiless) {
      this.#framing = "none";
    } else if (length !== undefined && !ended) {
      this.#framing = "length";
      this.#left = Number(length);
    } else if (ended) {
      this.#framing = "none";
      if (length === undefined) fields.push("content-length", "0");
    } else if (this.head.version === "1.1") {
      this.#framing = "chunked";
      fields.push("transfer-encoding", "chunked");
    } else {
      this.#framing = "close";
      this.#close = true;
    }
  }

  #switch(headers: FieldList): void {
    const fields = endToEnd(headers);
    fields.push("connection", "upgrade", "upgrade", this.head.upgrade);
    this.#write(responseHead(101, fields));
    this.upgraded = true;
    this.#framing = "close";
    this.#close = true;
  }

  #write(head: string): void {
    this.bytes.headSent += head.length;
    writeText(this.#stream, head);
  }

  get queued(): number {
    return this.#stream.queued;
  }

  data(bytes: Uint8Array, start: number, end: number, ended: boolean): void {
    if (this.#ended || !this.#answered || (this.#framing === "none" && !this.upgraded)) return;
    const size = end - start;
    if (size > 0) {
      if (this.#framing === "length") {
        // One byte more would be the head of the next answer.
        if (size > this.#left) {
          return this.reset({ kind: "protocol error", refused: false, detail: "an answer longer than it said" });
        }
        this.#left -= size;
      }
      this.bytes.sent += size;
      writeBody(this.#stream, this.#framing, bytes, start, end);
    }
    if (ended) this.#finish();
  }

  trailers(fields: FieldList): void {
    if (this.#ended || !this.#answered) return;
    this.bytes.headSent += wireBytes(fields);
    this.#finish(fields);
  }

  #finish(trailers: FieldList = NO_FIELDS): void {
    if (this.#framing === "length" && this.#left > 0) {
      return this.reset({ kind: "protocol error", refused: false, detail: "an answer shorter than it said" });
    }
    writeEnd(this.#stream, this.#framing, trailers);
    if (this.upgraded) return this.#stream.end();
    this.#ended = true;
    this.#owner.ended(!this.#close && this.bodyEnded);
  }

  reset(_cause: ExchangeCut): void {
    if (this.#ended) return;
    this.#ended = true;
    // An answer that stops in its middle must not look whole.
    if (this.#answered) this.#stream.reset();
    this.#owner.ended(false);
  }
}

const NO_BYTES = new Uint8Array(0);
