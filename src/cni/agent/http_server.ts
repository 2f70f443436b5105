/**
 * A small HTTP server for the agent's own interfaces, on a unix socket or a TCP port: whole bodies in, whole answers out, all of
 * it bounded. A caller that goes away aborts the handler's signal.
 */
import { chmodSync, mkdirSync, rmSync, statSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { dirname } from "node:path";

export interface Call {
  readonly method: string;
  /** Without the query. */
  readonly path: string;
  readonly query: URLSearchParams;
  readonly body: string;
  /** Aborts when nobody waits for the answer any more. */
  readonly signal: AbortSignal;
}

export interface Reply {
  readonly status: number;
  /** Default `text/plain`. */
  readonly contentType?: string;
  readonly body?: string;
}

export type Handler = (call: Call) => Reply | Promise<Reply>;

export interface ServerHandle {
  /** Of a TCP server. */
  readonly port: number;
  /** Takes no more; cuts what is not answered after `drainMs`. */
  close(drainMs: number): Promise<void>;
}

export interface ServeOptions {
  readonly handler: Handler;
  readonly maxBodyBytes?: number;
  /** From a request's first byte to its last. */
  readonly requestTimeoutMs?: number;
  /** A connection too many was closed. */
  readonly full?: () => void;
}

const MAX_BODY_BYTES = 1024 * 1024;
const MAX_HEADER_BYTES = 8 * 1024;
const REQUEST_TIMEOUT_MS = 5_000;
/** A node starts at most some hundred pods at once. */
const MAX_CONNECTIONS = 1024;

/**
 * Binds `path`: what an earlier process left there is removed, and the parent directory made (0750).
 * @throws Error that names the path.
 */
export async function serveUnix(path: string, mode: number, options: ServeOptions): Promise<ServerHandle> {
  mkdirSync(dirname(path), { recursive: true, mode: 0o750 });
  rmSync(path, { force: true });
  const handle = await start(options, (server) => server.listen(path), path);
  chmodSync(path, mode);
  const own = statSync(path).ino;
  return {
    port: 0,
    async close(drainMs) {
      await handle.close(drainMs);
      // A successor may listen there by now.
      if (statSync(path, { throwIfNoEntry: false })?.ino === own) rmSync(path, { force: true });
    },
  };
}

/** @param host an address; `::` is every one. @throws Error that names the address. */
export function serveTcp(host: string, port: number, options: ServeOptions): Promise<ServerHandle> {
  return start(options, (server) => server.listen(port, host), `${host.includes(":") ? `[${host}]` : host}:${port}`);
}

function start(options: ServeOptions, listen: (server: Server) => void, place: string): Promise<ServerHandle> {
  const sockets = new Set<Socket>();
  let closing = false;
  const server = createServer({
    maxHeaderSize: MAX_HEADER_BYTES,
    requestTimeout: options.requestTimeoutMs ?? REQUEST_TIMEOUT_MS,
    headersTimeout: options.requestTimeoutMs ?? REQUEST_TIMEOUT_MS,
  }, (request, response) => {
    void answer(options, request, response, () => closing);
  });
  server.on("connection", (socket: Socket) => {
    if (sockets.size >= MAX_CONNECTIONS) {
      socket.destroy();
      return options.full?.();
    }
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => socket.destroy());
  });
  return new Promise((resolve, reject) => {
    server.once("error", (error) => reject(new Error(`cannot listen at ${place}: ${error.message}`, { cause: error })));
    server.once("listening", () => {
      server.removeAllListeners("error");
      server.on("error", () => {});
      const address = server.address();
      resolve({
        port: address !== null && typeof address === "object" ? (address as AddressInfo).port : 0,
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
    listen(server);
  });
}

async function answer(
  { handler, maxBodyBytes = MAX_BODY_BYTES }: ServeOptions,
  request: IncomingMessage,
  response: ServerResponse,
  closing: () => boolean,
): Promise<void> {
  const gone = new AbortController();
  response.on("close", () => {
    if (!response.writableFinished) gone.abort(new Error("the caller has gone away"));
  });
  response.on("error", () => {});
  let reply: Reply;
  try {
    const body = await readBody(request, maxBodyBytes);
    if (body === undefined) reply = { status: 413, body: `the body is longer than ${maxBodyBytes} bytes\n` };
    else {
      const target = request.url ?? "/";
      const at = target.indexOf("?");
      reply = await handler({
        method: request.method ?? "GET",
        path: at < 0 ? target : target.slice(0, at),
        query: new URLSearchParams(at < 0 ? "" : target.slice(at + 1)),
        body,
        signal: gone.signal,
      });
    }
  } catch (error) {
    reply = { status: 500, body: error instanceof Error ? error.message : String(error) };
  }
  if (response.destroyed) return;
  const bytes = new TextEncoder().encode(reply.body ?? "");
  response.writeHead(reply.status, {
    "content-type": reply.contentType ?? "text/plain; charset=utf-8",
    "content-length": String(bytes.length),
    ...(closing() || reply.status === 413 ? { connection: "close" } : {}),
  });
  response.end(request.method === "HEAD" ? undefined : bytes);
}

/** Undefined when it is too long. */
function readBody(request: IncomingMessage, maxBytes: number): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    const chunks: Uint8Array[] = [];
    let size = 0;
    request.on("data", (chunk: Uint8Array) => {
      size += chunk.length;
      if (size > maxBytes) {
        chunks.length = 0;
        resolve(undefined);
      } else chunks.push(chunk);
    });
    request.on("end", () => {
      const all = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
      let at = 0;
      for (const chunk of chunks) {
        all.set(chunk, at);
        at += chunk.length;
      }
      resolve(new TextDecoder().decode(all));
    });
    request.on("error", reject);
    request.on("aborted", () => reject(new Error("the request was cut off")));
  });
}

export function json(value: unknown): Reply {
  return { status: 200, contentType: "application/json", body: JSON.stringify(value, null, 2) + "\n" };
}
