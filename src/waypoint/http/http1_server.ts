/**
 * One client's HTTP/1.1 connection: requests come one after the other, each answered before the next is looked at.
 *
 * What arrives of the next request meanwhile is kept, and its credit with it: a client that pipelines waits for its own answers.
 */
import {
  type Fields,
  type Head,
  Http1Decoder,
  type Http1Fault,
  type Http1Limits,
  type Http1Sink,
  isHost,
  responseHead,
} from "../../protocol/http1/mod.ts";
import { Timer, type TimerTarget } from "../../net/reactor.ts";
import type { ByteSink, ByteStream, StreamCut } from "../transport/byte_stream.ts";
import { copyOf } from "../transport/copy.ts";
import type { RequestHead, ServerExchange } from "./exchange.ts";
import { endToEnd, first } from "./fields.ts";
import { Http1Exchange } from "./http1_exchange.ts";
import { writeText } from "./http1_writer.ts";
import type { Timing } from "./timing.ts";

export interface Http1ServerOptions {
  readonly limits: Http1Limits;
  readonly serverName: string;
  /** 0: none. Between requests, and from the first byte of a head to its end. */
  readonly idleTimeoutMs: number;
  readonly headersTimeoutMs: number;
  /** Protocols by Upgrade, lower case. */
  readonly upgrades: ReadonlySet<string>;
}

export interface HttpServerOwner {
  /** Set a receiver before returning if the request has a body. */
  request(exchange: ServerExchange): void;
  /** A message that is no request; it has been answered. For the log. */
  refused(fault: Http1Fault): void;
  /** The connection is over. */
  closed(reason: string): void;
}

/** How long a client that was told nothing yet may stay silent once the connection is to end. */
const DRAIN_IDLE_MS = 5_000;

export class Http1Server implements ByteSink, Http1Sink, TimerTarget {
  readonly #stream: ByteStream;
  readonly #options: Http1ServerOptions;
  readonly #owner: HttpServerOwner;
  readonly #timing: Timing;
  readonly #decoder: Http1Decoder;
  readonly #timer = new Timer(this);
  #exchange: Http1Exchange | undefined;
  /** Bytes behind the current request, whose credit is still ours. */
  #kept: Uint8Array[] = [];
  #reading = false;
  /** Passed on by the read under way. */
  #bodyBytes = 0;
  #draining = false;
  #last = false;
  #closed = false;

  constructor(stream: ByteStream, options: Http1ServerOptions, timing: Timing, owner: HttpServerOwner) {
    this.#stream = stream;
    this.#options = options;
    this.#timing = timing;
    this.#owner = owner;
    this.#decoder = new Http1Decoder("request", options.limits);
    stream.setSink(this);
    this.#waitForRequest();
  }

  get draining(): boolean {
    return this.#draining;
  }

