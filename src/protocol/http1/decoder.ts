/**
 * One side of an HTTP/1.1 connection, reading: RFC 9112. Sans-io.
 *
 * Takes the byte stream in any split. It stops behind each message until `next`: a server must not look at a pipelined request before it has
 * answered the one before, and after an upgrade the bytes are not HTTP's any more.
 */
import { Buffer } from "node:buffer";
import { ChunkReader } from "./chunks.ts";
import { fail, Http1Error, parseRequestHead, parseResponseHead, readFields } from "./head.ts";
import type { Fields, Framing, Head, Http1Fault, Http1Limits, Http1Sink } from "./types.ts";

const CR = 13;
const LF = 10;
const NO_FIELDS: Fields = [];
const NO_BYTES = new Uint8Array(0);
const HEAD_BYTES = 1024;

/** Fields that would change what the message before them was; RFC 9110 section 6.5.1 lets nobody send them as trailers. */
const NOT_IN_TRAILERS = new Set([
  "transfer-encoding",
  "content-length",
  "host",
  "connection",
  "keep-alive",
  "te",
  "trailer",
  "upgrade",
  "content-encoding",
  "content-type",
  "content-range",
  "authorization",
  "proxy-authorization",
  "cookie",
  "set-cookie",
  "expect",
  "max-forwards",
]);

type State = "head" | "body" | "trailers" | "complete" | "failed";

export class Http1Decoder {
  readonly #role: "request" | "response";
  readonly #limits: Http1Limits;
  readonly #chunks = new ChunkReader();
  #state: State = "head";
  #framing: Framing = { kind: "none" };
  /** Of a body with a length: bytes that are missing. */
  #left = 0;
  /** A head, or a trailer section, that has not ended yet. */
  #kept: Uint8Array<ArrayBufferLike> = NO_BYTES;
  #keptLength = 0;
  /** Of the request that the next response answers. */
  #method = "";
  #sink: Http1Sink | undefined;
  fault: Http1Fault | undefined;

  constructor(role: "request" | "response", limits: Http1Limits) {
    this.#role = role;
    this.#limits = limits;
  }

  /** Nothing of the next message has been seen. */
  get idle(): boolean {
    return this.#state === "head" && this.#keptLength === 0;
  }

  /** The message is whole, and what follows is not looked at before `next`. */
  get complete(): boolean {
    return this.#state === "complete";
  }

  /** The method of the request that the next response answers: it decides whether there is a body. */
  expect(method: string): void {
    this.#method = method;
  }

