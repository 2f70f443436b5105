/**
 * Serves a fetch handler (a Hono app) over plaintext HTTP/1.1 with node:http, which both runtimes
 * have. Bounded as Istio's ztunnel bounds its own: 2 s for the headers, 8 KiB of them.
 */
import { createServer } from "node:http";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";

/** From the first byte of a connection, or of a further request on it. */
const HEADERS_TIMEOUT_MS = 2000;
const MAX_HEADER_BYTES = 8 * 1024;
/** How often the runtime looks for connections over the timeout. */
const TIMEOUT_CHECK_MS = 500;
/** No request here has a body that is read. */
const REQUEST_TIMEOUT_MS = 10_000;
/** Longer than the usual 60 s between two scrapes, so that a scraper keeps its connection. */
const KEEP_ALIVE_MS = 75_000;
/** Far above what kubelet, Prometheus and istioctl open together. */
const MAX_CONNECTIONS = 512;

/** What is served: `Hono` has this shape. */
export interface App {
  fetch(request: Request, environment: AppEnvironment): Response | Promise<Response>;
}

/** `c.env` of a Hono app. */
export interface AppEnvironment {
  /** Address of the client; "" unknown. */
  readonly peer: string;
}

/** Of the own machine or pod, in any of the forms in which a socket tells it. */
export function isLoopback(peer: string): boolean {
  return peer === "::1" || /^(?:::ffff:)?127\./.test(peer);
}

export interface HttpServer {
  readonly port: number;
  /**
   * Takes no more connections and resolves when open requests are answered, or after `drainMs`,
   * when what is left is cut.
   */
  close(drainMs: number): Promise<void>;
}

/**
 * @param host an address, `::` for every one of both families.
 * @param full a connection was closed because there are too many.
 * @throws Error with `code` when the address cannot be bound.
 */
export function listen(host: string, port: number, app: App, full: () => void = () => {}): Promise<HttpServer> {
  const sockets = new Set<Socket>();
  const server = createServer({
    maxHeaderSize: MAX_HEADER_BYTES,
    headersTimeout: HEADERS_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_MS,
    connectionsCheckingInterval: TIMEOUT_CHECK_MS,
  }, (request, response) => {
    request.resume();
    answer(app, request, response, () => closing);
  });
  let closing = false;
  server.on("connection", (socket: Socket) => {
    if (sockets.size >= MAX_CONNECTIONS) {
      socket.destroy();
      return full();
    }
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    // Resets are the client's affair.
    socket.on("error", () => socket.destroy());
  });
  server.on("clientError", (error: Error & { code?: string }, socket: Socket) => refuse(error, socket));

  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, () => {
      server.off("error", reject);
      server.on("error", () => {});
      resolve({
        port: (server.address() as AddressInfo).port,
        close(drainMs) {
          closing = true;
          return new Promise((done) => {
            const cut = setTimeout(() => {
              for (const socket of sockets) socket.destroy();
            }, drainMs);
            server.close(() => {
              clearTimeout(cut);
              done();
            });
            server.closeIdleConnections();
          });
        },
      });
    });
  });
}

/** A request that is not HTTP, too long or too slow gets its status and the connection's end. */
function refuse(error: Error & { code?: string }, socket: Socket): void {
  if (socket.writable) {
    const status = error.code === "HPE_HEADER_OVERFLOW"
      ? "431 Request Header Fields Too Large"
      : error.code === "ERR_HTTP_REQUEST_TIMEOUT"
      ? "408 Request Timeout"
      : "400 Bad Request";
    socket.write(`HTTP/1.1 ${status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`);
  }
  socket.destroySoon();
}

async function answer(
  app: App,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  closing: () => boolean,
): Promise<void> {
  let response: Response;
  try {
    response = await app.fetch(toRequest(incoming), { peer: incoming.socket.remoteAddress ?? "" });
  } catch (error) {
    response = new Response(`${error instanceof Error ? error.message : String(error)}\n`, { status: 500 });
  }
  const headers: Record<string, string> = {};
  response.headers.forEach((value, name) => headers[name] = value);
  if (closing()) headers["connection"] = "close";
  try {
    await send(response, headers, incoming.method === "HEAD", outgoing);
  } catch (error) {
    // Once the status is sent, only a connection that breaks off says that this is not all.
    if (outgoing.headersSent) return void outgoing.destroy();
    const text = `${error instanceof Error ? error.message : String(error)}\n`;
    outgoing.writeHead(500, { "content-type": "text/plain; charset=utf-8" });
    outgoing.end(text);
  }
}

/** A body of one piece has its length; a longer one is sent as fast as it is read. */
async function send(
  response: Response,
  headers: Record<string, string>,
  headOnly: boolean,
  outgoing: ServerResponse,
): Promise<void> {
  const reader = response.body?.getReader();
  const read = async () => (await reader?.read())?.value;
  const first = await read();
  let piece = first === undefined ? undefined : await read();
  if (piece === undefined) headers["content-length"] = String(first?.length ?? 0);
  outgoing.writeHead(response.status, headers);
  if (headOnly) {
    await reader?.cancel();
    outgoing.end();
    return;
  }
  if (first !== undefined) outgoing.write(first);
  for (; piece !== undefined; piece = await read()) {
    if (!outgoing.write(piece)) await drained(outgoing);
    if (outgoing.destroyed) {
      await reader?.cancel();
      return;
    }
  }
  outgoing.end();
}

/** How long a client may take none of an answer before it is given up; the answer holds memory meanwhile. */
const STALLED_READER_MS = 30_000;

function drained(outgoing: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const stalled = setTimeout(() => outgoing.destroy(), STALLED_READER_MS);
    const done = () => {
      clearTimeout(stalled);
      outgoing.off("drain", done);
      outgoing.off("close", done);
      resolve();
    };
    outgoing.on("drain", done);
    outgoing.on("close", done);
  });
}

/** The host does not matter to the apps; a request line may carry a whole URL or odd text. */
function toRequest(incoming: IncomingMessage): Request {
  const target = incoming.url ?? "/";
  const path = target.startsWith("/") ? target : "/";
  const headers = new Headers();
  for (const [name, value] of Object.entries(incoming.headers)) {
    if (value !== undefined) headers.set(name, Array.isArray(value) ? value.join(", ") : value);
  }
  const method = incoming.method ?? "GET";
  return new Request(`http://localhost${path}`, { method, headers });
}
