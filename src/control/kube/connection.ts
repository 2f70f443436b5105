/**
 * An HTTP/1.1 connection to the API server, on `node:tls`: one exchange at a time, kept for the next where both sides want that.
 *
 * Not `node:https`: Deno's sends a request again on a connection of its own when one that was kept is destroyed before the answer, and nobody
 * can end that one. And the plugin would pay for loading it.
 */
import { Buffer } from "node:buffer";
import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { Http1Decoder } from "../../protocol/http1/decoder.ts";
import { requestHead } from "../../protocol/http1/encoder.ts";
import type { Fields, Head, Http1Limits, Http1Sink } from "../../protocol/http1/types.ts";

export interface Target {
  readonly url: URL;
  /** PEM; undefined: the system's roots. */
  readonly ca: string | undefined;
  readonly skipTlsVerify: boolean;
}

/** What becomes of a request: any number of bodies behind one head, then `end` or `failed`, once. */
export interface ResponseSink {
  head(status: number, fields: Fields): void;
  body(chunk: Uint8Array): void;
  end(): void;
  /** Its `code` says of what kind; ECONNRESET: the connection was cut. */
  failed(error: Error): void;
}

const LIMITS: Http1Limits = { maxHeadBytes: 64 * 1024, maxFields: 200, acceptHttp10: true, keepSpelling: false };
const KEEP_ALIVE_MS = 30_000;

export class Connection {
  readonly #socket: Socket;
  readonly #decoder = new Http1Decoder("response", LIMITS);
  readonly #changed: (connection: Connection) => void;
  #open = false;
  #closed = false;
  #sink: ResponseSink | undefined;
  /** The request that waits for the handshake. */
  #unsent: Uint8Array[] = [];
  #status = 0;
  #mayStay = true;

  /** `changed`: it is free for the next exchange, or closed. */
  constructor(target: Target, changed: (connection: Connection) => void) {
    this.#changed = changed;
    const isPlain = target.url.protocol === "http:";
    this.#socket = isPlain ? openTcp(target) : openTls(target);
    this.#socket.on(isPlain ? "connect" : "secureConnect", () => {
      this.#open = true;
      for (const bytes of this.#unsent.splice(0)) this.#socket.write(bytes);
    });
    this.#socket.on("data", (bytes: Uint8Array) => this.#read(bytes));
    this.#socket.on("end", () => this.#ended());
    this.#socket.on("error", (error: Error) => this.#fail(error));
    this.#socket.on("close", () => this.#fail(cut()));
    this.#socket.setNoDelay(true);
    this.#socket.setKeepAlive(true, KEEP_ALIVE_MS);
  }

  /** It waits for a request. */
  get isFree(): boolean {
    return !this.#closed && this.#sink === undefined;
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  /** Only when it is free. `fields` without those of the body. */
  send(method: string, path: string, fields: Fields, body: Uint8Array | undefined, sink: ResponseSink): void {
    this.#sink = sink;
    this.#mayStay = true;
    this.#decoder.expect(method);
    const all = body === undefined ? fields : [...fields, "content-length", String(body.length)];
    // The head alone is Latin-1; both go in one write.
    const parts: Uint8Array[] = [Buffer.from(requestHead(method, path, all), "latin1")];
    if (body !== undefined) parts.push(body);
    const bytes = Buffer.concat(parts);
    if (this.#open) this.#socket.write(bytes);
    else this.#unsent.push(bytes);
  }

  /** Nothing is told from now on. */
  close(): void {
    this.#sink = undefined;
    this.#shut();
  }

  #read(bytes: Uint8Array): void {
    // Nobody asked for it.
    if (this.#sink === undefined) return this.#shut();
    let at = 0;
    while (at < bytes.length && !this.#closed) {
      at = this.#decoder.read(bytes, at, bytes.length, this.#events);
      if (this.#decoder.fault !== undefined) return this.#fail(notHttp(this.#decoder.fault.detail));
      if (!this.#decoder.complete) continue;
      this.#decoder.next();
      // Before the answer itself there may be others, such as 103.
      if (this.#status < 200) continue;
      this.#finish(at === bytes.length);
      return;
    }
  }

  readonly #events: Http1Sink = {
    head: ({ line, fields, close }: Head) => {
      this.#status = line.kind === "response" ? line.status : 0;
      if (close) this.#mayStay = false;
      if (this.#status >= 200) this.#sink?.head(this.#status, fields);
    },
    body: (bytes, start, end) => this.#sink?.body(bytes.subarray(start, end)),
    complete: () => {},
  };

  #finish(isClean: boolean): void {
    const sink = this.#sink;
    this.#sink = undefined;
    if (!isClean || !this.#mayStay) this.#shut();
    sink?.end();
    if (!this.#closed) this.#changed(this);
  }

  #ended(): void {
    if (this.#sink !== undefined && this.#decoder.readEof(this.#events) === undefined && this.#decoder.complete) {
      return this.#finish(false);
    }
    this.#fail(cut());
  }

  #fail(error: Error): void {
    const sink = this.#sink;
    this.#sink = undefined;
    this.#shut();
    sink?.failed(error);
  }

  #shut(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#decoder.close();
    this.#socket.destroy();
    this.#changed(this);
  }
}

function openTcp({ url }: Target): Socket {
  return connectTcp({ host: hostOf(url), port: portOf(url, 80) });
}

/** Nothing is written before the server's name and certificate are verified. */
function openTls({ url, ca, skipTlsVerify }: Target): Socket {
  return connectTls({
    host: hostOf(url),
    port: portOf(url, 443),
    ALPNProtocols: ["http/1.1"],
    rejectUnauthorized: !skipTlsVerify,
    ...(ca === undefined ? {} : { ca }),
  });
}

function hostOf(url: URL): string {
  return url.hostname.replace(/^\[|\]$/g, "");
}

function portOf(url: URL, standard: number): number {
  return url.port === "" ? standard : Number(url.port);
}

function cut(): Error {
  return Object.assign(new Error("the connection was closed"), { code: "ECONNRESET" });
}

function notHttp(detail: string): Error {
  return Object.assign(new Error(`what came is no HTTP/1.1 (${detail})`), { code: "EPROTO" });
}
