/** One client connection's side of a closed loop: the bytes of a request, and whether an answer is whole and right. */

export interface RequestFacts {
  readonly path: string;
  readonly host: string;
  /** Of the Authorization header; empty: none. */
  readonly token: string;
  /** Of every answer. */
  readonly bodyBytes: number;
}

export interface Exchange {
  /** Whole answers so far. */
  readonly answers: number;
  /** The bytes of the next request. */
  next(): Uint8Array;
  /** Takes what was received; true when the answer is whole. Throws when it is not the one expected. */
  receive(bytes: Uint8Array, length: number): boolean;
  /** What the protocol has to say besides requests. */
  reply(): Uint8Array | undefined;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const STATUS_OK = encoder.encode("HTTP/1.1 200");
const CR = 13;
const LF = 10;

export class Http1Exchange implements Exchange {
  answers = 0;
  readonly #request: Uint8Array;
  readonly #bodyBytes: number;
  /** The header as far as it came, when it came in pieces. */
  #head: Uint8Array | undefined;
  /** Of the body; negative while the header is not whole. */
  #missing = -1;

  constructor({ path, host, token, bodyBytes }: RequestFacts) {
    const authorization = token === "" ? "" : `Authorization: Bearer ${token}\r\n`;
    this.#request = encoder.encode(
      `GET ${path} HTTP/1.1\r\nHost: ${host}\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\n${authorization}\r\n`,
    );
    this.#bodyBytes = bodyBytes;
  }

  next(): Uint8Array {
    this.#missing = -1;
    return this.#request;
  }

  reply(): undefined {
    return undefined;
  }

