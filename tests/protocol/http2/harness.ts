/** Tools of the HTTP/2 tests: frames as bytes, connections that record their events, and two of them joined. */
import { Buffer } from "node:buffer";
import {
  type BufferPool,
  type Fields,
  Http2Connection,
  type Http2Handlers,
  type Http2Options,
  type Http2Stream,
} from "../../../src/protocol/http2/mod.ts";
import { Flag, FrameType, PREFACE } from "../../../src/protocol/http2/constants.ts";
import { HpackDecoder } from "../../../src/protocol/http2/hpack_decoder.ts";
import { HpackEncoder } from "../../../src/protocol/http2/hpack_encoder.ts";

/** A pool that counts what is out, to bound memory and find buffers that never come back. */
export class CountingPool implements BufferPool {
  outBytes = 0;
  peakBytes = 0;
  #out = new Set<Uint8Array>();

  take(minBytes: number): Uint8Array {
    const buffer = new Uint8Array(minBytes);
    this.#out.add(buffer);
    this.outBytes += buffer.length;
    this.peakBytes = Math.max(this.peakBytes, this.outBytes);
    return buffer;
  }

  give(buffer: Uint8Array): void {
    if (!this.#out.delete(buffer)) throw new Error("a buffer was given back twice, or was never taken");
    this.outBytes -= buffer.length;
  }
}

export function options(role: "client" | "server", changes: Partial<Http2Options> = {}): Http2Options {
  return {
    role,
    initialWindowBytes: 65_535,
    connectionWindowBytes: 65_535,
    maxFrameBytes: 16_384,
    maxHeaderListBytes: 16_384,
    maxConcurrentStreams: 100,
    maxOutputBytes: 262_144,
    pingIntervalMs: 0,
    pingTimeoutMs: 20_000,
    settingsTimeoutMs: 0,
    bufferPool: new CountingPool(),
    ...changes,
  };
}

/** What the stream's owner keeps in these tests. */
export interface Seen {
  data: string;
}

/** A connection that logs every event as one line, and runs `on` hooks so that a test can act inside an event. */
export class Peer {
  readonly events: string[] = [];
  readonly connection: Http2Connection<Seen>;
  readonly pool: CountingPool;
  /** Streams known, by id. */
  readonly streams = new Map<number, Http2Stream<Seen>>();
  /** Consume DATA as soon as it arrives. */
  autoConsume = true;
  on: Partial<Http2Handlers<Seen>> = {};

  constructor(opts: Http2Options, nowMs = 0) {
    this.pool = opts.bufferPool as CountingPool;
    this.connection = new Http2Connection<Seen>(opts, this.#handlers(), nowMs);
  }

  #handlers(): Http2Handlers<Seen> {
    const { events } = this;
    return {
      headers: (stream, fields, endStream) => {
        if (stream.user === undefined) stream.user = { data: "" };
        this.streams.set(stream.id, stream);
        events.push(`headers ${stream.id} ${show(fields)}${endStream ? " end" : ""}`);
        this.on.headers?.(stream, fields, endStream);
      },
      trailers: (stream, fields) => {
        events.push(`trailers ${stream.id} ${show(fields)}`);
        this.on.trailers?.(stream, fields);
      },
      data: (stream, bytes, start, end, endStream) => {
        stream.user.data += latin1(bytes.subarray(start, end));
        if (endStream) events.push(`end ${stream.id} ${stream.user.data.length}`);
        if (this.autoConsume) stream.consume(end - start);
        this.on.data?.(stream, bytes, start, end, endStream);
      },
      writable: (stream) => {
        events.push(`writable ${stream.id}`);
        this.on.writable?.(stream);
      },
      reset: (stream, code, byPeer) => {
        events.push(`reset ${stream.id} ${code}${byPeer ? " by peer" : ""}`);
        this.on.reset?.(stream, code, byPeer);
      },
      closed: (stream) => {
        events.push(`closed ${stream.id}`);
        this.on.closed?.(stream);
      },
      goaway: (last, code, debug) => {
        events.push(`goaway ${last} ${code} ${debug}`.trim());
      },
      settings: () => {
        events.push("settings");
        this.on.settings?.();
      },
      pong: () => events.push("pong"),
      drained: () => events.push("drained"),
      failed: (code) => events.push(`failed ${code}`),
    };
  }

  open(fields: Fields, endStream = false): Http2Stream<Seen> {
    const stream = this.connection.openStream(fields, endStream, { data: "" });
    if (stream === undefined) throw new Error("cannot open a stream");
    this.streams.set(stream.id, stream);
    return stream;
  }

  stream(id: number): Http2Stream<Seen> {
    const stream = this.streams.get(id);
    if (stream === undefined) throw new Error(`stream ${id} was never seen`);
    return stream;
  }

  receive(bytes: Uint8Array, nowMs = 0): void {
    this.connection.receive(bytes, 0, bytes.length, nowMs);
  }

  /** Takes all queued output. */
  take(): Uint8Array {
    const { output } = this.connection;
    const bytes = output.bytes.slice(output.start, output.end);
    this.connection.sent(bytes.length);
    return bytes;
  }

  frames(): Frame[] {
    return parseFrames(this.take());
  }

