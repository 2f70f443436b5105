/**
 * HTTP's messages between a codec and the engine, alike for HTTP/1.1 and HTTP/2, downstream and upstream.
 *
 * Names are lower case; each character of a value is one byte. Bodies follow the stream's rules: views until return, credit by `consume`.
 */
import type { StreamCut } from "../transport/byte_stream.ts";

/** Name, value, name, value, … in the order of the wire, without pseudo-headers and without what belongs to one connection alone. */
export type FieldList = string[];

export interface RequestHead {
  method: string;
  /** With the query. `*` for OPTIONS. */
  path: string;
  /** `""` when HTTP/1.0 sent none. */
  authority: string;
  scheme: string;
  readonly version: "1.0" | "1.1" | "2";
  headers: FieldList;
  /** The protocol asked for by Upgrade, or by extended CONNECT; "" none. */
  upgrade: string;
  /** Known length of the body; -1 when it ends with the stream or by chunks. */
  readonly contentLength: number;
  /** `expect: 100-continue`: the client waits. */
  readonly expectsContinue: boolean;
  /** Bytes of the head on the wire, for metrics. */
  readonly wireBytes: number;
}

export interface ResponseHead {
  status: number;
  headers: FieldList;
  readonly version: "1.0" | "1.1" | "2";
  readonly wireBytes: number;
}

/** The body and end of a message that comes in. */
export interface BodyReceiver {
  data(bytes: Uint8Array, start: number, end: number, ended: boolean): void;
  /** After the last data; ends the message. */
  trailers(fields: FieldList): void;
  /** The other side takes bytes again. */
  writable(): void;
  /** The exchange is over before its end. Nothing follows. */
  reset(cause: ExchangeCut): void;
}

/** How an exchange was cut. `refused`: the peer surely did not act on it, so it may be tried again elsewhere. */
export interface ExchangeCut {
  readonly kind: "peer reset" | "connection lost" | "protocol error" | "overload" | "cancelled";
  readonly refused: boolean;
  readonly detail: string;
  readonly stream?: StreamCut;
}

/** One request of a client, held by the engine. */
export interface ServerExchange {
  readonly head: RequestHead;
  /** The request has no body. */
  readonly bodyEnded: boolean;
  setReceiver(receiver: BodyReceiver): void;
  consume(bytes: number): void;
  informational(status: number, headers: FieldList): void;
  /** Once. Without a body when `ended`. The codec adds the framing, date and connection headers. */
  respond(head: { readonly status: number; readonly headers: FieldList }, ended: boolean): void;
  /** Takes all. Stop at `queued >= HIGH_WATER_BYTES` until `writable`. */
  data(bytes: Uint8Array, start: number, end: number, ended: boolean): void;
  trailers(fields: FieldList): void;
  readonly queued: number;
  /** After a response that switched protocols (101, or 200 to extended CONNECT): from now on bytes without framing. */
  readonly upgraded: boolean;
  /** Cuts it: RST_STREAM, or the end of the connection. */
  reset(cause: ExchangeCut): void;
  /** Body and head bytes, both ways, for logs and metrics. */
  readonly bytes: ExchangeBytes;
}

export interface ExchangeBytes {
  /** Body bytes. */
  received: number;
  sent: number;
  /** Heads and trailers on the wire. */
  headReceived: number;
  headSent: number;
}

/** One request to an endpoint, held by the engine. */
export interface ClientExchange {
  data(bytes: Uint8Array, start: number, end: number, ended: boolean): void;
  trailers(fields: FieldList): void;
  readonly queued: number;
  consume(bytes: number): void;
  /** The engine does not want the rest. */
  reset(cause: ExchangeCut): void;
  readonly bytes: ExchangeBytes;
}

export interface ResponseReceiver extends BodyReceiver {
  informational(status: number, headers: FieldList): void;
  /** The final response. */
  head(head: ResponseHead, ended: boolean): void;
}

/** One connection to an endpoint that speaks HTTP. */
export interface ClientConnection {
  /** Undefined: not now (HTTP/1.1 busy, no stream left, going away). */
  request(head: RequestHead, ended: boolean, receiver: ResponseReceiver): ClientExchange | undefined;
  readonly available: boolean;
  readonly activeRequests: number;
  /** No new requests; ends when the last is over. */
  drain(): void;
  close(reason: string): void;
}

export interface ClientConnectionOwner {
  /** Room for a request appeared, or went away. */
  availableChanged(connection: ClientConnection): void;
  closed(connection: ClientConnection, reason: string): void;
}
