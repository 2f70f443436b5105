/**
 * The HTTP server of an application: Deno's own, HTTP/1.1, HTTP/2 and WebSocket on one port. It answers with what it got (`Echo`), unless the
 * query wants something else:
 *
 *   status=503   that status        delay=500   after so many milliseconds      bytes=1000   a body of the pattern
 *   header=a:b   a header, repeatable          fail=2&key=x   503 to the first two requests with this key
 *   pieces=5&every=100   a body in pieces of one line
 */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { type Echo, pattern } from "./protocol.ts";

const PIECE_BYTES = 64 * 1024;
const failures = new Map<string, number>();

export function startHttpServer(
  name: string,
  port: number,
  tls?: { readonly certificate: string; readonly key: string },
): void {
  const options = { hostname: "::", port, onListen() {} };
  const handle = (request: Request, { remoteAddr, completed }: Deno.ServeHandlerInfo<Deno.NetAddr>) => {
    // A client that goes away is the client's affair.
    completed.catch(() => {});
    return answer(name, request, `${remoteAddr.hostname.replace("::ffff:", "")}:${remoteAddr.port}`);
  };
  if (tls === undefined) Deno.serve(options, handle);
  else {
    const [cert, key] = [readFileSync(tls.certificate, "utf8"), readFileSync(tls.key, "utf8")];
    Deno.serve({ ...options, cert, key }, handle);
  }
}

async function answer(app: string, request: Request, peer: string): Promise<Response> {
  const url = new URL(request.url);
  const { searchParams: query } = url;
  if (request.headers.get("upgrade") === "websocket") return acceptWebSocket(app, request);
  const headers = new Headers({ "content-type": "application/json", "x-app": app });
  for (const pair of query.getAll("header")) {
    headers.append(pair.slice(0, pair.indexOf(":")), pair.slice(pair.indexOf(":") + 1));
  }
  const hash = createHash("sha256");
  let bytes = 0;
  for await (const chunk of request.body ?? []) {
    bytes += chunk.length;
    hash.update(chunk);
  }
  const delayMs = Number(query.get("delay"));
  if (delayMs > 0) await new Promise((resolve) => setTimeout(resolve, delayMs));
  if (query.has("pieces")) {
    return new Response(pieces(Number(query.get("pieces")), Number(query.get("every"))), { headers });
  }
  if (query.has("bytes")) return new Response(repeated(Number(query.get("bytes"))), { headers });
  const told: Echo = {
    app,
    protocol: request.headers.has("host") ? "HTTP/1.1" : "HTTP/2",
    method: request.method,
    path: url.pathname + url.search,
    headers: Object.fromEntries(request.headers),
    peer,
    bytes,
    sha256: hash.digest("hex"),
  };
  return new Response(JSON.stringify(told), { status: statusFor(query), headers });
}

function statusFor(query: URLSearchParams): number {
  if (!query.has("fail")) return Number(query.get("status") ?? 200);
  const key = query.get("key") ?? "";
  const before = failures.get(key) ?? 0;
  failures.set(key, before + 1);
  return before < Number(query.get("fail")) ? Number(query.get("status") ?? 503) : 200;
}

function acceptWebSocket(app: string, request: Request): Response {
  const { socket, response } = Deno.upgradeWebSocket(request);
  socket.onmessage = ({ data }) => socket.send(`${app}: ${data}`);
  return response;
}

function pieces(count: number, everyMs: number): ReadableStream<Uint8Array> {
  let sent = 0;
  return new ReadableStream({
    async pull(controller) {
      if (sent === count) return controller.close();
      if (sent > 0) await new Promise((resolve) => setTimeout(resolve, everyMs));
      controller.enqueue(new TextEncoder().encode(`piece ${sent++}\n`));
    },
  });
}

/** The pattern, in pieces, so that a large one is made as it is read. */
function repeated(length: number): ReadableStream<Uint8Array> {
  const all = pattern(length);
  let at = 0;
  return new ReadableStream({
    pull(controller) {
      if (at >= length) return controller.close();
      controller.enqueue(all.slice(at, at += PIECE_BYTES));
    },
  });
}
