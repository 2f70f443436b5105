/** The contract of the HTTP/1.1 codec, RFC 9112. Sans-io. */

/** Name, value, name, value, …: names in lower case, values without the spaces around them, in the order of the wire. */
export type Fields = string[];

/** What is wrong with a message, and the status a server answers it with. `detail` is Envoy's text where it has one. */
export interface Http1Fault {
  readonly status: 400 | 426 | 431 | 501 | 505;
  readonly detail: string;
}

export interface RequestLine {
  readonly kind: "request";
  readonly method: string;
  /** As it came: origin, absolute, authority or asterisk form. */
  readonly target: string;
  readonly minor: 0 | 1;
}

export interface StatusLine {
  readonly kind: "response";
  readonly status: number;
  readonly minor: 0 | 1;
}

/** How the end of a body is found. */
export type Framing =
  | { readonly kind: "none" }
  | { readonly kind: "length"; readonly bytes: number }
  | { readonly kind: "chunked" }
  /** With the connection. Responses only. */
  | { readonly kind: "close" };

export interface Head<Line = RequestLine | StatusLine> {
  readonly line: Line;
  readonly fields: Fields;
  /** The names as the peer wrote them, in the order of `fields`, where that was asked for. */
  readonly spelling: readonly string[] | undefined;
  readonly framing: Framing;
  /** The connection ends after this message, as far as the peer is concerned. */
  readonly close: boolean;
  /** On the wire, with the empty line. */
  readonly bytes: number;
}

export interface Http1Limits {
  /** Of one head, or of all trailers. */
  readonly maxHeadBytes: number;
  readonly maxFields: number;
  /** HTTP/1.0 requests are served; otherwise they are a fault with status 426. */
  readonly acceptHttp10: boolean;
  readonly keepSpelling: boolean;
}

export interface Http1Sink {
  head(head: Head): void;
  /** A view, valid until return. Never empty. */
  body(bytes: Uint8Array, start: number, end: number): void;
  /** The message is whole. `trailers` is empty unless a chunked body carried some. */
  complete(trailers: Fields): void;
}