  /** Begins the next message. A response decoder also after an interim response. */
  next(): void {
    if (this.#state !== "failed") this.#state = "head";
  }

  /** Reads `bytes[start..end)` up to the end of the message. Returns where it stopped; `end` unless `complete`, or `fault` is set. */
  read(bytes: Uint8Array, start: number, end: number, sink: Http1Sink): number {
    this.#sink = sink;
    try {
      let at = start;
      while (at < end && this.#state !== "complete" && this.#state !== "failed") at = this.#step(bytes, at, end);
      return at;
    } catch (error) {
      if (!(error instanceof Http1Error)) throw error;
      this.#fail(error.fault);
      return end;
    } finally {
      this.#sink = undefined;
    }
  }

  /** The stream ended. Undefined where that is in order: between messages, or as the end of a response's body. */
  readEof(sink: Http1Sink): Http1Fault | undefined {
    if (this.#state === "failed" || this.#state === "complete" || this.idle) return undefined;
    if (this.#state === "body" && this.#framing.kind === "close") {
      this.#state = "complete";
      sink.complete(NO_FIELDS);
      return undefined;
    }
    this.#fail({ status: 400, detail: "http1.incomplete_message" });
    return this.fault;
  }

  /** Lets go of what it kept. */
  close(): void {
    this.#state = "failed";
    this.#kept = NO_BYTES;
    this.#keptLength = 0;
  }

  #step(bytes: Uint8Array, start: number, end: number): number {
    if (this.#state !== "body") return this.#readSection(bytes, start, end);
    switch (this.#framing.kind) {
      case "length": {
        const stop = Math.min(end, start + this.#left);
        this.#left -= stop - start;
        this.#sink!.body(bytes, start, stop);
        if (this.#left === 0) this.#end(NO_FIELDS);
        return stop;
      }
      case "chunked": {
        const at = this.#chunks.read(bytes, start, end, (from, to) => this.#sink!.body(bytes, from, to));
        if (this.#chunks.atTrailers) this.#state = "trailers";
        return at;
      }
      default:
        this.#sink!.body(bytes, start, end);
        return end;
    }
  }

  /** A head or a trailer section: up to its empty line. */
  #readSection(bytes: Uint8Array, start: number, end: number): number {
    const stop = this.#findEnd(bytes, start, end);
    if (stop < 0) {
      this.#keep(bytes, start, end);
      return end;
    }
    if (this.#keptLength === 0) {
      if (stop - start > this.#limits.maxHeadBytes) fail("http1.headers_too_large", 431);
      this.#section(latin1(bytes, start, stop));
    } else {
      this.#keep(bytes, start, stop);
      const text = latin1(this.#kept, 0, this.#keptLength);
      this.#keptLength = 0;
      if (this.#kept.length > 4 * HEAD_BYTES) this.#kept = NO_BYTES;
      this.#section(text);
    }
    return stop;
  }

  /** Behind the empty line, or -1 when it has not come. An empty section is the empty line alone. */
  #findEnd(bytes: Uint8Array, start: number, end: number): number {
    // Its four bytes may lie across what was kept: look at these first.
    const total = this.#keptLength;
    for (let i = start; i < end && i < start + 3; i++) {
      if (bytes[i] === LF && this.#endsAt(bytes, start, i, total)) return i + 1;
    }
    for (let i = bytes.indexOf(LF, start + 3); i >= 0 && i < end; i = bytes.indexOf(LF, i + 1)) {
      if (bytes[i - 1] === CR && bytes[i - 2] === LF && bytes[i - 3] === CR) return i + 1;
    }
    return -1;
  }

  /** `bytes[i]` is a LF among the first three: do the three before it, kept ones included, make an empty line? */
  #endsAt(bytes: Uint8Array, start: number, i: number, kept: number): boolean {
    const before = (back: number): number => {
      const at = i - back;
      if (at >= start) return bytes[at];
      const keptAt = kept - (start - at);
      return keptAt >= 0 ? this.#kept[keptAt] : -1;
    };
    if (before(1) !== CR) return false;
    if (this.#state === "trailers" && i - start + kept === 1) return true;
    return before(2) === LF && before(3) === CR;
  }

  #keep(bytes: Uint8Array, start: number, end: number): void {
    const needed = this.#keptLength + end - start;
    if (needed > this.#limits.maxHeadBytes) fail("http1.headers_too_large", 431);
    if (this.#kept.length < needed) {
      const larger = new Uint8Array(Math.max(HEAD_BYTES, Math.min(2 * needed, this.#limits.maxHeadBytes)));
      larger.set(this.#kept.subarray(0, this.#keptLength));
      this.#kept = larger;
    }
    this.#kept.set(bytes.subarray(start, end), this.#keptLength);
    this.#keptLength = needed;
  }

  /** `text` ends with the empty line. */
  #section(text: string): void {
    if (this.#state === "trailers") return this.#end(this.#trailers(text));
    const isRequest = this.#role === "request";
    // One empty line before a request is tolerated, RFC 9112 section 2.2: old clients send it after a body.
    const lines = text.slice(isRequest && text.startsWith("\r\n") ? 2 : 0, -2);
    const head: Head = isRequest
      ? parseRequestHead(lines, text.length, this.#limits)
      : parseResponseHead(lines, text.length, this.#limits, this.#method);
    this.#framing = head.framing;
    this.#state = "body";
    if (head.framing.kind === "length") this.#left = head.framing.bytes;
    else if (head.framing.kind === "chunked") this.#chunks.reset();
    this.#sink!.head(head);
    if (head.framing.kind === "none" && this.#state === "body") this.#end(NO_FIELDS);
  }

  #trailers(text: string): Fields {
    if (text.length === 2) return NO_FIELDS;
    const { fields } = readFields(text.slice(0, -2), 0, this.#limits);
    const kept: Fields = [];
    for (let i = 0; i < fields.length; i += 2) {
      if (!NOT_IN_TRAILERS.has(fields[i])) kept.push(fields[i], fields[i + 1]);
    }
    return kept;
  }

  #end(trailers: Fields): void {
    this.#state = "complete";
    this.#sink!.complete(trailers);
  }

  #fail(fault: Http1Fault): void {
    this.close();
    this.fault = fault;
  }
}

/** Without a Buffer around the bytes, which costs more than reading a head. */
const { latin1Slice } = Buffer.prototype as unknown as {
  readonly latin1Slice: (this: Uint8Array, start: number, end: number) => string;
};

function latin1(bytes: Uint8Array, start: number, end: number): string {
  return latin1Slice.call(bytes, start, end);
}
