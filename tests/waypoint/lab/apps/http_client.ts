/** The HTTP client of an application: node:http and node:http2 with a connection for each call. */
import { createHash } from "node:crypto";
import { type IncomingMessage, request as requestPlain } from "node:http";
import { request as requestTls } from "node:https";
import { connect } from "node:http2";
import { type HttpAnswer, type HttpOrder, pattern } from "./protocol.ts";

const DEFAULT_TIMEOUT_MS = 20_000;
const SHOWN_BYTES = 64 * 1024;
const WRITE_BYTES = 256 * 1024;

export function callHttp(order: HttpOrder): Promise<HttpAnswer> {
  return order.protocol === "http2" ? callHttp2(order) : callHttp1(order);
}

/** Collects an answer as it comes. */
class Collector {
  readonly #startedMs = performance.now();
  readonly #hash = createHash("sha256");
  readonly #shown: Uint8Array[] = [];
  #bytes = 0;
  continued = false;

  take(chunk: Uint8Array): void {
    if (this.#bytes < SHOWN_BYTES) this.#shown.push(chunk);
    this.#bytes += chunk.length;
    this.#hash.update(chunk);
  }

  answer(status: number, headers: Readonly<Record<string, string>>, trailers: Readonly<Record<string, string>>) {
    return {
      status,
      headers,
      trailers,
      body: Buffer.concat(this.#shown).subarray(0, SHOWN_BYTES).toString(),
      bytes: this.#bytes,
      sha256: this.#hash.digest("hex"),
      continued: this.continued,
      ms: performance.now() - this.#startedMs,
    };
  }
}

function bodyOf({ body }: HttpOrder): Uint8Array | undefined {
  return body === undefined ? undefined : typeof body === "number" ? pattern(body) : Buffer.from(body);
}

function callHttp1(order: HttpOrder): Promise<HttpAnswer> {
  const { url, method, headers = {}, awaitContinue, timeoutMs = DEFAULT_TIMEOUT_MS } = order;
  const body = bodyOf(order);
  const collector = new Collector();
  return new Promise((resolve, reject) => {
    const length = body === undefined || "transfer-encoding" in headers ? {} : { "content-length": body.length };
    const expect = awaitContinue === true ? { expect: "100-continue" } : {};
    const { servername } = order;
    const request = url.startsWith("https:") ? requestTls : requestPlain;
    const sent = request(url, {
      ...(servername === undefined ? {} : { servername, rejectUnauthorized: false }),
      method: method ?? (body === undefined ? "GET" : "POST"),
      ...(order.rawPath === undefined ? {} : { path: order.rawPath }),
      headers: { ...length, ...expect, ...headers } as Record<string, string>,
      agent: false,
    });
    const timer = setTimeout(() => sent.destroy(new Error(`no answer in ${timeoutMs} ms`)), timeoutMs);
    const write = () => {
      if (body !== undefined) {
        for (let at = 0; at < body.length; at += WRITE_BYTES) sent.write(body.subarray(at, at + WRITE_BYTES));
      }
      sent.end();
    };
    sent.on("continue", () => {
      collector.continued = true;
      write();
    });
    sent.on("error", (error) => {
      clearTimeout(timer);
      reject(error);
    });
    sent.on("response", (response: IncomingMessage) => {
      response.on("data", (chunk) => collector.take(chunk));
      response.on("error", reject);
      response.on("aborted", () => reject(new Error("the answer was cut off")));
      response.on("end", () => {
        clearTimeout(timer);
        resolve(collector.answer(response.statusCode ?? 0, flat(response.rawHeaders), flat(response.rawTrailers)));
      });
    });
    if (awaitContinue === true) sent.flushHeaders();
    else write();
  });
}

function callHttp2(order: HttpOrder): Promise<HttpAnswer> {
  const { url, method, headers = {}, timeoutMs = DEFAULT_TIMEOUT_MS } = order;
  const { origin, pathname, search, host } = new URL(url);
  const body = bodyOf(order);
  const collector = new Collector();
  return new Promise((resolve, reject) => {
    const session = connect(origin);
    const finish = (done: () => void) => {
      clearTimeout(timer);
      session.close();
      done();
    };
    const timer = setTimeout(() => {
      session.destroy();
      reject(new Error(`no answer in ${timeoutMs} ms`));
    }, timeoutMs);
    session.on("error", (error) => finish(() => reject(error)));
    const { host: authority = host, ...rest } = headers;
    const stream = session.request({
      ":method": method ?? (body === undefined ? "GET" : "POST"),
      ":path": pathname + search,
      ":authority": authority as string,
      ...rest,
    });
    let status = 0;
    let fields: Record<string, string> = {};
    let trailers: Record<string, string> = {};
    stream.on("response", (list) => {
      status = Number(list[":status"]);
      fields = plain(list);
    });
    stream.on("trailers", (list) => trailers = plain(list));
    stream.on("data", (chunk: Uint8Array) => collector.take(chunk));
    stream.on("error", (error) => finish(() => reject(error)));
    stream.on("end", () => finish(() => resolve(collector.answer(status, fields, trailers))));
    if (body !== undefined) stream.write(body);
    stream.end();
  });
}

function flat(raw: readonly string[]): Record<string, string> {
  const record: Record<string, string> = {};
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i]!.toLowerCase();
    record[name] = name in record ? `${record[name]}, ${raw[i + 1]}` : raw[i + 1]!;
  }
  return record;
}

function plain(list: object): Record<string, string> {
  const entries = Object.entries(list).filter(([name]) => !name.startsWith(":"));
  return Object.fromEntries(
    entries.map(([name, value]) => [name, Array.isArray(value) ? value.join(", ") : String(value)]),
  );
}