  /** The next answer is the last, and says so. To close before would cross a request that is on the wire: a silent client is waited for, not long. */
  drain(): void {
    if (this.#draining) return;
    this.#draining = true;
    if (this.#exchange === undefined && this.#decoder.idle) this.#waitForRequest();
  }

  close(reason: string): void {
    this.#exchange?.cut({ kind: "connection lost", refused: false, detail: reason });
    this.#close(reason);
  }

  // ---- bytes

  data(bytes: Uint8Array, start: number, end: number, ended: boolean): void {
    if (this.#closed) return;
    if (this.#exchange?.upgraded === true) return this.#exchange.tunnelData(bytes, start, end, ended);
    if (end > start) {
      const at = this.#kept.length > 0 || this.#decoder.complete ? start : this.#read(bytes, start, end);
      if (this.#closed) return;
      if (at < end) this.#kept.push(copyOf(bytes, at, end));
      if (this.#decoder.complete && this.#exchange === undefined) this.#nextRequest();
    }
    if (ended && !this.#closed) this.#peerEnded();
  }

  #read(bytes: Uint8Array, start: number, end: number): number {
    if (this.#exchange === undefined && this.#decoder.idle && this.#options.headersTimeoutMs > 0) {
      this.#timing.setTimer(this.#timer, this.#options.headersTimeoutMs);
    }
    this.#reading = true;
    this.#bodyBytes = 0;
    const at = this.#decoder.read(bytes, start, end, this);
    this.#reading = false;
    // Heads and the lines around chunks are done with; a body's credit is its reader's to give.
    if (!this.#stream.closed) this.#stream.consume(at - start - this.#bodyBytes);
    if (this.#decoder.fault !== undefined) this.#fault(this.#decoder.fault);
    return at;
  }

  #peerEnded(): void {
    const fault = this.#decoder.readEof(this);
    if (fault !== undefined || this.#exchange === undefined) {
      this.#exchange?.cut({
        kind: "connection lost",
        refused: false,
        detail: "the client ended the connection in a request",
      });
      return this.#close("the client ended the connection");
    }
    // Its request is whole: it may still want the answer.
    this.#last = true;
  }

  writable(): void {
    this.#exchange?.streamWritable();
  }

  broken(cause: StreamCut): void {
    this.#exchange?.cut({ kind: "connection lost", refused: false, detail: cause.detail, stream: cause });
    this.#close(cause.detail);
  }

  // ---- messages

  head(head: Head): void {
    this.#timing.cancelTimer(this.#timer);
    const request = this.#requestHead(head);
    if (request === undefined) return;
    const exchange = new Http1Exchange(this.#stream, request, head, {
      isDraining: () => this.#draining || this.#last || head.close,
      ended: (reusable) => this.#ended(exchange, reusable),
    });
    this.#exchange = exchange;
    this.#owner.request(exchange);
  }

  #requestHead(head: Head): RequestHead | undefined {
    const { line, fields, framing } = head;
    if (line.kind !== "request") return undefined;
    const target = readTarget(line.method, line.target, first(fields, "host") ?? "");
    if (target === undefined) {
      this.#fault({ status: 400, detail: "http1.invalid_target" });
      return undefined;
    }
    const upgrade = requestedUpgrade(fields, this.#options.upgrades, line.minor);
    return {
      method: line.method,
      path: target.path,
      authority: target.authority,
      scheme: target.scheme,
      version: line.minor === 1 ? "1.1" : "1.0",
      headers: withoutHost(endToEnd(fields)),
      upgrade,
      contentLength: framing.kind === "length" ? framing.bytes : framing.kind === "none" ? 0 : -1,
      expectsContinue: line.minor === 1 && first(fields, "expect")?.toLowerCase() === "100-continue",
      wireBytes: head.bytes,
    };
  }

  body(bytes: Uint8Array, start: number, end: number): void {
    this.#bodyBytes += end - start;
    this.#exchange?.requestData(bytes, start, end);
  }

  complete(trailers: Fields): void {
    this.#exchange?.requestComplete(trailers);
  }

  /** An answer is whole. */
  #ended(exchange: Http1Exchange, reusable: boolean): void {
    if (this.#exchange !== exchange) return;
    this.#exchange = undefined;
    if (!reusable || this.#last) return this.#close("closed after the answer");
    if (!this.#reading) this.#nextRequest();
  }

  #nextRequest(): void {
    this.#decoder.next();
    this.#waitForRequest();
    while (this.#kept.length > 0 && !this.#closed && this.#exchange === undefined) {
      const bytes = this.#kept.shift() as Uint8Array;
      const at = this.#read(bytes, 0, bytes.length);
      if (this.#closed) return;
      if (at < bytes.length) this.#kept.unshift(bytes.subarray(at));
      if (this.#decoder.complete && this.#exchange === undefined) this.#decoder.next();
      else if (this.#decoder.complete) break;
    }
  }

  #waitForRequest(): void {
    const idleMs = this.#options.idleTimeoutMs, most = this.#draining ? DRAIN_IDLE_MS : Infinity;
    if (idleMs > 0 || this.#draining) this.#timing.setTimer(this.#timer, Math.min(most, idleMs || most));
  }

  expired(): void {
    if (this.#exchange !== undefined || this.#closed) return;
    if (this.#decoder.idle) return this.#close(this.#draining ? "drained" : "idle for too long");
    this.#answer(408, "Request Timeout");
    this.#close("a request's head did not come in time");
  }

  #fault(fault: Http1Fault): void {
    this.#owner.refused(fault);
    if (this.#exchange === undefined) this.#answer(fault.status, FAULT_BODIES[fault.status]);
    else this.#exchange.cut({ kind: "protocol error", refused: false, detail: fault.detail });
    this.#close(fault.detail);
  }

  #answer(status: number, body: string): void {
    const fields = [
      "content-length",
      String(body.length),
      "content-type",
      "text/plain",
      "server",
      this.#options.serverName,
      "connection",
      "close",
    ];
    writeText(this.#stream, responseHead(status, fields) + body);
  }

  #close(reason: string): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#timing.cancelTimer(this.#timer);
    this.#decoder.close();
    this.#kept = [];
    if (!this.#stream.closed) this.#stream.end();
    this.#owner.closed(reason);
  }
}

const FAULT_BODIES: Readonly<Record<Http1Fault["status"], string>> = {
  400: "Bad Request",
  426: "Upgrade Required",
  431: "Request Header Fields Too Large",
  501: "Not Implemented",
  505: "HTTP Version Not Supported",
};

/** Origin, absolute, asterisk and authority form, RFC 9112 section 3.2. An absolute target's host counts, not the Host header's. */
function readTarget(
  method: string,
  target: string,
  host: string,
): { readonly path: string; readonly authority: string; readonly scheme: string } | undefined {
  if (!isHost(host)) return undefined;
  if (method === "CONNECT") {
    return isHost(target) && target !== "" ? { path: "", authority: target, scheme: "" } : undefined;
  }
  if (target.startsWith("/")) return { path: target, authority: host, scheme: "" };
  if (target === "*") return method === "OPTIONS" ? { path: "*", authority: host, scheme: "" } : undefined;
  const absolute = /^(https?):\/\/([^/?#]+)(.*)$/i.exec(target);
  if (absolute === null || !isHost(absolute[2])) return undefined;
  const rest = absolute[3];
  return {
    path: rest === "" ? "/" : rest.startsWith("/") ? rest : `/${rest}`,
    authority: absolute[2],
    scheme: absolute[1].toLowerCase(),
  };
}

function withoutHost(fields: string[]): string[] {
  let to = 0;
  for (let from = 0; from < fields.length; from += 2) {
    if (fields[from] === "host") continue;
    fields[to] = fields[from];
    fields[to + 1] = fields[from + 1];
    to += 2;
  }
  fields.length = to;
  return fields;
}

/** The protocol that a request would switch to; "" none, or one that the chain does not take: then it is an ordinary request. */
function requestedUpgrade(fields: readonly string[], taken: ReadonlySet<string>, minor: 0 | 1): string {
  const wanted = first(fields, "upgrade")?.toLowerCase() ?? "";
  const connection = first(fields, "connection")?.toLowerCase() ?? "";
  return minor === 1 && taken.has(wanted) && connection.includes("upgrade") ? wanted : "";
}