  receive(bytes: Uint8Array, length: number): boolean {
    if (this.#missing >= 0) this.#missing -= length;
    else this.#receiveHead(bytes, length);
    if (this.#missing < -1) throw new Error("load: more bytes than the answer's length");
    if (this.#missing !== 0) return false;
    this.answers++;
    return true;
  }

  #receiveHead(bytes: Uint8Array, length: number): void {
    let head = bytes.subarray(0, length);
    if (this.#head !== undefined) {
      const joined = new Uint8Array(this.#head.length + length);
      joined.set(this.#head);
      joined.set(head, this.#head.length);
      head = joined;
      this.#head = undefined;
    }
    const end = endOfHead(head);
    if (end < 0) {
      this.#head = head.slice();
      return;
    }
    for (let i = 0; i < STATUS_OK.length; i++) {
      if (head[i] !== STATUS_OK[i]) throw new Error(`load: not 200: ${decoder.decode(head.subarray(0, 300))}`);
    }
    if (this.answers === 0) {
      const text = decoder.decode(head.subarray(0, end)).toLowerCase();
      if (!text.includes(`\r\ncontent-length: ${this.#bodyBytes}\r\n`)) throw new Error(`load: wrong length: ${text}`);
    }
    this.#missing = end + this.#bodyBytes - head.length;
    if (this.#missing < 0) throw new Error("load: more bytes than the answer's length");
  }
}

function endOfHead(bytes: Uint8Array): number {
  for (let i = 3; i < bytes.length; i++) {
    if (bytes[i] === LF && bytes[i - 1] === CR && bytes[i - 2] === LF && bytes[i - 3] === CR) return i + 1;
  }
  return -1;
}

/** Frame types and flags of RFC 9113. */
export const DATA = 0;
export const HEADERS = 1;
const RST_STREAM = 3;
export const SETTINGS = 4;
export const PING = 6;
const GOAWAY = 7;
export const WINDOW_UPDATE = 8;
export const END_STREAM = 1;
export const ACK = 1;
export const END_HEADERS = 4;
export const FRAME_HEAD_BYTES = 9;
export const PREFACE = encoder.encode("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
/** The connection's window is renewed when this much came. */
const RENEW_BYTES = 1 << 20;
const WINDOW_BYTES = 1 << 24;
/** ":status: 200" of HPACK's static table. */
export const STATUS_200 = 0x88;

/** One request at a time; what the header block of an answer says besides its status is not looked at. */
export class Http2Exchange implements Exchange {
  answers = 0;
  readonly #request: Uint8Array;
  readonly #bodyBytes: number;
  #stream = -1;
  #left: Uint8Array | undefined;
  #body = 0;
  #unacknowledged = 0;
  #reply: Uint8Array[] = [];

  constructor({ path, host, token, bodyBytes }: RequestFacts) {
    const block = [
      0x82,
      0x86,
      ...literal(":path", path),
      ...literal(":authority", host),
      ...literal("user-agent", "bench/1.0"),
    ];
    if (token !== "") block.push(...literal("authorization", `Bearer ${token}`));
    this.#request = frame(HEADERS, END_STREAM | END_HEADERS, 0, Uint8Array.from(block));
    this.#bodyBytes = bodyBytes;
  }

  next(): Uint8Array {
    const first = this.#stream < 0;
    this.#stream = first ? 1 : this.#stream + 2;
    this.#body = 0;
    new DataView(this.#request.buffer).setUint32(5, this.#stream);
    if (!first) return this.#request;
    const settings = frame(SETTINGS, 0, 0, Uint8Array.from([0, 2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0]));
    return concat([PREFACE, settings, windowUpdate(WINDOW_BYTES), this.#request]);
  }

  reply(): Uint8Array | undefined {
    if (this.#reply.length === 0) return undefined;
    const bytes = concat(this.#reply);
    this.#reply = [];
    return bytes;
  }

  receive(bytes: Uint8Array, length: number): boolean {
    let done = false;
    this.#left = eachFrame(this.#left, bytes, length, (type, flags, stream, input, start, end) => {
      if (type === SETTINGS && (flags & ACK) === 0) this.#reply.push(frame(SETTINGS, ACK, 0, new Uint8Array(0)));
      else if (type === PING && (flags & ACK) === 0) this.#reply.push(frame(PING, ACK, 0, input.slice(start, end)));
      else if (type === GOAWAY || type === RST_STREAM) throw new Error(`load: frame of type ${type} came`);
      else if (type === HEADERS) this.#head(flags, stream, input, start);
      else if (type === DATA) this.#data(end - start);
      if ((type === DATA || type === HEADERS) && (flags & END_STREAM) !== 0) done = true;
    });
    if (!done) return false;
    if (this.#body !== this.#bodyBytes) throw new Error(`load: ${this.#body} bytes of body`);
    this.answers++;
    return true;
  }

  #head(flags: number, stream: number, bytes: Uint8Array, start: number): void {
    if (stream !== this.#stream) throw new Error(`load: stream ${stream} was not asked for`);
    if ((flags & END_HEADERS) === 0) throw new Error("load: header block in pieces");
    // A change of the table's size may stand before it (RFC 7541 6.3).
    let at = start;
    while ((bytes[at]! & 0xe0) === 0x20) {
      if ((bytes[at]! & 0x1f) === 0x1f) { while ((bytes[++at]! & 0x80) !== 0); }
      at++;
    }
    if (bytes[at] !== STATUS_200) throw new Error(`load: the answer's status is not 200 (${bytes[at]})`);
  }

  #data(length: number): void {
    this.#body += length;
    this.#unacknowledged += length;
    if (this.#unacknowledged < RENEW_BYTES) return;
    this.#reply.push(windowUpdate(this.#unacknowledged));
    this.#unacknowledged = 0;
  }
}

type OnFrame = (type: number, flags: number, stream: number, bytes: Uint8Array, start: number, end: number) => void;

/** Calls for each whole frame; returns a copy of what is left. */
export function eachFrame(
  left: Uint8Array | undefined,
  bytes: Uint8Array,
  length: number,
  onFrame: OnFrame,
): Uint8Array | undefined {
  const input = left === undefined ? bytes : concat([left, bytes.subarray(0, length)]);
  const total = left === undefined ? length : input.length;
  let at = 0;
  while (total - at >= FRAME_HEAD_BYTES) {
    const payload = (input[at]! << 16) | (input[at + 1]! << 8) | input[at + 2]!;
    const start = at + FRAME_HEAD_BYTES;
    if (total - start < payload) break;
    const stream = ((input[at + 5]! & 0x7f) << 24) | (input[at + 6]! << 16) | (input[at + 7]! << 8) | input[at + 8]!;
    onFrame(input[at + 3]!, input[at + 4]!, stream, input, start, start + payload);
    at = start + payload;
  }
  return at === total ? undefined : input.slice(at, total);
}

export function frame(type: number, flags: number, stream: number, payload: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(FRAME_HEAD_BYTES + payload.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, (payload.length << 8) | type);
  bytes[4] = flags;
  view.setUint32(5, stream);
  bytes.set(payload, FRAME_HEAD_BYTES);
  return bytes;
}

export function windowUpdate(bytes: number): Uint8Array {
  const payload = new Uint8Array(4);
  new DataView(payload.buffer).setUint32(0, bytes);
  return frame(WINDOW_UPDATE, 0, 0, payload);
}

/** A header field that enters no table (RFC 7541 6.2.2), without Huffman. */
export function literal(name: string, value: string): number[] {
  return [0, ...text(name), ...text(value)];
}

function text(value: string): number[] {
  const bytes = [...encoder.encode(value)];
  if (bytes.length < 127) return [bytes.length, ...bytes];
  const size = [127];
  let rest = bytes.length - 127;
  for (; rest >= 128; rest >>= 7) size.push((rest & 0x7f) | 0x80);
  return [...size, rest, ...bytes];
}

export function concat(pieces: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}
