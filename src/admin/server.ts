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
  fetch(request: Request): Response | Promise<Response>;
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
 * @throws Error with `code` when the address cannot be bound.
 */
export function listen(host: string, port: number, app: App): Promise<HttpServer> {
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
  server.maxConnections = MAX_CONNECTIONS;
  server.on("connection", (socket: Socket) => {
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
    response = await app.fetch(toRequest(incoming));
  } catch (error) {
    response = new Response(`${error instanceof Error ? error.message : String(error)}\n`, { status: 500 });
  }
  const body = new Uint8Array(await response.arrayBuffer());
  const headers: Record<string, string> = {};
  response.headers.forEach((value, name) => headers[name] = value);
  headers["content-length"] = String(body.length);
  if (closing()) headers["connection"] = "close";
  outgoing.writeHead(response.status, headers);
  outgoing.end(incoming.method === "HEAD" ? undefined : body);
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
