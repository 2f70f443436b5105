/** The smallest HTTP client that works over a test's own sockets. One request a connection. */
import type { Peer } from "./peer.ts";

export interface HttpResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
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
  const { text } = await peer.readToEnd();
  peer.close();
  return parseResponse(text);
}

function parseResponse(text: string): HttpResponse {
  const split = text.indexOf("\r\n\r\n");
  const [status = "", ...lines] = text.slice(0, split).split("\r\n");
  const headers: Record<string, string> = {};
  for (const line of lines) headers[line.slice(0, line.indexOf(":")).toLowerCase()] = line.slice(line.indexOf(":") + 2);
  const raw = text.slice(split + 4);
  return {
    status: Number(status.split(" ")[1]),
    headers,
    body: headers["transfer-encoding"] === "chunked" ? dechunk(raw) : raw,
  };
}

/** Counts characters for bytes, which is right for the ASCII that is served here. */
function dechunk(raw: string): string {
  let body = "";
  for (let at = 0;;) {
    const end = raw.indexOf("\r\n", at);
    const size = parseInt(raw.slice(at, end), 16);
    if (!(size > 0)) return body;
    body += raw.slice(end + 2, end + 2 + size);
    at = end + 2 + size + 2;
  }
}
