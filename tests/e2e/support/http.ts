/** The smallest HTTP client that works over a test's own sockets. One request a connection. */
import type { Peer } from "./peer.ts";

export interface HttpResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  /** The body as it came, when its length was told. */
  readonly bytes: Uint8Array;
}

export interface HttpRequest {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** Sends one request, reads to the end of the connection and closes it. */
export async function httpOver(peer: Peer, path: string, request: HttpRequest = {}): Promise<HttpResponse> {
  const headers = { Host: "test", Connection: "close", ...request.headers };
  const head = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`).join("");
  peer.write(`${request.method ?? "GET"} ${path} HTTP/1.1\r\n${head}\r\n`);
  const bytes = await peer.readBytesToEnd();
  peer.close();
  return parseResponse(bytes);
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const HEAD_END = encoder.encode("\r\n\r\n");
const LINE_END = encoder.encode("\r\n");

function parseResponse(bytes: Uint8Array): HttpResponse {
  const split = find(bytes, HEAD_END, 0);
  const [status = "", ...lines] = decoder.decode(bytes.subarray(0, split)).split("\r\n");
  const headers: Record<string, string> = {};
  for (const line of lines) headers[line.slice(0, line.indexOf(":")).toLowerCase()] = line.slice(line.indexOf(":") + 2);
  const raw = bytes.subarray(split + HEAD_END.length);
  return {
    status: Number(status.split(" ")[1]),
    headers,
    bytes: raw,
    body: headers["transfer-encoding"] === "chunked" ? dechunk(raw) : decoder.decode(raw),
  };
}

function dechunk(raw: Uint8Array): string {
  // A character may be cut by the end of a chunk.
  const streaming = new TextDecoder();
  let body = "";
  for (let at = 0;;) {
    const end = find(raw, LINE_END, at);
    const size = parseInt(decoder.decode(raw.subarray(at, end)), 16);
    if (!(size > 0)) return body + streaming.decode();
    const start = end + LINE_END.length;
    body += streaming.decode(raw.subarray(start, start + size), { stream: true });
    at = start + size + LINE_END.length;
  }
}

/** Where `wanted` begins; the end of `bytes` when it is not there. */
function find(bytes: Uint8Array, wanted: Uint8Array, from: number): number {
  const at = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).indexOf(wanted, from);
  return at < 0 ? bytes.length : at;
}
