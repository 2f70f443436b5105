/**
 * A plaintext HTTP/2 server (prior knowledge) made of the project's codec on a node:net socket, for h2spec and
 * other real peers. Answers every request with 200 and a small body. Run directly, it prints its port and serves
 * until its standard input ends.
 */
import { createServer, type Server, type Socket } from "node:net";
import process from "node:process";
import { type Fields, Http2Connection, type Http2Options, type Http2Stream } from "../../src/protocol/http2/mod.ts";

const BODY = new TextEncoder().encode("hello from ambit\n");

export const SERVER_OPTIONS: Http2Options = {
  role: "server",
  initialWindowBytes: 65_535,
  connectionWindowBytes: 1 << 20,
  maxFrameBytes: 16_384,
  maxHeaderListBytes: 65_536,
  maxConcurrentStreams: 100,
  maxOutputBytes: 256 * 1024,
  pingIntervalMs: 0,
  pingTimeoutMs: 20_000,
  settingsTimeoutMs: 0,
  bufferPool: { take: (minBytes) => new Uint8Array(minBytes), give: () => {} },
};

/** What is left to send of a response; `sent` counts. */
export interface Reply {
  sent: number;
  fields: Fields;
}

/** Sends what the peer's windows allow of the body; the rest goes out from `writable`. */
function sendBody(connection: Http2Connection<Reply>, stream: Http2Stream<Reply>): void {
  stream.user.sent += connection.sendData(stream, BODY, stream.user.sent, BODY.length, true);
}

function answer(connection: Http2Connection<Reply>, stream: Http2Stream<Reply>): void {
  connection.respond(stream, [":status", "200", "content-type", "text/plain"], false);
  sendBody(connection, stream);
}

/** Carries bytes between a socket and a connection; `flush` is for calls made outside the connection's events. */
export interface Drive {
  readonly flush: () => void;
  /** Flushes, then ends the socket: for `failed` and `drained`. */
  readonly finish: () => void;
}

export function drive<U>(socket: Socket, connection: () => Http2Connection<U>): Drive {
  let ending = false;
  const flush = (): void => {
    const { output } = connection();
    while (output.end > output.start) {
      const bytes = output.bytes.slice(output.start, output.end);
      socket.write(bytes);
      connection().sent(bytes.length);
    }
    if (ending) socket.end();
  };
  socket.setNoDelay(true);
  socket.on("data", (chunk: Uint8Array) => {
    connection().receive(chunk, 0, chunk.length, performance.now());
    flush();
  });
  socket.on("end", () => {
    connection().receivedEof();
    socket.end();
  });
  socket.on("error", (error) => {
    connection().receivedEof(error.message);
    socket.destroy();
  });
  return { flush, finish: () => void (ending = true) };
}

/** Serves one accepted socket. */
export function serve(socket: Socket, options: Http2Options = SERVER_OPTIONS): void {
  const { flush, finish } = drive(socket, () => connection);
  const connection: Http2Connection<Reply> = new Http2Connection<Reply>(options, {
    headers(stream, fields, endStream) {
      stream.user = { sent: 0, fields };
      if (endStream) answer(connection, stream);
    },
    trailers: (stream) => answer(connection, stream),
    data(stream, _bytes, start, end, endStream) {
      stream.consume(end - start);
      if (endStream) answer(connection, stream);
    },
    writable: (stream) => sendBody(connection, stream),
    reset: () => {},
    closed: () => {},
    goaway: () => {},
    settings: () => {},
    drained: finish,
    failed: finish,
  }, performance.now());
  flush();
}

/** Listens on a free loopback port and resolves with it. */
export function listen(options: Http2Options = SERVER_OPTIONS): Promise<{ server: Server; port: number }> {
  const server = createServer((socket) => serve(socket, options));
  return new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      if (address === null || typeof address === "string") throw new Error("no TCP address");
      resolve({ server, port: address.port });
    });
  });
}

if (import.meta.main) {
  const { port } = await listen();
  // Whoever started it holds the other end: it never outlives them.
  process.stdin.resume();
  process.stdin.on("end", () => process.exit(0));
  process.stdout.write(`${port}\n`);
}