  /** Events since the last call, without the `settings` of the opening. */
  log(): string[] {
    return this.events.splice(0).filter((event) => event !== "settings");
  }
}

function show(fields: Fields): string {
  const shown: string[] = [];
  for (let i = 0; i < fields.length; i += 2) shown.push(`${fields[i]}=${fields[i + 1]}`);
  return shown.join(",");
}

/** A server that has seen the client's opening, its own output taken away. */
export function openServer(changes: Partial<Http2Options> = {}, peerSettings: Uint8Array = new Uint8Array(0)): Peer {
  const server = new Peer(options("server", changes));
  server.receive(concat(PREFACE, frame(FrameType.SETTINGS, 0, 0, peerSettings), SETTINGS_ACK));
  server.take();
  server.log();
  return server;
}

/** A client that has seen the server's opening, its own output taken away. */
export function openClient(changes: Partial<Http2Options> = {}, peerSettings: Uint8Array = new Uint8Array(0)): Peer {
  const client = new Peer(options("client", changes));
  client.receive(concat(frame(FrameType.SETTINGS, 0, 0, peerSettings), SETTINGS_ACK));
  client.take();
  client.log();
  return client;
}

/** Carries bytes both ways until both are silent. */
export function exchange(a: Peer, b: Peer, nowMs = 0): void {
  for (let quiet = 0; quiet < 2;) {
    const fromA = a.take();
    const fromB = b.take();
    quiet = fromA.length + fromB.length === 0 ? quiet + 1 : 0;
    b.receive(fromA, nowMs);
    a.receive(fromB, nowMs);
  }
}

/** A client and a server that know each other's settings. */
export function pair(changes: Partial<Http2Options> = {}): { client: Peer; server: Peer } {
  const client = new Peer(options("client", { bufferPool: new CountingPool(), ...changes }));
  const server = new Peer(options("server", { bufferPool: new CountingPool(), ...changes }));
  exchange(client, server);
  client.log();
  server.log();
  return { client, server };
}

export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  readonly payload: Uint8Array;
}

export function frame(type: number, flags: number, streamId: number, payload: Uint8Array | number[] = []): Uint8Array {
  const { length } = payload;
  return new Uint8Array([length >> 16, length >> 8, length, type, flags, ...u32(streamId), ...payload]);
}

/** Splits bytes into frames; throws when they are not whole. */
export function parseFrames(bytes: Uint8Array): Frame[] {
  const frames: Frame[] = [];
  let pos = latin1(bytes.subarray(0, PREFACE.length)) === latin1(PREFACE) ? PREFACE.length : 0;
  while (pos < bytes.length) {
    const end = pos + 9 + (bytes[pos] << 16 | bytes[pos + 1] << 8 | bytes[pos + 2]);
    if (end > bytes.length) throw new Error("output ends inside a frame");
    const view = new DataView(bytes.buffer, bytes.byteOffset + pos, 9);
    frames.push({
      type: bytes[pos + 3],
      flags: bytes[pos + 4],
      streamId: view.getUint32(5),
      payload: bytes.slice(pos + 9, end),
    });
    pos = end;
  }
  return frames;
}

/** A frame as one short line, e.g. "RST_STREAM 1 code 8". */
export function describe(shown: Frame): string {
  const name = Object.entries(FrameType).find(([, type]) => type === shown.type)?.[0] ?? `type ${shown.type}`;
  const view = new DataView(shown.payload.buffer);
  switch (shown.type) {
    case FrameType.RST_STREAM:
      return `RST_STREAM ${shown.streamId} code ${view.getUint32(0)}`;
    case FrameType.GOAWAY:
      return `GOAWAY last ${view.getUint32(0)} code ${view.getUint32(4)}`;
    case FrameType.WINDOW_UPDATE:
      return `WINDOW_UPDATE ${shown.streamId} by ${view.getUint32(0)}`;
    case FrameType.DATA:
      return `DATA ${shown.streamId} ${shown.payload.length}${(shown.flags & Flag.END_STREAM) !== 0 ? " end" : ""}`;
    case FrameType.SETTINGS:
    case FrameType.PING:
      return `${name}${(shown.flags & Flag.ACK) !== 0 ? " ack" : ""}`;
    default:
      return `${name} ${shown.streamId}${(shown.flags & Flag.END_STREAM) !== 0 ? " end" : ""}`;
  }
}

export function u32(value: number): number[] {
  return [value >>> 24, value >>> 16 & 0xff, value >>> 8 & 0xff, value & 0xff];
}

export function setting(id: number, value: number): Uint8Array {
  return new Uint8Array([id >> 8, id, ...u32(value)]);
}

export function concat(...parts: Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}

export function ascii(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

export function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("latin1");
}

/** A header block without state: nothing enters the peer's table that a later block would need. */
export function block(...fields: string[]): Uint8Array {
  const encoder = new HpackEncoder(0);
  const out = new Uint8Array(encoder.bound(fields));
  // A table of 0 bytes must be announced; these blocks just never index.
  return out.subarray(0, encoder.encode(fields, out, 0));
}

export function decodeBlock(decoder: HpackDecoder, bytes: Uint8Array): string[] {
  const fields: string[] = [];
  const good = decoder.decode(bytes, 0, bytes.length, { field: (name, value) => void fields.push(name, value) });
  if (!good) throw new Error(decoder.error);
  return fields;
}

export function headers(streamId: number, fields: string[], flags: number = Flag.END_HEADERS): Uint8Array {
  return frame(FrameType.HEADERS, flags, streamId, block(...fields));
}

export const SETTINGS_ACK: Uint8Array = frame(FrameType.SETTINGS, Flag.ACK, 0);
export const END: number = Flag.END_STREAM | Flag.END_HEADERS;
export const GET: string[] = [":method", "GET", ":scheme", "https", ":authority", "a", ":path", "/"];
export const POST: string[] = [":method", "POST", ":scheme", "https", ":authority", "a", ":path", "/"];
export const CONNECT: string[] = [":method", "CONNECT", ":authority", "10.0.0.1:80"];
export const OK: string[] = [":status", "200"];
